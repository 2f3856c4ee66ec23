"""Exact and near duplicates: which documents say the same, and which one of them stays.

Near duplicates are found with MinHash (Broder 1997) and locality-sensitive hashing over word 5-shingles, as in Gopher
and FineWeb; every candidate pair is then checked by its true Jaccard similarity, so hashing costs recall (below 0.1 %
at the threshold) but never precision. In scripts without blanks every character is a word. Documents of one form that
state different facts (``facts``), or have different titles, are no duplicates however alike they are. One document of
each cluster stays, and every other one of it agrees with that one.

For files the text alone decides. A docstring is the documentation of one function: two functions may well share the
sentence "Executes an SQL statement." and both must be found. Code objects are therefore compared only within a
``group``: the same last name in the same top-level package, and only texts long enough not to be a phrase anybody would
use (copies in a base class and its subclasses; never ``dict.copy`` and ``collections.OrderedDict.copy``). The one that
stays takes the others' names as aliases, so no name is lost.

Documents of different access labels are never duplicates: whoever may read the one that goes may not be allowed to read
the one that stays, and would lose both.

Everything is a function of the set of documents: order and number of workers do not matter.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from cluster.core.records import CODE_KINDS, Document
from cluster.core.storage import storage_errors
from data_jobs.filters.facts import different_facts, numbers
from data_jobs.text.scripts import words as words_of

PERMUTATIONS = 128
SEED = 42
SHINGLE_WORDS = 5
RECALL_AT_THRESHOLD = 0.999
# A document is compared with at most so many others of its bucket, so that time stays linear in a flood of look-alikes.
MAX_COMPARED = 64
# One that differs in facts from so many is an instance of a form: it is compared with those of the same numbers only.
MAX_DIFFERENT = 8
BATCH = 1024  # So many fingerprints are held as Python objects at a time.
WORDS_KEPT = 512  # The shingles of so many documents are kept for the next comparison.
SHORT_WORDS = 16  # A docstring with fewer words is taken for a stock phrase.
TITLE_NEAR = 300  # Characters; a title that the text begins with says nothing that the text does not.
_TITLE_PARTS = re.compile(r"\s+[|·•–—-]+\s+|\s*\|\s*")
_COPY = re.compile(r"\((?:\d+|copy|draft|final)\)|\bcopy of\b|\bkopie von\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fingerprint:
    """What deduplication knows of a document.

    Attributes:
        group: documents of different groups are never duplicates.
        exact: hash of the folded text (case, white space) and the subject.
        subject: the title where it says more than the text and the path, folded; else empty.
        numbers: hash of the numbers in the text.
        minhash: PERMUTATIONS little-endian uint32 values.
        rank: sorts the members of a cluster, the one to keep first.
    """

    id: str
    group: str
    exact: str
    minhash: bytes
    rank: tuple[int, int, int, str]
    subject: str = ""
    numbers: str = ""


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
    words = words_of(text.lower())
    size = SHINGLE_WORDS if len(words) >= 2 * SHINGLE_WORDS else 2 if len(words) > 2 else 1
    return set(map(" ".join, zip(*(words[i:] for i in range(size)), strict=False))) if words else set()


def jaccard(left: set[str], right: set[str]) -> float:
    """Jaccard similarity of two sets in [0, 1]; two empty ones are alike."""
    both = len(left & right)
    return both / (len(left) + len(right) - both) if left or right else 1.0


def fingerprint(document: Document) -> Fingerprint:
    """Sketch one document (its normalised text)."""
    import rensa

    sketch = rensa.RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    sketch.update(sorted(shingles(document.text)))
    digest = b"".join(value.to_bytes(4, "little") for value in sketch.digest())
    subject = _subject(document)
    exact = hashlib.sha256("\0".join((" ".join(document.text.lower().split()), subject)).encode()).hexdigest()
    rank = (-len(document.text), document.id.count("."), len(document.id), document.id)
    held = hashlib.blake2b(numbers(document.text).encode(), digest_size=8).hexdigest()
    group = f"{document.access}\0{_group(document)}" if document.access else _group(document)
    return Fingerprint(document.id, group, exact, digest, rank, subject, held)


def _subject(document: Document) -> str:
    """The longest part of the title (sites put their name beside it) where neither the text begins with it nor the
    path is made of it. Code objects are told apart by their names."""
    if document.kind in CODE_KINDS or document.title == document.id:
        return ""
    title = max(_TITLE_PARTS.split(_COPY.sub(" ", document.title)), key=len)
    folded = " ".join(words_of(title.lower()))
    stem = PurePosixPath(document.id.partition("#")[0]).stem
    begins = " ".join(words_of(document.text[:TITLE_NEAR].lower()))
    return "" if folded in begins or folded == " ".join(words_of(stem.lower().replace("_", " "))) else folded


def _group(document: Document) -> str:
    if document.kind == "module":  # a page about many things, compared with other such pages
        return "module"
    if document.kind not in CODE_KINDS:
        return ""
    owner, _, name = document.id.rpartition(".")
    if len(words_of(document.text)) < SHORT_WORDS:
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

    A document costs some two hundred bytes of memory: its sketch waits in a temporary file.

    Args:
        fingerprints: one per document; ids must be unique. Read once, to the end, before any text is asked for.
        text_of: the normalised text of a document by id; asked for candidates only.
        threshold: true Jaccard similarity at and above which two documents are near duplicates.
    """
    with _Sketches(fingerprints, threshold) as sketches:
        return _deduplicate(sketches, text_of, threshold)


