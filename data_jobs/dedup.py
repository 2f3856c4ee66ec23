"""Exact and near duplicates: which documents say the same, and which one of them stays.

Near duplicates are found with MinHash (Broder 1997) and locality-sensitive hashing over word 5-shingles, as in Gopher
and FineWeb; every candidate pair is then checked by its true Jaccard similarity, so hashing costs recall (below 0.1 %
at the threshold) but never precision. Clusters are the connected components; one document of each stays.

For files the text alone decides. A docstring is the documentation of one function: two functions may well share the
sentence "Executes an SQL statement." and both must be found. Code objects are therefore compared only within a
``group``: the same last name in the same top-level package, and only texts long enough not to be a phrase anybody would
use (copies in a base class and its subclasses; never ``dict.copy`` and ``collections.OrderedDict.copy``). The one that
stays takes the others' names as aliases, so no name is lost.

Everything is a function of the set of documents: order and number of workers do not matter.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cluster.core.records import Document

PERMUTATIONS = 128
SEED = 42
SHINGLE_WORDS = 5
RECALL_AT_THRESHOLD = 0.999
MAX_COMPARED = 64  # earlier members of one bucket that a document is compared with: a flood of look-alikes stays linear
SHORT_WORDS = 16  # docstrings below this are taken for stock phrases
CODE_KINDS = frozenset(("function", "class", "method", "builtin"))
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fingerprint:
    """What deduplication knows of a document.

    Attributes:
        group: documents of different groups are never duplicates.
        exact: hash of the folded text (case, white space).
        minhash: PERMUTATIONS little-endian uint32 values.
        rank: sorts the members of a cluster, the one to keep first.
    """

    id: str
    group: str
    exact: str
    minhash: bytes
    rank: tuple[int, int, int, str]


@dataclass(frozen=True)
class Duplicate:
    """``dropped`` says the same as ``kept``; ``similarity`` is their Jaccard similarity, 1.0 for exact ones.

    Within a cluster similarity is not transitive: it is the one to the nearest member, not always to ``kept``.
    """

    dropped: str
    kept: str
    reason: str
    similarity: float


def shingles(text: str) -> set[str]:
    """Word 5-grams of the lower-cased text; of shorter texts (under 10 words) 2-grams, under 3 words single words."""
    words = _WORD.findall(text.lower())
    size = SHINGLE_WORDS if len(words) >= 2 * SHINGLE_WORDS else 2 if len(words) > 2 else 1
    return {" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))} if words else set()


def jaccard(left: set[str], right: set[str]) -> float:
    both = len(left & right)
    return both / (len(left) + len(right) - both) if left or right else 1.0


def fingerprint(document: Document) -> Fingerprint:
    """Sketch one document (its normalised text)."""
    import rensa

    sketch = rensa.RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    sketch.update(sorted(shingles(document.text)))
    digest = b"".join(value.to_bytes(4, "little") for value in sketch.digest())
    exact = hashlib.sha256(" ".join(document.text.lower().split()).encode()).hexdigest()
    rank = (-len(document.text), document.id.count("."), len(document.id), document.id)
    return Fingerprint(document.id, _group(document), exact, digest, rank)


def _group(document: Document) -> str:
    if document.kind not in CODE_KINDS:
        return "module" if document.kind == "module" else ""
    owner, _, name = document.id.rpartition(".")
    if len(_WORD.findall(document.text)) < SHORT_WORDS:
        return document.id
    return f"{owner.partition('.')[0]}:{name}"


def bands(threshold: float) -> tuple[int, int]:
    """(number of bands, rows in each): the most selective split that still finds 99.9 % of pairs at the threshold."""
    for rows in range(PERMUTATIONS, 0, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL_AT_THRESHOLD:
            return count, rows
    return PERMUTATIONS, 1


def deduplicate(
    fingerprints: Iterable[Fingerprint], text_of: Callable[[str], str], threshold: float
) -> list[Duplicate]:
    """Every document that is not kept, sorted by id.

    Args:
        fingerprints: one per document; ids must be unique.
        text_of: the normalised text of a document by id; asked for candidates only.
        threshold: true Jaccard similarity at and above which two documents are near duplicates.
    """
    ordered = sorted(fingerprints, key=lambda f: f.rank)
    clusters = _Clusters([f.id for f in ordered])
    first: dict[tuple[str, str], str] = {}
    distinct = []
    for one in ordered:
        known = first.setdefault((one.group, one.exact), one.id)
        if known == one.id:
            distinct.append(one)
        else:
            clusters.join(known, one.id, "exact_duplicate", 1.0)
    _join_near(distinct, text_of, threshold, clusters)
    return clusters.duplicates()


def near_pairs(
    fingerprints: Iterable[Fingerprint], text_of: Callable[[str], str], threshold: float
) -> dict[tuple[str, str], float]:
    """Every pair that hashing finds and its true similarity (at or above the threshold), exact duplicates included.

    For measuring: ``deduplicate`` stops comparing two documents once they are in one cluster.
    """
    words = _words(text_of)
    ordered = sorted(fingerprints, key=lambda f: f.rank)
    similar = {pair: jaccard(words(pair[0]), words(pair[1])) for pair in set(_candidates(ordered, threshold))}
    return {pair: similarity for pair, similarity in similar.items() if similarity >= threshold}


def _join_near(
    distinct: Sequence[Fingerprint], text_of: Callable[[str], str], threshold: float, clusters: _Clusters
) -> None:
    words = _words(text_of)
    for other, member in _candidates(distinct, threshold):
        if clusters.apart(other, member):
            similarity = jaccard(words(other), words(member))
            if similarity >= threshold:
                clusters.join(other, member, "near_duplicate", similarity)


def _words(text_of: Callable[[str], str]) -> Callable[[str], set[str]]:
    known: dict[str, set[str]] = {}

    def words(name: str) -> set[str]:
        if name not in known:
            known[name] = shingles(text_of(name))
        return known[name]

    return words


def _candidates(distinct: Sequence[Fingerprint], threshold: float) -> Iterator[tuple[str, str]]:
    """Pairs that share a bucket of some band; one that shares several comes several times."""
    count, rows = bands(threshold)
    for band in range(count):
        buckets: dict[tuple[str, bytes], list[str]] = defaultdict(list)
        for one in distinct:
            buckets[one.group, one.minhash[band * rows * 4 : (band + 1) * rows * 4]].append(one.id)
        for members in buckets.values():
            for index, member in enumerate(members):
                for other in members[max(0, index - MAX_COMPARED) : index]:
                    yield other, member


class _Clusters:
    """Union-find; the root of a cluster is its member that comes first in ``ids``."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.order = {name: index for index, name in enumerate(ids)}
        self.parent = dict(zip(ids, ids, strict=True))
        self.why: dict[str, tuple[str, float]] = {}

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def apart(self, left: str, right: str) -> bool:
        return self.root(left) != self.root(right)

    def join(self, left: str, right: str, reason: str, similarity: float) -> None:
        keep, drop = sorted((self.root(left), self.root(right)), key=self.order.__getitem__)
        if keep != drop:
            self.parent[drop] = keep
            self.why[drop] = (reason, round(similarity, 4))

    def duplicates(self) -> list[Duplicate]:
        return [Duplicate(name, self.root(name), *self.why[name]) for name in sorted(self.why)]
