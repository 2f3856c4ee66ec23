"""What an artefact was made of, back to the raw files, and what a document went into (ray-free, reads manifests).

A manifest's ``inputs`` name the versions that went in, a dataset's rows the files, bytes and steps they came from. The
graph follows from these alone: nothing else is written down, so nothing can contradict them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.records import Manifest
from cluster.core.storage import MANIFEST, Store
from data_jobs.corpus.parquet import read_table

# In the order in which a bare NAME or NAME@ALIAS is looked for; the alias a bare NAME stands for, first found first.
KINDS = ("models", "indexes", "datasets", "checkpoints", "examples", "tokenizers", "gates")
# An index that is kept fresh for months is made of thousands of versions, one after the other: not all are shown.
MAX_DEPTH = 40
DEFAULT_ALIASES = ("live", "champion", "candidate", "latest")
_REFERENCE = re.compile(r"([a-z0-9][a-z0-9._-]*)@([0-9a-f]{12})")
_LINE = re.compile(r":(?:page )?\d+$")


@dataclass(frozen=True)
class Node:
    """One artefact with what it was made of.

    Attributes:
        inputs: by role: a Node, or text for what is no artefact (a folder, the hash of its content, a hub id).
        missing: its manifest is gone; only its name and version are known.
    """

    kind: str
    name: str
    version: str
    created_at: str = ""
    commit: str = ""
    code: str = ""
    aliases: tuple[str, ...] = ()
    inputs: dict[str, Node | str] = field(default_factory=dict)
    missing: bool = False

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """The node and all before it as plain JSON."""
        inputs = {role: value if isinstance(value, str) else value.to_dict() for role, value in self.inputs.items()}
        return {**self.__dict__, "inputs": inputs}

    def nodes(self) -> Iterator[Node]:
        """Itself and all before it, each once."""
        seen: set[tuple[str, str]] = set()
        queue: list[Node] = [self]
        while queue:
            node = queue.pop(0)
            if (node.kind, node.reference) not in seen:
                seen.add((node.kind, node.reference))
                yield node
                queue += [value for value in node.inputs.values() if isinstance(value, Node)]


class Inventory:
    """All manifests of a store, and the aliases that point to them."""

    def __init__(self, manifests: Iterable[Manifest], aliases: dict[tuple[str, str, str], str] | None = None) -> None:
        self.manifests = {(m.kind, m.name, m.version): m for m in manifests}
        self.aliases = aliases or {}
        self._by_reference: dict[str, list[Manifest]] = {}
        for manifest in self.manifests.values():
            self._by_reference.setdefault(f"{manifest.name}@{manifest.version}", []).append(manifest)

    @classmethod
    def read(cls, store: Store) -> Inventory:
        """One look at the whole store. A manifest that cannot be read is left out: it is no artefact."""
        manifests, aliases = [], {}
        for path in sorted(store.fs.glob(store.path("*", "*", "*", MANIFEST))):
            try:
                manifests.append(Manifest.from_dict(store.read_json(path)))
            except (ValueError, KeyError, TypeError):
                continue
        for path in sorted(store.fs.glob(store.path("*", "*", "aliases", "*.json"))):
            kind, name, _, file = path.split("/")[-4:]
            alias = posixpath.splitext(file)[0]
            version = store.alias(kind, name, alias)
            if version is not None:
                aliases[kind, name, alias] = version
        return cls(manifests, aliases)

    def aliases_of(self, manifest: Manifest) -> tuple[str, ...]:
        """The names of the aliases that point to this version."""
        wanted = (manifest.kind, manifest.name)
        return tuple(
            a for (kind, name, a), v in self.aliases.items() if (kind, name) == wanted and v == manifest.version
        )

    def resolve(self, text: str) -> Manifest:
        """``NAME@VERSION``, the beginning of a version, ``NAME@ALIAS``, ``NAME``, each also as ``KIND/...``.

        Raises:
            BadInputError: there is none.
        """
        kind, _, rest = text.rpartition("/")
        name, _, version = rest.partition("@")
        known = [m for m in self._ordered() if m.name == name and kind in ("", m.kind)]
        if not known:
            names = ", ".join(sorted({m.name for m in self.manifests.values()})[:20]) or "none yet"
            raise BadInputError(f"there is no artefact {text!r}; there are: {names}")
        found = [m for m in known if version and m.version.startswith(version)]
        for alias in [version] if version else DEFAULT_ALIASES:
            found += [m for m in known if self.aliases.get((m.kind, m.name, alias)) == m.version]
        if not found and not version:
            found = sorted(known, key=lambda m: m.created_at, reverse=True)
        if not found:
            there = ", ".join(f"{m.kind}/{m.name}@{m.version}" for m in known[:20])
            raise BadInputError(f"there is no version {text!r}; there are: {there}")
        return found[0]

    def ancestry(self, manifest: Manifest) -> Node:
        """The artefact with all it was made of, directly or not."""
        return self._node(manifest, ())

    def descendants(self, roots: Iterable[Manifest]) -> list[Manifest]:
        """Everything made of these artefacts, directly or not, oldest first; not the artefacts themselves."""
        tainted = {f"{m.name}@{m.version}" for m in roots}
        first, found = set(tainted), dict[str, Manifest]()
        grown = True
        while grown:
            grown = False
            for manifest in self.manifests.values():
                reference = f"{manifest.name}@{manifest.version}"
                if reference not in tainted and tainted & set(references(manifest)):
                    tainted.add(reference)
                    found[reference] = manifest
                    grown = True
        return sorted((m for r, m in found.items() if r not in first), key=lambda m: m.created_at)

    def _node(self, manifest: Manifest, above: tuple[str, ...]) -> Node:
        own = f"{manifest.name}@{manifest.version}"
        inputs: dict[str, Node | str] = {}
        for role, value in manifest.inputs.items():
            reference = _REFERENCE.fullmatch(value)
            before = self._by_reference.get(value, [])
            if before and len(above) >= MAX_DEPTH:
                inputs[role] = f"{value} (further back: ask for its lineage)"
            elif before and value not in (*above, own):
                inputs[role] = self._node(before[0], (*above, own))
            elif reference:
                inputs[role] = Node(f"{role}s", reference[1], reference[2], missing=not before)
            else:
                inputs[role] = value
        return Node(
            manifest.kind, manifest.name, manifest.version, manifest.created_at, manifest.commit,
            str(manifest.config.get("code", "")), self.aliases_of(manifest), inputs,
        )  # fmt: skip

    def _ordered(self) -> list[Manifest]:
        rank = {kind: number for number, kind in enumerate(KINDS)}
        return sorted(self.manifests.values(), key=lambda m: (rank.get(m.kind, len(rank)), m.name, m.created_at))


def references(manifest: Manifest) -> list[str]:
    """The artefacts (``name@version``) that a manifest names as its inputs."""
    return [value for value in manifest.inputs.values() if _REFERENCE.fullmatch(value)]


# -- raw files ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class RawFile:
    """A file that a dataset was read from: path below its source, sha256 of its bytes, number of its documents kept."""

    path: str
    sha256: str
    documents: int


def raw_files(store: Store, dataset: Manifest) -> list[RawFile]:
    """The files behind a dataset's documents, by path."""
    counts: dict[tuple[str, str], int] = {}
    for rows in document_rows(store, dataset, ("source", "file_sha256")):
        for source, digest in zip(rows["source"], rows["file_sha256"], strict=True):
            key = (_LINE.sub("", source), digest or "")
            counts[key] = counts.get(key, 0) + 1
    return [RawFile(path, digest, number) for (path, digest), number in sorted(counts.items())]


