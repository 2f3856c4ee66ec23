"""Tombstones: which documents were forgotten, as an append-only list in the store (ray-free, small).

One file per decision, ``forgotten/tombstones/00000007.json``, written atomically and synced, never changed::

    {"number": 7, "at": "2026-11-22T04:20:00.000+00:00", "by": "ann@host", "why": "erasure request 17",
     "document": "notes/a.md", "where": null, "source_name": "",
     "documents": [["notes/a.md", "notes"], ...],       ids (with the source they are of) that it was found under
     "text_sha256": ["..."], "file_sha256": ["..."],      of their stored text and raw files: a renamed copy is the same
     "previous": "sha256 of the file before it"}           so that a missing or changed one is noticed

Preparing a corpus leaves out what they cover, and a retriever drops it from its answers at once. A forgotten copy of a
document that stays is no longer named beside it. A forgotten document that stood for near copies goes with its text;
the next preparation finds the copies without it, and keeps one of them. Finding the documents and writing the receipt
is ``lineage.receipts``' part.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.core.errors import IntegrityError, UsageError
from cluster.core.records import Copy, Document, stable_hash
from cluster.core.storage import Store, sync_folder, utc_now

FOLDER = ("forgotten", "tombstones")
WHERE_FIELDS = ("document", "source", "source_name")
GENESIS = "0" * 64


@dataclass(frozen=True)
class Where:
    """A standing rule ``field=pattern``: also what is added later and matches stays out.

    ``document`` is an id, ``source_name`` a named source, ``source`` either the place a document was read from (a
    file, with all its records, or a folder, with all below it) or the name of its source. ``*`` stands for anything.
    """

    field: str
    pattern: str

    @classmethod
    def parse(cls, text: str) -> Where:
        """Raises UsageError: not ``field=value`` with a known field and a value that is not just ``*``."""
        name, equals, pattern = text.partition("=")
        name, pattern = name.strip(), pattern.strip().strip("'\"")
        if not equals or name not in WHERE_FIELDS:
            raise UsageError(f"{text!r} is not a condition: write FIELD=VALUE with one of {', '.join(WHERE_FIELDS)}")
        if not pattern.strip("*?/"):
            raise UsageError(f"{text!r} would forget everything: name what to forget")
        return cls(name, pattern)

    def matches(self, document_id: str, source_name: str, source: str) -> bool:
        """Whether the rule covers a document with this id and source name, read from this source (a path, maybe with
        a line).
        """
        if self.field == "document":
            return self._like(document_id)
        if self.field == "source_name":
            return self._like(source_name)
        path = source.rpartition(":")[0] if source.rpartition(":")[2].isdigit() else source
        folder = self.pattern.rstrip("/") + "/"
        return self._like(source_name) or self._like(source) or self._like(path) or source.startswith(folder)

    def _like(self, value: str) -> bool:
        return bool(value) and (value == self.pattern or fnmatch.fnmatchcase(value, self.pattern))

    def __str__(self) -> str:
        return f"{self.field}={self.pattern}"


@dataclass(frozen=True)
class Tombstone:
    """One decision to forget: a document id (of one source, or of any) or a rule, and what it was found as."""

    number: int
    document: str = ""
    where: str = ""
    source_name: str = ""
    documents: tuple[tuple[str, str], ...] = ()
    text_sha256: tuple[str, ...] = ()
    file_sha256: tuple[str, ...] = ()
    at: str = ""
    by: str = ""
    why: str = ""
    previous: str = GENESIS

    def to_json(self) -> bytes:
        """The bytes that are stored."""
        return json.dumps(self.__dict__, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Tombstone:
        """The tombstone in stored bytes."""
        row = json.loads(data)
        row["documents"] = tuple((i, n) for i, n in row["documents"])
        row["text_sha256"], row["file_sha256"] = tuple(row["text_sha256"]), tuple(row["file_sha256"])
        return cls(**row)


@dataclass(frozen=True)
class Tombstones:
    """All decisions so far; asking one is a few set look-ups.

    Attributes:
        entries: in the order they were made; ``generation`` is their number, which only grows.
        fingerprint: sha256 of the last one's file, and thereby of the whole chain.
    """

    entries: tuple[Tombstone, ...] = ()
    fingerprint: str = GENESIS
    _ids: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    _names: frozenset[str] = field(default=frozenset(), repr=False)
    _texts: frozenset[str] = field(default=frozenset(), repr=False)
    _files: frozenset[str] = field(default=frozenset(), repr=False)
    _rules: tuple[Where, ...] = field(default=(), repr=False)

    @property
    def generation(self) -> int:
        """How many there are: grows with every request, and never shrinks."""
        return len(self.entries)

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def key(self) -> str:
        """What they leave out, as part of a run_key: without times, names of people and order. Empty without any."""
        rules = sorted({e.where for e in self.entries if e.where})
        return stable_hash([sorted(self._ids), sorted(self._texts), sorted(self._files), rules]) if self else ""

    def covers(self, document_id: str, source_name: str = "", source: str = "") -> bool:
        """Whether this document is to stay out. An unknown ``source_name`` is given as "": then the id decides."""
        if (document_id, "") in self._ids or (document_id, source_name) in self._ids:
            return True
        if not source_name and document_id in self._names:
            return True
        return any(rule.matches(document_id, source_name, source) for rule in self._rules)

    def spared(self, copies: Iterable[Copy]) -> tuple[Copy, ...]:
        """Those copies of a document that may still be named."""
        return tuple(copy for copy in copies if not self.covers(copy.document, "", copy.source))

    def left(self, documents: Iterable[Document]) -> list[Document]:
        """Those documents that were not forgotten, each with the copies that may still be named."""
        kept = (d for d in documents if not self.covers(d.id, d.source_name, d.source))
        return [replace(d, copies=self.spared(d.copies)) if d.copies else d for d in kept]

    def covers_content(self, text_sha256: str = "", file_sha256: str = "") -> bool:
        """Whether these bytes were forgotten under whatever name."""
        return (bool(text_sha256) and text_sha256 in self._texts) or (bool(file_sha256) and file_sha256 in self._files)

    @classmethod
    def of(cls, entries: Iterable[Tombstone], fingerprint: str) -> Tombstones:
        """All of these together, in the order given; ``fingerprint`` is the sha256 of the last one's file."""
        known = tuple(entries)
        ids = {pair for e in known for pair in e.documents} | {(e.document, e.source_name) for e in known if e.document}
        return cls(
            known,
            fingerprint,
            frozenset(ids),
            frozenset(name for name, _ in ids),
            frozenset(h for e in known for h in e.text_sha256),
            frozenset(h for e in known for h in e.file_sha256),
            tuple(Where.parse(e.where) for e in known if e.where),
        )