def _deduplicate(sketches: _Sketches, text_of: Callable[[str], str], threshold: float) -> list[Duplicate]:
    clusters = _Clusters(len(sketches.ids))
    same, distinct = sketches.exact_duplicates()
    for known, row in same:
        clusters.join(known, row, "exact_duplicate", 1.0)
    compared = _Compared(sketches, text_of)
    unlike: set[tuple[int, int]] = set()
    for left, right in _candidates(sketches, distinct):
        roots = clusters.roots()
        apart = (roots[left] != roots[right]) & ~compared.hopeless(left, right)
        for pair in zip(left[apart].tolist(), right[apart].tolist(), strict=True):
            if pair in unlike or not clusters.apart(*pair):
                continue
            found = compared.similarity(*pair)
            if found >= threshold and compared.agree(*pair) and clusters.may_join(*pair, compared.agree):
                clusters.join(*pair, "near_duplicate", found)
            else:
                unlike.add(pair)
    names = sketches.ids
    found_ones = [Duplicate(names[row], names[kept], why, alike) for row, kept, why, alike in clusters.dropped()]
    return sorted(found_ones, key=lambda one: one.dropped)


def near_pairs(
    fingerprints: Iterable[Fingerprint], text_of: Callable[[str], str], threshold: float
) -> dict[tuple[str, str], float]:
    """Every pair that hashing finds and its true similarity (at or above the threshold), exact duplicates included.

    For measuring: ``deduplicate`` stops comparing two documents once they are in one cluster, and looks at facts.
    """
    with _Sketches(fingerprints, threshold) as sketches:
        everything = np.arange(len(sketches.ids))
        pairs = {
            pair
            for left, right in _candidates(sketches, everything)
            for pair in zip(left.tolist(), right.tolist(), strict=True)
        }
        similarity = _Compared(sketches, text_of).similarity
        known = {(sketches.ids[a], sketches.ids[b]): similarity(a, b) for a, b in sorted(pairs)}
    return {pair: alike for pair, alike in known.items() if alike >= threshold}