def document_rows(store: Store, dataset: Manifest, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """These columns of a dataset's documents, one file at a time; columns it does not have are all None.

    Raises:
        IntegrityError: a file cannot be read.
    """
    for entry in dataset.files:
        if entry.path.startswith("documents-"):
            yield read_columns(store, dataset, entry.path, columns)


def read_columns(store: Store, artefact: Manifest, file: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    """Some columns of a Parquet file of an artefact as plain values; those it does not have are all None.

    Raises:
        IntegrityError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = posixpath.join(store.artefact(artefact), file)
    try:
        source = Path(path) if store.local else store.read(path)
        names = set(pq.read_schema(Path(path) if store.local else pa.BufferReader(source)).names)
        table = read_table(source, [c for c in columns if c in names])
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} cannot be read ({error}): damaged; prepare it again", path=path) from None
    empty: list[Any] = [None] * len(table)
    return {c: table.column(c).to_pylist() if c in names else list(empty) for c in columns}


# -- where a document is -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Found:
    """A document in one dataset: ``how`` is document, alias (another name of it) or duplicate (left out for it)."""

    dataset: str
    id: str
    how: str
    source: str
    source_name: str
    file_sha256: str
    span: tuple[int, ...]
    steps: tuple[str, ...]
    text_sha256: str
    whole_file: bool = False  # it is all of its file, so that the file's hash stands for it


def find_documents(
    store: Store, dataset: Manifest, wanted: Callable[[dict[str, Any]], str], columns: Sequence[str] = ()
) -> list[Found]:
    """The documents of a dataset that ``wanted`` gives a ``how`` for, looking at id, aliases, source and source_name.

    ``columns`` adds others to what it looks at (``text``).
    """
    from data_jobs.governance.tombstones import text_sha256

    looked = ("id", "aliases", "source", "source_name", *columns)
    details = ("text", "file_sha256", "span", "steps", "kind")
    found = []
    for entry in dataset.files:
        if not entry.path.startswith("documents-"):
            continue
        rows = read_columns(store, dataset, entry.path, looked)
        hits = [
            (at, row, how)
            for at, row in enumerate(
                dict(zip(looked, values, strict=True)) for values in zip(*rows.values(), strict=True)
            )
            if (how := wanted(row))
        ]
        if not hits:
            continue
        more = read_columns(store, dataset, entry.path, details)
        found += [
            Found(
                f"{dataset.name}@{dataset.version}", row["id"], how, row["source"], row["source_name"] or "",
                more["file_sha256"][at] or "", tuple(more["span"][at] or ()), tuple(more["steps"][at] or ()),
                text_sha256(more["text"][at]),
                more["kind"][at] == "file" and tuple(more["span"][at] or ())[:1] == (0,),
            )
            for at, row, how in hits
        ]  # fmt: skip
    return found


def left_out(store: Store, dataset: Manifest, wanted: Callable[[str, str], bool]) -> list[dict[str, str]]:
    """The records of ``dropped.parquet`` whose id and source are ``wanted``: document, source, stage, reason, kept."""
    if not any(entry.path == "dropped.parquet" for entry in dataset.files):
        return []
    names = ("document", "source", "stage", "reason", "kept")
    rows = read_columns(store, dataset, "dropped.parquet", names)
    made = (dict(zip(names, values, strict=True)) for values in zip(*(rows[n] for n in names), strict=True))
    return [row for row in made if wanted(row["document"], row["source"])]


def chunks_of(store: Store, index: Manifest, ids: set[str]) -> int:
    """How many stored chunks of an index are of these documents."""
    number = 0
    for entry in index.files:
        if entry.path.endswith("chunks.parquet"):
            number += sum(name in ids for name in read_columns(store, index, entry.path, ("document",))["document"])
    return number


def indexes_with(store: Store, inventory: Inventory, ids: set[str]) -> list[tuple[Manifest, int]]:
    """The indexes that hold chunks of these documents (also those kept fresh from a folder, without a dataset), oldest
    first, and how many."""
    made = sorted(of_kind(inventory.manifests.values(), "indexes"), key=lambda m: m.created_at)
    return [(index, chunks) for index in made if (chunks := chunks_of(store, index, ids))]


def of_kind(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind, in the order given."""
    return [m for m in manifests if m.kind == kind]


# -- answers for whoever prints them -----------------------------------------------------------------------------------
def graph(store: Store, inventory: Inventory, artefact: Manifest) -> dict[str, Any]:
    """An artefact's ancestry, and per dataset in it the raw files with their hashes."""
    root = inventory.ancestry(artefact)
    files = {}
    for node in root.nodes():
        if node.kind == "datasets" and not node.missing:
            dataset = inventory.manifests[node.kind, node.name, node.version]
            files[node.reference] = [file.__dict__ for file in raw_files(store, dataset)]
    return {"artefact": root.to_dict(), "files": files}


def document_lineage(store: Store, inventory: Inventory, document: str) -> dict[str, Any]:
    """Every version that contains a document, by its id or another name of it: datasets, indexes, and what was made
    of those datasets (models among them).

    Raises:
        BadInputError: nothing does.
    """

    def wanted(row: dict[str, Any]) -> str:
        return "document" if row["id"] == document else "alias" if document in (row["aliases"] or ()) else ""

    datasets: list[dict[str, Any]] = []
    containing: list[Manifest] = []
    for dataset in sorted(of_kind(inventory.manifests.values(), "datasets"), key=lambda m: m.created_at):
        found = find_documents(store, dataset, wanted)
        out = left_out(store, dataset, lambda name, _: name == document)
        if found:
            containing.append(dataset)
        for hit in found:
            datasets.append({**_about(inventory, dataset), **hit.__dict__, "contains": True})
        if not found:
            datasets += [{**_about(inventory, dataset), **row, "contains": False} for row in out]
    indexes = [
        {**_about(inventory, made), "chunks": chunks}
        for made, chunks in indexes_with(store, inventory, {document, *(hit["id"] for hit in datasets if "id" in hit)})
    ]
    if not datasets and not indexes:
        raise BadInputError(f"no version in this store contains {document!r}: ids are paths below the source's folder")
    others = [
        {**_about(inventory, made), "through": references(made)}
        for made in inventory.descendants(containing)
        if made.kind != "indexes"
    ]
    models = [row for row in others if row["kind"] == "models"]
    return {
        "document": document,
        "datasets": datasets,
        "indexes": indexes,
        "models": models,
        "others": [row for row in others if row["kind"] != "models"],
    }


def _about(inventory: Inventory, manifest: Manifest) -> dict[str, Any]:
    return {
        "kind": manifest.kind,
        "artefact": f"{manifest.name}@{manifest.version}",
        "aliases": list(inventory.aliases_of(manifest)),
        "created_at": manifest.created_at,
    }