def text_sha256(text: str) -> str:
    """Of a document's stored text (normalised, redacted), whatever its case and white space."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "surrogatepass")).hexdigest()


def read_tombstones(store: Store, known: Tombstones | None = None) -> Tombstones:
    """All tombstones of a store. Cheap to poll: one listing of a folder, and only files that ``known`` lacks are read.

    Returns ``known`` itself where nothing was added.

    Raises:
        IntegrityError: one is missing, damaged or was changed. What is known already stays true.
    """
    folder = store.path(*FOLDER)
    names = _listed(store, folder)
    known = known or Tombstones()
    for number, name in enumerate(names, start=1):
        if name != _name(number):
            raise IntegrityError(f"{folder}/{_name(number)} is missing: the list of forgotten documents was changed")
    if len(names) < known.generation:
        raise IntegrityError(f"{folder} holds {len(names)} tombstones where there were {known.generation}")
    if len(names) == known.generation:
        return known
    entries, chain = list(known.entries), known.fingerprint
    for name in names[known.generation :]:
        path = posixpath.join(folder, name)
        data = store.read(path)
        try:
            entry = Tombstone.from_json(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IntegrityError(f"{path} is damaged: {error}", path=path) from None
        if entry.previous != chain or _name(entry.number) != name:
            raise IntegrityError(f"{path} does not follow the one before it: it was changed", path=path)
        entries.append(entry)
        chain = hashlib.sha256(data).hexdigest()
    return Tombstones.of(entries, chain)


def add_tombstone(
    store: Store,
    *,
    document: str = "",
    where: Where | None = None,
    source_name: str = "",
    documents: Sequence[tuple[str, str]] = (),
    texts: Sequence[str] = (),
    files: Sequence[str] = (),
    by: str = "",
    why: str = "",
) -> Tombstone:
    """Append one decision: atomic, synced, in order between processes.

    Args:
        document, where: exactly one of them; ``source_name`` narrows ``document`` to one source.
        documents: (id, source_name) of everything it was found as; ``texts``, ``files``: sha256 of their contents.

    Raises:
        UsageError: neither or both of ``document`` and ``where``.
        EnvironmentFaultError: the store cannot be written.
    """
    if bool(document) == bool(where):
        raise UsageError("name either a document or a condition to forget")
    with store.locked(*FOLDER):
        before = read_tombstones(store)
        entry = Tombstone(
            before.generation + 1, document, str(where or ""), source_name, tuple(sorted(set(documents))),
            tuple(sorted(set(texts))), tuple(sorted(set(files))), utc_now(), by, why, before.fingerprint,
        )  # fmt: skip
        store.write(store.path(*FOLDER, _name(entry.number)), entry.to_json())
        if store.on_disk:
            sync_folder(store.path(*FOLDER))
    return entry


def _listed(store: Store, folder: str) -> list[str]:
    try:
        found: list[Any] = store.fs.ls(folder, detail=False)
    except FileNotFoundError:
        return []
    names = (posixpath.basename(str(path).rstrip("/")) for path in found)
    return sorted(name for name in names if name.endswith(".json"))


def _name(number: int) -> str:
    return f"{number:08d}.json"