class _Sketches:
    """What is compared, by row in the order of rank. The hashes of the bands wait in a temporary file.

    Attributes:
        ids: one per document.
        groups, subjects, numbers: hashes of these, int64 [documents]; 0 for no subject.
    """

    def __init__(self, fingerprints: Iterable[Fingerprint], threshold: float) -> None:
        self.bands, rows = bands(threshold)
        self._keys = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._batches: list[int] = []
        ids: list[str] = []
        # Group, exact (two halves of 128 bits), subject, numbers, rank without the id.
        columns = np.empty((8, 0), dtype=np.int64)
        parts = [columns]
        source = iter(fingerprints)
        while batch := list(itertools.islice(source, BATCH)):
            ids += [one.id for one in batch]
            parts.append(np.array([_row(one) for one in batch]).T)
            values = np.frombuffer(b"".join(one.minhash for one in batch), dtype="<u4").reshape(len(batch), -1)
            banded = values[:, : self.bands * rows].reshape(len(batch), self.bands, rows).astype(np.uint64)
            with storage_errors(tempfile.gettempdir()):
                self._keys.write(_mixed(parts[-1][0].astype(np.uint64)[:, None], banded).T.tobytes())
            self._batches.append(len(batch))
        columns = np.concatenate(parts, axis=1)
        self._order = _ranked(columns[5:], ids)
        self.ids = [ids[row] for row in self._order]
        self.groups, self._exact = columns[0, self._order], columns[:3, self._order]
        self.subjects, self.numbers = columns[3, self._order], columns[4, self._order]

    def __enter__(self) -> _Sketches:
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.close()

    def keys(self, band: int) -> np.ndarray:
        """Hash of one band and the group, uint64 [documents]."""
        parts, at = [np.empty(0, dtype=np.uint64)], 0
        for size in self._batches:
            self._keys.seek(8 * (at + band * size))
            parts.append(np.frombuffer(self._keys.read(8 * size), dtype=np.uint64))
            at += self.bands * size
        found: np.ndarray = np.concatenate(parts)[self._order]
        return found

    def exact_duplicates(self) -> tuple[Iterator[tuple[int, int]], np.ndarray]:
        """(row, a later one with the same text) of every exact duplicate, and the rows of all different texts."""
        order = np.lexsort(self._exact)  # stable: the rows of one text ascend
        fresh = np.ones(len(order), dtype=bool)
        fresh[1:] = (self._exact[:, order[1:]] != self._exact[:, order[:-1]]).any(axis=0)
        first = order[fresh][np.cumsum(fresh) - 1] if len(order) else order
        pairs = zip(first[~fresh].tolist(), order[~fresh].tolist(), strict=True)
        return pairs, np.sort(order[fresh])


def _row(one: Fingerprint) -> tuple[int, ...]:
    subject = _hash(one.subject) if one.subject else 0
    return (_hash(one.group), *_halves(one.exact), subject, _hash(one.numbers), *one.rank[:3])


