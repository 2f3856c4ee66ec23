"""Forgetting a document: find it everywhere, put up its tombstone, clear the cache, and sign a receipt (ray-free).

Published versions are immutable: they keep the document until nothing refers to them and ``plinth gc`` removes them.
From the tombstone on no index serves it, no later dataset holds it, and every model that saw it is marked. The receipt
says all that, place by place, and is signed (Ed25519, RFC 8032) with a key of this installation, so that it can be
shown later; ``verify`` also looks whether the document came back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.home import Home, write_private
from cluster.core.records import Manifest
from cluster.core.storage import Store, check_name, utc_now
from data_jobs.corpus import packs
from data_jobs.governance.tombstones import Tombstone, Tombstones, Where, add_tombstone, read_tombstones, text_sha256
from data_jobs.lineage.graph import Found, Inventory, find_documents, indexes_with, left_out, of_kind

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RECEIPTS = ("forgotten", "receipts")
TAINTED = ("forgotten", "tainted")
KEYS = ("forgotten", "keys")
ALGORITHM = "Ed25519"


@dataclass(frozen=True)
class ForgetRequest:
    """What to forget: one document (of one source, or wherever it is) or all that a rule covers."""

    document: str = ""
    where: Where | None = None
    source_name: str = ""

    def how(self, row: dict[str, Any]) -> str:
        """As what a row of a dataset is covered: document, alias, or not at all ("")."""
        name = row["source_name"] or ""
        if self.where is not None:
            return "document" if self.where.matches(row["id"], name, row["source"]) else ""
        if self.source_name and self.source_name != name:
            return ""
        return "document" if row["id"] == self.document else "alias" if self.document in (row["aliases"] or ()) else ""

    def covers_dropped(self, document: str, source: str) -> bool:
        """Whether the request is about a record that was left out of a dataset, by its id and source."""
        return self.where.matches(document, "", source) if self.where else document == self.document

    def to_dict(self) -> dict[str, str]:
        """The request as plain JSON; ``from_dict`` reads it."""
        return {"document": self.document, "where": str(self.where or ""), "source_name": self.source_name}

    @classmethod
    def from_dict(cls, row: dict[str, str]) -> ForgetRequest:
        """The request that ``to_dict`` wrote."""
        return cls(row["document"], Where.parse(row["where"]) if row["where"] else None, row["source_name"])

    def __str__(self) -> str:
        return str(self.where) if self.where else self.document


@dataclass(frozen=True)
class Traces:
    """Where a request's documents are: itself and copies, records left out as duplicates, and what was made of them."""

    found: list[Found]
    dropped: list[dict[str, str]]
    datasets: list[Manifest]
    indexes: list[tuple[Manifest, int]]
    descendants: list[Manifest]

    @property
    def ids(self) -> set[str]:
        """The ids of all documents that were found."""
        return {hit.id for hit in self.found}


def search(store: Store, inventory: Inventory, request: ForgetRequest) -> Traces:
    """Look into every dataset, first for the documents, then for copies of their texts under other names."""
    datasets = sorted(of_kind(inventory.manifests.values(), "datasets"), key=lambda m: m.created_at)
    direct: list[Found] = []
    dropped: list[dict[str, str]] = []
    stand_ins: set[str] = set()
    for dataset in datasets:
        direct += find_documents(store, dataset, request.how)
        for row in left_out(store, dataset, request.covers_dropped):
            if row["reason"] != "forgotten":
                dropped.append({"dataset": f"{dataset.name}@{dataset.version}", **row})
            if row["reason"] == "exact_duplicate":
                stand_ins.add(row["kept"])  # the same text, kept under another name
    texts = {hit.text_sha256 for hit in direct}
    known = {(hit.dataset, hit.id) for hit in direct}
    copies: list[Found] = []
    if texts or stand_ins:
        for dataset in datasets:
            copies += [
                hit
                for hit in find_documents(store, dataset, _copies_of(texts, stand_ins), columns=("text",))
                if (hit.dataset, hit.id) not in known
            ]
    found = [*direct, *copies]
    inside = {hit.dataset for hit in found}
    containing = [m for m in datasets if f"{m.name}@{m.version}" in inside]
    ids = {hit.id for hit in found} | ({request.document} - {""})
    made = [m for m in inventory.descendants(containing) if m.kind not in ("indexes", "gates")]
    return Traces(found, dropped, containing, indexes_with(store, inventory, ids), made)


def _copies_of(texts: set[str], stand_ins: set[str]) -> Callable[[dict[str, Any]], str]:
    return lambda row: "copy" if row["id"] in stand_ins or text_sha256(row["text"]) in texts else ""


