"""A corpus of any size to measure preparation on: real sentences in new orders, with duplicates whose number is known.

Sentences of real text sets are shuffled, all together and anew for every round (seeded), and cut into documents as long
as real ones: words, sentences and lengths are real, and two documents of different rounds share no more than chance.
A known share of the documents gets a copy, some exact, some with a few words changed, so that the recall of
deduplication can be told. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import BadInputError
from data_jobs.filters.dedup import jaccard, shingles
from data_jobs.text.sentences import sentences

# Of a folder with many sets, those of prose; a folder without any of them is read whole.
PROSE = ("pretrain_docs_otel", "pretrain_docs_rustbook", "pretrain_novels", "ret_scifact")
MIN_SENTENCES, MAX_SENTENCES = 6, 60  # of a document
MIN_WORDS, MAX_WORDS = 4, 60  # of a sentence
PARAGRAPH = 4  # sentences
COPIED = 0.2  # share of the documents that get a copy: the corpus is 1 / (1 + COPIED) unique
HEAD_WORDS = 20  # of a document: what may be its title
EDITS = (0.0, 0.004, 0.01, 0.02)  # share of a copy's words that are replaced, in turn
LOWEST = 0.8  # Jaccard similarity from which two documents count as duplicates


@dataclass(frozen=True)
class Corpus:
    """Where the files are, and what is in them. ``pairs``: (original, copy) of similarity ``LOWEST`` or more."""

    folder: str
    files: int
    documents: int
    bytes: int
    copies: int
    pairs: tuple[tuple[str, str], ...]

    @property
    def unique(self) -> float:
        """Share of the documents that are left when every copy is gone."""
        return 1 - self.copies / self.documents


def read_texts(path: Path) -> Iterator[str]:
    """The texts of the .jsonl (field ``text``), .md and .txt files below a folder.

    Raises:
        BadInputError: the folder is not there.
    """
    if not path.is_dir():
        raise BadInputError(f"{path} is no folder: give --path one with .jsonl, .md or .txt files")
    folders = [path / name for name in PROSE if (path / name).is_dir()] or [path]
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix in (".md", ".txt") and not file.name.startswith(("LICENSE", "SOURCE")):
                yield file.read_text(encoding="utf-8", errors="replace")
            elif file.suffix == ".jsonl":
                yield from _texts_of(file)


def _texts_of(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("text"), str):
                yield row["text"]


def build(source: Path, folder: Path, size_mb: float, seed: int = 0, files: int = 32) -> Corpus:
    """Write a corpus of ``size_mb`` million bytes of text as ``files`` .jsonl files (id, title, text) into ``folder``.

    Raises:
        BadInputError: ``source`` holds too little prose.
    """
    pool, lengths = _sentences(source)
    documents: list[tuple[str, str]] = []
    pairs: list[tuple[str, str]] = []
    size, copies, limit = 0, 0, size_mb * 1e6
    for name, text in _endless(pool, lengths, seed):
        if size >= limit:
            break
        documents.append((name, text))
        size += len(text.encode())
        picker = random.Random(f"{seed}\0{name}")  # noqa: S311 (no secret)
        if picker.random() < COPIED:
            copy = _edited(text, EDITS[copies % len(EDITS)], pool, picker)
            documents.append((f"{name}-copy", copy))
            size += len(copy.encode())
            copies += 1
            if jaccard(shingles(text), shingles(copy)) >= LOWEST:
                pairs.append((name, f"{name}-copy"))
    random.Random(seed).shuffle(documents)  # noqa: S311 (no secret)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        with (folder / f"part-{number:04d}.jsonl").open("w", encoding="utf-8") as out:
            for name, text in documents[number::files]:
                row = {"id": name, "title": " ".join(text.split()[:6]), "text": text}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return Corpus(str(folder), files, len(documents), size, copies, tuple(pairs))


def endless_documents(source: Path, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(name, text) of documents without copies, without end.

    Raises:
        BadInputError: ``source`` holds too little prose.
    """
    yield from _endless(*_sentences(source), seed)


def _sentences(source: Path) -> tuple[list[str], list[int]]:
    """All usable sentences, and how many each usable document has."""
    pool: list[str] = []
    lengths: list[int] = []
    for text in read_texts(source):
        found = [" ".join(text[start:end].split()) for start, end in sentences(text)]
        found = [one for one in found if MIN_WORDS <= len(one.split()) <= MAX_WORDS and one[-1:] in ".!?"]
        pool += found
        if len(found) >= MIN_SENTENCES:
            lengths.append(min(len(found), MAX_SENTENCES))
    if len(set(pool)) < 1000 or not lengths:
        raise BadInputError(f"{source} holds {len(set(pool))} different sentences: 1000 are needed for a corpus")
    return pool, lengths


def _endless(pool: Sequence[str], lengths: Sequence[int], seed: int) -> Iterator[tuple[str, str]]:
    round_number = 0
    while True:
        picker = random.Random(f"{seed}\0{round_number}")  # noqa: S311 (no secret)
        order = list(pool)
        picker.shuffle(order)
        at, number = 0, 0
        while at < len(order):
            length = picker.choice(lengths)
            part = order[at : at + length]
            at += length
            if len(part) >= MIN_SENTENCES:
                body = [" ".join(part[i : i + PARAGRAPH]) for i in range(0, len(part), PARAGRAPH)]
                yield f"r{round_number:03d}-{number:06d}", "\n\n".join(body)
                number += 1
        round_number += 1


def _edited(text: str, share: float, pool: Sequence[str], picker: random.Random) -> str:
    """A copy with some ordinary words replaced: another number, name or title would make it another fact, no copy."""
    paragraphs = [paragraph.split(" ") for paragraph in text.split("\n\n")]
    places = [(p, w) for p, words in enumerate(paragraphs) for w, word in enumerate(words) if _ordinary(word)]
    places = [place for place in places if place >= (0, HEAD_WORDS)]
    changed = round(share * sum(map(len, paragraphs)))
    for p, w in picker.sample(places, min(len(places), changed)):
        paragraphs[p][w] = next(filter(_ordinary, picker.choice(pool).split(" ")), paragraphs[p][w])
    return "\n\n".join(" ".join(words) for words in paragraphs)


def _ordinary(word: str) -> bool:
    return word.isalpha() and word.islower()


def recall(corpus: Corpus, kept: set[str]) -> dict[str, float]:
    """How many known duplicates are gone from ``kept`` (ids).

    Pairs of which neither is left say nothing (another rule dropped both). ``recall``: of the others, the share of
    which one only is left.
    """
    seen = [(a in kept) + (b in kept) for a, b in corpus.pairs]
    judged = [count for count in seen if count]
    return {"pairs": len(judged), "recall": round(sum(count == 1 for count in judged) / max(1, len(judged)), 4)}