def _ranked(ranks: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """The order of documents by ``ranks`` (int64 [keys, documents], first key first), then by id."""
    order = np.lexsort(ranks[::-1])
    edges = np.flatnonzero((ranks[:, order[1:]] != ranks[:, order[:-1]]).any(axis=0)) + 1
    edges = np.concatenate([[0], edges, [len(order)]])
    for at in np.flatnonzero(np.diff(edges) > 1):
        equal = order[edges[at] : edges[at + 1]]
        equal[:] = sorted(equal.tolist(), key=ids.__getitem__)  # a view: sorts that part of ``order``
    return order


def _halves(exact: str) -> tuple[int, int]:
    """128 bits of a hexadecimal hash as two signed integers."""
    whole = bytes.fromhex(exact[:32])
    return int.from_bytes(whole[:8], "little", signed=True), int.from_bytes(whole[8:], "little", signed=True)


def _hash(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True
    )


def _mixed(seed: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A 64-bit hash of ``seed`` and the last axis of ``values`` (uint64), after FNV-1a (Fowler, Noll, Vo)."""
    mixed = np.broadcast_to(seed, values.shape[:-1]).copy()
    for column in range(values.shape[-1]):
        mixed = (mixed ^ values[..., column]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _candidates(sketches: _Sketches, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of ``rows`` (ascending) that share a bucket of some band, each as (earlier, later), many at a time.

    Neighbours in a bucket, those with the same numbers side by side, come first, then those one apart and so on: once
    the neighbours of a flood of look-alikes are joined, nobody needs to compare the others. A pair that shares several
    buckets comes several times.
    """
    for band in range(sketches.bands):
        mine = sketches.keys(band)[rows]
        order = np.lexsort((sketches.numbers[rows], mine))  # stable: rows of the same numbers ascend
        mine, sorted_rows = mine[order], rows[order]
        for distance in range(1, MAX_COMPARED + 1):
            same = mine[distance:] == mine[:-distance]
            if not same.any():
                break
            left, right = sorted_rows[:-distance][same], sorted_rows[distance:][same]
            left, right = np.minimum(left, right), np.maximum(left, right)
            one_group = sketches.groups[left] == sketches.groups[right]
            left, right = left[one_group], right[one_group]
            near = np.lexsort((right, left))  # a document's comparisons one after the other: its words are made once
            yield left[near], right[near]


class _Compared:
    """Compares two rows by their texts; words and texts of the last rows asked for are kept."""

    def __init__(self, sketches: _Sketches, text_of: Callable[[str], str]) -> None:
        ids = sketches.ids
        self._text = functools.lru_cache(maxsize=WORDS_KEPT)(lambda row: text_of(ids[row]))
        self._words = functools.lru_cache(maxsize=WORDS_KEPT)(lambda row: shingles(self._text(row)))
        self._numbers, self._subjects = sketches.numbers, sketches.subjects
        self._different = np.zeros(len(ids), dtype=np.int32)

    def similarity(self, left: int, right: int) -> float:
        return jaccard(self._words(left), self._words(right))

    def agree(self, left: int, right: int) -> bool:
        """Whether neither the titles nor the facts of the two differ."""
        one, other = self._subjects[left], self._subjects[right]
        if (not one or not other or one == other) and not different_facts(self._text(left), self._text(right)):
            return True
        self._different[left] += 1
        self._different[right] += 1
        return False

    def hopeless(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Of pairs of rows: whether one of the two is an instance of a form, and their numbers are not the same."""
        forms = np.maximum(self._different[left], self._different[right]) >= MAX_DIFFERENT
        found: np.ndarray = forms & (self._numbers[left] != self._numbers[right])
        return found


class _Clusters:
    """Union-find over rows; the root of a cluster is its first row."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))
        self.why: dict[int, tuple[str, float]] = {}
        self.near: dict[int, list[int]] = {}  # by root: the near duplicates it stands for

    def root(self, row: int) -> int:
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def roots(self) -> np.ndarray:
        """Of all rows at once, int64 [rows]."""
        found = np.array(self.parent, dtype=np.int64)
        while not np.array_equal(found, higher := found[found]):
            found = higher
        return found

    def apart(self, left: int, right: int) -> bool:
        return self.root(left) != self.root(right)

    def may_join(self, left: int, right: int, agree: Callable[[int, int], bool]) -> bool:
        """Whether the row that would stay for both clusters agrees with every row that would go: a page that leaves a
        fact out agrees with two that state it differently."""
        keep, drop = sorted((self.root(left), self.root(right)))
        gone = [row for row in (drop, *self.near.get(drop, ())) if {row, keep} != {left, right}]
        return all(agree(keep, row) for row in gone[:MAX_COMPARED])

    def join(self, left: int, right: int, reason: str, similarity: float) -> None:
        keep, drop = sorted((self.root(left), self.root(right)))
        if keep != drop:
            self.parent[drop] = keep
            if reason == "near_duplicate":
                self.near.setdefault(keep, []).extend((drop, *self.near.pop(drop, ())))
            self.why[drop] = (reason, round(similarity, 4))

    def dropped(self) -> Iterator[tuple[int, int, str, float]]:
        """(row, the row that stays for it, reason, similarity)."""
        for row, (reason, similarity) in self.why.items():
            yield row, self.root(row), reason, similarity