def forget(
    store: Store,
    home: Home,
    request: ForgetRequest,
    *,
    by: str = "",
    why: str = "",
    unknown: bool = False,
    audit: Callable[[Tombstones], dict[str, Any]] = lambda stones: {},
) -> dict[str, Any]:
    """Forget what is asked and return the signed receipt, which is also kept in the store.

    Args:
        unknown: put up the tombstone even if no dataset holds such a document, to keep it out from the start.
        audit: erases it from the audit log's sampled answers and from feedback, and returns what the receipt says of
            that.

    Raises:
        BadInputError: nothing covers it and ``unknown`` is not set.
        EnvironmentFaultError: the store cannot be written.
    """
    inventory = Inventory.read(store)
    looked = search(store, inventory, request)
    if not (looked.found or looked.dropped or looked.indexes or unknown):
        raise BadInputError(
            f"nothing holds {str(request)!r}: ids are paths below the source's folder, or qualified names; "
            "--even-unknown keeps it out of what is prepared from now on"
        )
    stone = _tombstone(store, request, looked, by, why)
    everything = read_tombstones(store)
    cleared = clear_cache(store, everything)
    receipt = {
        "receipt": f"{stone.number:08d}-{secrets.token_hex(4)}", "at": utc_now(), "by": by, "why": why,
        "request": request.to_dict(),
        "tombstone": stone.number, "text_sha256": list(stone.text_sha256),
        **_places(store, inventory, looked, cleared), "audit": audit(everything),
    }  # fmt: skip
    signed = sign(receipt, home, store)
    body = json.dumps(signed, indent=1, ensure_ascii=False).encode()
    store.write(store.path(*RECEIPTS, f"{receipt['receipt']}.json"), body)
    for row in (*signed["models"], *signed["others"]):
        path = store.path(*TAINTED, f"{row['artefact']}.{receipt['receipt']}.json")
        store.write(path, json.dumps({"artefact": row["artefact"], "receipt": receipt["receipt"]}).encode())
    return signed


def _tombstone(store: Store, request: ForgetRequest, looked: Traces, by: str, why: str) -> Tombstone:
    """A new tombstone, or the one that says all of this already."""
    documents = sorted({(hit.id, hit.source_name) for hit in looked.found})
    texts = sorted({hit.text_sha256 for hit in looked.found})
    files = sorted({hit.file_sha256 for hit in looked.found if hit.file_sha256 and hit.whole_file})
    for entry in reversed(read_tombstones(store).entries):
        same = (entry.document, entry.where, entry.source_name) == (
            request.document, str(request.where or ""), request.source_name,
        )  # fmt: skip
        parts = ((documents, entry.documents), (texts, entry.text_sha256), (files, entry.file_sha256))
        if same and all(set(new) <= set(old) for new, old in parts):
            return entry
    return add_tombstone(
        store, document=request.document, where=request.where, source_name=request.source_name, documents=documents,
        texts=texts, files=files, by=by, why=why,
    )  # fmt: skip


def clear_cache(store: Store, forgotten: Tombstones) -> list[str]:
    """Remove every pack of cleaned records that holds a forgotten document; the next run makes the rest again."""
    cleared = []
    for where in packs.everything(store):
        content = packs.read(store, where)
        if content is None:
            continue
        columns = content[0].select(["id", "source_name", "source", "text"]).to_pylist()
        if any(
            forgotten.covers(row["id"], row["source_name"], row["source"])
            or forgotten.covers_content(text_sha256(row["text"]))
            for row in columns
        ):
            store.fs.rm(where)
            cleared.append(where.removeprefix(store.root).lstrip("/"))
    return cleared


def _places(store: Store, inventory: Inventory, looked: Traces, cleared: list[str]) -> dict[str, Any]:
    """Every place, and what became of the document there."""

    def row(made: Manifest) -> dict[str, Any]:
        aliases = list(inventory.aliases_of(made))
        return {"kind": made.kind, "artefact": f"{made.name}@{made.version}", "aliases": aliases}

    indexes = [{**row(made), "chunks": chunks, "action": "not served from now on"} for made, chunks in looked.indexes]
    others = [{**row(made), "action": "marked tainted"} for made in looked.descendants]
    near = [row for row in looked.dropped if row["reason"] == "near_duplicate"]
    for dataset in looked.datasets:
        near += [
            {"dataset": f"{dataset.name}@{dataset.version}", **row}
            for row in left_out(store, dataset, lambda *_: True)
            if row["reason"] == "near_duplicate" and row["kept"] in looked.ids
        ]
    return {
        "found": [
            {"dataset": hit.dataset, "id": hit.id, "as": hit.how, "source": hit.source, "file_sha256": hit.file_sha256,
             "span": list(hit.span), "action": "left out of the next version"}
            for hit in looked.found
        ],
        "left_out_before": looked.dropped,
        "near_copies": near,
        "indexes": indexes,
        "cache": [{"file": name, "action": "removed"} for name in cleared],
        "models": [row for row in others if row["kind"] == "models"],
        "others": [row for row in others if row["kind"] != "models"],
    }  # fmt: skip


def tainted(store: Store) -> dict[str, list[str]]:
    """By version (``name@version``) the receipts of what it saw that was forgotten since."""
    folder = store.path(*TAINTED)
    marks: dict[str, list[str]] = {}
    for path in sorted(store.fs.find(folder)) if store.exists(folder) else []:
        if path.endswith(".json"):
            row = store.read_json(path)
            marks.setdefault(row["artefact"], []).append(row["receipt"])
    return marks


