"""The nouns every folder shares: documents, chunks, passages, answers, verdicts, manifests.

All are frozen dataclasses that import neither ray nor torch, go through ``to_dict``/``from_dict`` as plain JSON, and
carry no behaviour beyond that. Spans are half-open character offsets ``[start, end)`` into ``Document.text`` as stored
in the dataset (after normalisation and redaction), so a reader can always find a quoted passage again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

from cluster.core.access import NOBODY_MAY

CODE_KINDS = frozenset({"function", "class", "method", "module", "builtin"})  # kinds of Document that are code objects


class _Record:
    """``to_dict``/``from_dict`` for flat frozen dataclasses; unknown keys are an error, not ignored."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        return cls(**row)


class Copy(NamedTuple):
    """Another document that says the same as the one that was kept, and was left out for it."""

    document: str
    title: str
    source: str


MAX_ALSO = 5  # copies that a chunk, and so a citation, names


@dataclass(frozen=True)
class Document(_Record):
    """One document of a corpus.

    Attributes:
        id: unique in the corpus. (contract) the shortest public qualified name for pydocs, the path below the source
            folder for files (``path#record`` for one record of a .jsonl file).
        title: what a person would call it (heading, file name, signature).
        text: the normalised, redacted body.
        source: where it came from: ``file:line`` or module name or path.
        source_name: the named source it belongs to (``pydocs``, the folder's name, ...).
        kind: ``function | class | method | module | builtin | file | record``.
        signature: call signature for code objects, else empty.
        aliases: other public names of the same thing (re-exports), sorted.
        part_of: id of the enclosing document (a method's class, a function's module), else empty.
        references: how many other parts of its source refer to it (modules that use a function): a static rank.
        questions: what people ask that this document answers. They are searched (document expansion), never quoted.
        licence: SPDX identifier (or ``unknown``); owner: who answers for it; sensitivity: public | internal |
            restricted. All three as its source declares them.
        access: who may read it, as ``access.Access.text``; empty: whoever may ask its collection.
        language: ISO 639-1 code, ``und`` where it cannot be told.
        file_sha256: of the raw file it was read from; span: the bytes in that file that hold it, ``(0, size)`` for all.
        steps: what was done to it on the way, in order (``decoded:latin-1``, ``redacted:EMAIL``).
        copies: every document that says the same and was left out for this one, sorted.
    """

    id: str
    title: str
    text: str
    source: str
    source_name: str = ""
    kind: str = "file"
    signature: str = ""
    aliases: tuple[str, ...] = ()
    part_of: str = ""
    references: int = 0
    questions: tuple[str, ...] = ()
    licence: str = ""
    owner: str = ""
    sensitivity: str = ""
    language: str = ""
    file_sha256: str = ""
    span: tuple[int, ...] = ()
    steps: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    access: str = ""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The document out of plain JSON; columns that older datasets lack get their defaults."""
        lists = ("aliases", "questions", "span", "steps")
        found = {name: tuple(row.get(name) or ()) for name in lists}
        return cls(**{**row, **found, "copies": _copies(row.get("copies")), "access": _access(row)})


def _access(row: dict[str, Any]) -> str:
    """The label in a row: none where its maker knew of no labels, nobody's where it is damaged."""
    label = row.get("access", "")
    return label if isinstance(label, str) else NOBODY_MAY


