"""Questions to start with: what someone who has just arrived could ask of an index.

A document's own questions come first where the index has some that are phrased as questions; else its title makes one.
The same version always gives the same ones, from as different documents as there are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath

from cluster.core.records import CODE_KINDS, Chunk
from data_jobs.retrieval.snapshot import Snapshot

POOL = 200  # of the documents with the highest static rank: in a reference, those that people ask for
MAX_CHARS = 90  # of a question on a button
_ASKING = re.compile(
    r"(?:how|what|which|why|when|where|who|can|could|does|is|are|should)\b(?: [\w'`.-]+,?){3,}\s*\??$", re.IGNORECASE
)


REDACTED = re.compile(r"<[A-Z_]+_\d+>")  # what stands for personal data: nothing to ask about


@dataclass(frozen=True)
class Example:
    """A question and the document it was made from."""

    question: str
    document: str


def example_questions(snapshot: Snapshot, hidden: Collection[int], count: int) -> list[Example]:
    """At most ``count`` examples; restricted documents and the ``hidden`` chunks (rows) have no part in them."""
    left_out = {snapshot.chunks[row].document for row in hidden}
    own: dict[str, list[str]] = {}
    titled: dict[str, str] = {}
    rank: dict[str, float] = {}
    for chunk, questions in zip(snapshot.chunks, snapshot.questions, strict=True):
        name = chunk.document
        if name in left_out or chunk.sensitivity == "restricted":
            continue
        rank[name] = chunk.prior
        if name not in own and (asking := [q for q in questions if len(q) <= MAX_CHARS and _ASKING.match(q)]):
            own[name] = asking
        if name not in titled and (about := _about(chunk)):
            titled[name] = about
    first = _varied(snapshot, {name: rank[name] for name in own}, count)
    rest = {name: rank[name] for name in titled if name not in own} if len(first) < count else {}
    return [Example(_as_question(min(own[name], key=lambda q: _shuffle(snapshot, q))), name) for name in first] + [
        Example(titled[name], name) for name in _varied(snapshot, rest, count - len(first))
    ]


def _varied(snapshot: Snapshot, rank: dict[str, float], count: int) -> list[str]:
    """Documents in an order that only the version decides, a second one of a module or folder after all others."""
    if not rank:
        return []
    floor = sorted(rank.values(), reverse=True)[:POOL][-1]
    names = sorted((name for name in rank if rank[name] >= floor), key=lambda name: _shuffle(snapshot, name))
    seen: dict[str, int] = {}
    turn = {}
    for name in names:
        group = re.split(r"[./]", name)[0]
        turn[name] = seen[group] = seen.get(group, 0) + 1
    return sorted(names, key=turn.__getitem__)[:count]


def _shuffle(snapshot: Snapshot, text: str) -> bytes:
    return sha256(f"{snapshot.version}\n{text}".encode()).digest()


def _as_question(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip(' ?')}?"


def _about(chunk: Chunk) -> str:
    """A question made of the title; of the name where a symbol's title is its signature; empty where neither is fit."""
    title = " ".join(chunk.title.split())
    if chunk.kind not in ("file", "record"):
        title = chunk.document
    elif title in ("", chunk.document) and chunk.kind == "file":
        title = PurePosixPath(chunk.document).stem.replace("_", " ")
    if title.endswith("?") and len(title) <= MAX_CHARS:
        return title
    question = f"What is said about {title.rstrip(' .:')}?"
    fit = len(question) <= MAX_CHARS and any(c.isalpha() for c in title) and not REDACTED.search(title)
    return question if fit else ""


def topics(snapshot: Snapshot, hidden: Collection[int], count: int) -> list[str]:
    """At most ``count`` things that the documents are about, the largest first: modules of code, titles of files.
    Restricted documents and the ``hidden`` chunks (rows) have no part in them."""
    left_out = {snapshot.chunks[row].document for row in hidden}
    size: dict[str, int] = {}
    named: dict[str, str] = {}
    for chunk in snapshot.chunks:
        if chunk.document in left_out or chunk.sensitivity == "restricted":
            continue
        name = chunk.document.partition("." if chunk.kind in CODE_KINDS else "#")[0]
        size[name] = size.get(name, 0) + 1
        if chunk.kind in CODE_KINDS or chunk.kind == "record":
            named.setdefault(name, name)
        else:
            named.setdefault(name, " ".join(chunk.title.split()) or PurePosixPath(name).stem)
    largest = sorted(size, key=lambda name: (-size[name], name))
    titles = dict.fromkeys(named[name] for name in largest if len(named[name]) <= MAX_CHARS)
    return list(titles)[:count]