def inherited(store: Store, manifest: Manifest) -> list[str]:
    """The receipts of what an artefact was made of, directly or not, and that was marked before it was made."""
    marks = tainted(store)
    if not marks:
        return []
    before = Inventory.read(store).ancestry(manifest).nodes()
    return sorted({receipt for node in before for receipt in marks.get(node.reference, ())})


# -- signatures --------------------------------------------------------------------------------------------------------
def sign(receipt: dict[str, Any], home: Home, store: Store) -> dict[str, Any]:
    """The receipt with a signature over its canonical JSON; the public key is put beside the receipts."""
    key = _own_key(home)
    public = _public_bytes(key)
    name = hashlib.sha256(public).hexdigest()[:16]
    path = store.path(*KEYS, f"{name}.pub")
    if not store.exists(path):
        store.write(path, base64.b64encode(public))
    value = base64.b64encode(key.sign(_canonical(receipt))).decode()
    return {**receipt, "signature": {"algorithm": ALGORITHM, "key": name, "value": value}}


def verify(store: Store, home: Home, receipt: dict[str, Any]) -> dict[str, Any]:
    """Check a receipt and whether what it says still holds.

    Returns:
        ``signed_by`` (key, and whether it is this installation's), ``tombstone`` (it stands and covers the documents),
        ``still_in`` (versions that physically hold the document, immutable until ``plinth gc`` removes them),
        ``came_back`` (datasets made after the receipt that hold it: none, if all is well).

    Raises:
        IntegrityError: the signature is missing, of an unknown key, or does not fit: the receipt was changed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signature = receipt.get("signature") or {}
    name = str(signature.get("key", ""))
    path = store.path(*KEYS, f"{check_name(name or 'none')}.pub")
    if signature.get("algorithm") != ALGORITHM or not store.exists(path):
        raise IntegrityError("the receipt is not signed with a key this store knows")
    public = base64.b64decode(store.read(path))
    if hashlib.sha256(public).hexdigest()[:16] != name:
        raise IntegrityError(f"{path} is not the key it is named after: it was changed")
    try:
        value = base64.b64decode(str(signature.get("value", "")), validate=True)
        body = {key: value for key, value in receipt.items() if key != "signature"}
        Ed25519PublicKey.from_public_bytes(public).verify(value, _canonical(body))
    except (InvalidSignature, ValueError):
        raise IntegrityError("the receipt's signature does not fit: it was changed after it was signed") from None
    stones = read_tombstones(store)
    number = int(receipt["tombstone"])
    request, texts = ForgetRequest.from_dict(receipt["request"]), set(receipt["text_sha256"])
    ids = {row["id"] for row in receipt["found"]} | ({request.document} - {""})

    def wanted(row: dict[str, Any]) -> str:
        return request.how(row) or ("copy" if text_sha256(row["text"]) in texts else "")

    stands = number <= stones.generation and all(stones.covers(name) for name in ids)
    inventory = Inventory.read(store)
    still = []
    for dataset in of_kind(inventory.manifests.values(), "datasets"):
        if find_documents(store, dataset, wanted, columns=("text",)):
            still.append({"dataset": f"{dataset.name}@{dataset.version}", "made": dataset.created_at})
    own = hashlib.sha256(_public_bytes(_own_key(home))).hexdigest()[:16]
    return {
        "receipt": receipt["receipt"], "valid": True, "signed_by": {"key": name, "own": name == own},
        "tombstone": {"number": number, "stands": stands}, "still_in": still,
        "came_back": [row["dataset"] for row in still if row["made"] > receipt["at"]],
    }  # fmt: skip


def load(store: Store, reference: str) -> dict[str, Any]:
    """A receipt from a file, or by its id from the store. Raises BadInputError: there is none, or it is not one."""
    path = Path(reference).expanduser()
    stored = store.path(*RECEIPTS, f"{reference}.json")
    try:
        if path.is_file():
            found = json.loads(path.read_bytes())
        elif "/" not in reference and store.exists(stored):
            found = store.read_json(stored)
        else:
            raise BadInputError(f"there is no receipt {reference!r}: give its file or its id")
    except ValueError as error:
        raise BadInputError(f"{reference} is not a receipt: {error}") from None
    fields = {"receipt", "at", "request", "tombstone", "found", "signature"}
    if not isinstance(found, dict) or not fields <= set(found):
        raise BadInputError(f"{reference} is not a receipt of forgetting")
    return found


def _canonical(receipt: dict[str, Any]) -> bytes:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _own_key(home: Home) -> Ed25519PrivateKey:
    """The installation's signing key, made on first use, readable by its owner only."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = home.folder("keys") / "receipts.ed25519"
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        write_private(path, base64.b64encode(made.private_bytes_raw()).decode())
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_text(), validate=True))
    except ValueError:
        raise IntegrityError(f"{path} is no signing key: restore it, or remove it to make a new one") from None


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()