def _of_chunk(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row of a chunk or passage is not there, or is not yet what it was."""
    return {"also": _copies(row.get("also")), "access": _access(row), "findings": tuple(row.get("findings") or ())}


def _copies(rows: Any) -> tuple[Copy, ...]:
    return tuple(Copy(*row) for row in rows or ())


@dataclass(frozen=True)
class Quarantined(_Record):
    """Something that could not be read: one record, or a whole file (``record == ""``)."""

    source: str
    record: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Dropped(_Record):
    """A readable record that a stage left out: ``stage`` is filtered|duplicate, ``reason`` names the rule.

    For duplicates ``kept`` is the record kept in its place, which names their cluster, and ``similarity`` the Jaccard
    similarity to the nearest member. For ``contaminated`` ``detail`` names the evaluation set and ``similarity`` is the
    share of the item found.
    """

    document: str
    source: str
    stage: str
    reason: str
    kept: str = ""
    similarity: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Chunk(_Record):
    """A retrievable span of a document. ``text == document.text[start:end]``; ``context`` is what is put before it
    for embedding and lexical search (title, signature, heading path, names of a table's columns), never shown as a
    quotation. ``prior`` is the static rank of its document, added to a search score. ``header`` are the lines, verbatim
    from before ``start``, without which a text that begins within a table or a code block cannot be read: the names of
    the columns, the opening fence. ``also`` are the first MAX_ALSO of its document's copies.
    ``access`` is its label. ``findings`` are why no prompt may hold it, by the scan of version ``scanned`` (empty: none
    was made; ``data_jobs.safety.passages``)."""

    id: str
    document: str
    title: str
    source: str
    text: str
    start: int
    end: int
    context: str = ""
    kind: str = "file"
    prior: float = 0.0
    licence: str = ""
    owner: str = ""
    sensitivity: str = ""
    header: str = ""
    also: tuple[Copy, ...] = ()
    access: str = ""
    findings: tuple[str, ...] = ()
    scanned: str = ""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The chunk out of plain JSON; those of earlier programs name no copies, have no label and were not scanned."""
        return cls(**{**row, **_of_chunk(row)})


@dataclass(frozen=True)
class Passage(_Record):
    """A chunk as one search returned it. ``score`` is the fused rank score (higher is better, not a probability),
    ``dense`` the cosine of question and chunk, ``asked`` the highest cosine of the question and one that the document
    is known to answer (0 where none is known), ``header`` and what follows it the chunk's."""

    chunk: str
    document: str
    title: str
    source: str
    text: str
    start: int
    end: int
    score: float
    dense: float = 0.0
    lexical: float = 0.0
    context: str = ""
    kind: str = "file"
    asked: float = 0.0
    licence: str = ""
    owner: str = ""
    sensitivity: str = ""
    header: str = ""
    also: tuple[Copy, ...] = ()
    access: str = ""
    findings: tuple[str, ...] = ()
    scanned: str = ""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The passage out of plain JSON."""
        return cls(**{**row, **_of_chunk(row)})


@dataclass(frozen=True)
class Citation(_Record):
    """One source an answer rests on (contract: these are its JSON fields). ``also`` are other documents that say the
    same, at most MAX_ALSO, as objects with ``document``, ``title`` and ``source``."""

    document: str
    title: str
    source: str
    chunk: str
    span: tuple[int, int]
    text: str
    score: float
    also: tuple[Copy, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The citation as plain JSON; ``from_dict`` restores an equal value."""
        return {**super().to_dict(), "also": [copy._asdict() for copy in self.also]}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The citation out of plain JSON; without ``also`` it is of an earlier service."""
        also = tuple(Copy(**copy) for copy in row.get("also") or ())
        return cls(**{**row, "span": (row["span"][0], row["span"][1]), "also": also})


@dataclass(frozen=True)
class Verdict(_Record):
    """A decision with its reason. ``rule`` is a closed, low-cardinality name (a metric label); ``detail`` is not.
    ``guard`` names the guard that decided; empty where all of them let a text pass. ``version`` is that of the rule or
    model behind it, where there is one, ``score`` what a model gave, ``policy`` which one decided. What was flagged
    goes on as it is; with ``review`` people are to look at it besides."""

    stage: str
    action: Literal["allow", "flag", "review", "redact", "block"]
    rule: str = "none"
    detail: str = ""
    guard: str = ""
    version: str = ""
    score: float = 0.0
    policy: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on, redacted or not."""
        return self.action != "block"


@dataclass(frozen=True)
class Answer(_Record):
    """What a tier says: ``text`` with [n] markers, citations in that order (at most 5), and whether it is grounded.

    ``grounded`` is False when the tier abstained; ``reason`` then says why (closed set). ``dropped_passages`` counts
    passages left out because the prompt was too long. ``finish`` is ``length`` when a token limit ended the text;
    token counts are the tier's own tokenizer's, 0 where it has none. ``form`` is the form of answer that was given
    (``comparison``, ``list``, ``summary``, ...; empty: plain). A refusal names the ``closest`` documents and what was
    ``not_found``; so does an answer that covers a part of what was asked.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    grounded: bool = True
    reason: str = "supported"
    confidence: float = 0.0
    dropped_passages: int = 0
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    form: str = ""
    closest: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileEntry(_Record):
    """One file of an artefact: path below its folder, sha256 of its bytes, size in bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest(_Record):
    """What a finished artefact is. Written last and atomically; an artefact without one does not exist.

    ``version`` hashes the output files only; ``run_key`` hashes what went in (inputs, config, source code) and decides
    reuse before a stage runs. Time, host and commit are recorded but are in neither.
    """

    kind: str
    name: str
    version: str
    run_key: str
    files: tuple[FileEntry, ...]
    inputs: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""
    host: str = ""
    commit: str = ""
    python: str = ""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The manifest out of plain JSON."""
        return cls(**{**row, "files": tuple(FileEntry(**f) for f in row["files"])})


def stable_hash(value: Any, length: int = 16) -> str:
    """Hex sha256 prefix of the canonical JSON of ``value`` (sorted keys, no spaces): the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
