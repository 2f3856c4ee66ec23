"""The rows that the shipped reader learnt from: ``shipped_rows``, and ``plinth train reader`` over its files.

Lawful to ship: half of the titles of the SQuAD 2 half (CC BY-SA 4.0, so that the weights are under it, too), the
questions shipped for the standard library, pages written for it with people's questions (``page_rows``), and rows that
rules make of permissively licensed documents and of pages that do not exist. The other half of the titles is never
trained on (``squad_titles``).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.core.records import Document
from data_jobs.retrieval.reader import Window
from data_jobs.retrieval.wording import text_stems
from data_jobs.sources.pydocs.documents import read_pydocs
from data_jobs.synthetic.contrast import contrast_rows, places_of
from data_jobs.synthetic.facts import another_number
from data_jobs.synthetic.invented import invented_rows
from train_jobs.recipes.page_rows import FOLDER, page_rows

Row = dict[str, Any]
# What the shipped reader learnt from, one epoch each, one after the other: the most rows of each source. ``pages_1``
# and ``pages_2`` are the halves of the pages that were written for it.
FIRST = {"squad": 9500, "paragraphs": 900, "stdlib": 7500, "concepts": 400, "rustbook": 1500, "invented": 6000}
THEN = {
    "pages_1": 100_000, "squad": 9500, "paragraphs": 300, "stdlib": 2500, "concepts": 300, "rustbook": 500,
    "invented": 1500,
}  # fmt: skip
LAST = {
    "pages_2": 100_000,
    "pages_1": 7000,
    "squad": 6000,
    "stdlib": 1200,
    "concepts": 200,
    "rustbook": 300,
    "invented": 700,
}
UNASKED = 800
_ENTITY = re.compile(
    r"\b(?!(?:What|When|Where|Who|Which|How|Why|In|The|During|On)\b)[A-Z][\w'-]+(?: (?:of )?[A-Z][\w'-]+)*"
)
# Words that turn a question round. Each is replaced by its other.
OPPOSITES = dict(
    pair
    for a, b in (
        ("first", "last"), ("largest", "smallest"), ("most", "fewest"), ("more", "fewer"), ("before", "after"),
        ("increase", "decrease"), ("increased", "decreased"), ("north", "south"), ("northern", "southern"),
        ("east", "west"), ("eastern", "western"), ("won", "lost"), ("win", "lose"), ("began", "ended"),
        ("begin", "end"), ("start", "end"), ("started", "ended"), ("old", "new"), ("oldest", "newest"),
        ("highest", "lowest"), ("high", "low"), ("early", "late"), ("majority", "minority"), ("allow", "forbid"),
        ("allowed", "forbidden"), ("supported", "opposed"), ("support", "oppose"), ("above", "below"),
        ("major", "minor"), ("inside", "outside"), ("left", "joined"), ("best", "worst"), ("built", "destroyed"),
    )
    for pair in ((a, b), (b, a))
)  # fmt: skip


# What the language itself has: its documentation is elsewhere, docstrings only mention it. The others are reported on.
CONCEPTS = ("class", "generator", "for loop", "exception", "variable", "docstring", "comprehension", "default argument",
            "method", "keyword argument", "import", "string", "module", "while loop", "dictionary")  # fmt: skip
_CONCEPT_ASKED = (
    "How do I define a {c}?", "What is a {c}?", "How do I write a {c}?", "How does a {c} work in Python?",
    "What is the syntax of a {c}?", "When should I use a {c}?", "How do I create my own {c}?",
)  # fmt: skip


def squad_titles(data: Path) -> tuple[list[str], list[str]]:
    """The titles to learn from, and those to report on: every second one, in the order of the file."""
    titles = list(dict.fromkeys(row["title"] for row in _rows(data / "qa_squad2" / "contexts.jsonl")))
    return titles[1::2], titles[::2]


def squad_documents(data: Path, titles: Sequence[str]) -> list[Document]:
    """The paragraphs of some titles, a document each."""
    return [
        Document(row["context_id"], row["title"].replace("_", " "), row["context"], "", kind="record")
        for row in _rows(data / "qa_squad2" / "contexts.jsonl")
        if row["title"] in titles
    ]


def squad_rows(data: Path, titles: Sequence[str], seed: int, near: bool = True) -> Iterator[Row]:
    """Questions of some titles with windows of the right paragraph and, where ``near``, made-up near misses."""
    picker = random.Random(seed)  # noqa: S311 (no secret)
    paragraphs = {document.id: document for document in squad_documents(data, titles)}
    windows = {name: windows_of(document) for name, document in paragraphs.items()}
    names = sorted({m for d in paragraphs.values() for m in _ENTITY.findall(d.text) if len(m) > 3})
    for asked in _rows(data / "qa_squad2" / "questions.jsonl"):
        own = windows.get(asked["context_id"])
        if not own:
            continue
        question, golds = asked["question"].strip(), list(zip(asked["answers"], asked["answer_starts"], strict=True))
        if asked["is_impossible"]:
            best, *rest = nearest(question, own)
            for window in [best, *picker.sample(rest[:3], min(1, len(rest)))][: 2 if near else 1]:
                yield _row(question, window, False, asked["context_id"], "squad_impossible")
            continue
        answer, at = picker.choice(golds)
        gold = [w for w in own if w.start <= at and at + len(answer) <= w.start + len(w.text)]
        if not gold:
            continue
        gold.sort(key=lambda w: -min(at - w.start, w.start + len(w.text) - at))
        window = gold[0]
        for held in (window, picker.choice(gold))[: 2 if near else 1]:
            row = _row(question, held, True, asked["context_id"], "squad_answered")
            yield {**row, "answer": [at - held.start, at - held.start + len(answer)]}
        if not near:
            continue
        texts = [answer.lower() for answer in asked["answers"]]
        others = [w for w in own if not any(text in w.text.lower() for text in texts)]
        if others:
            yield _row(question, nearest(question, others)[0], False, asked["context_id"], "squad_part")
        far = [w for w in windows[picker.choice(sorted(windows))] if not any(text in w.text.lower() for text in texts)]
        if far and picker.random() < 0.5:
            yield _row(question, nearest(question, far)[0], False, asked["context_id"], "squad_elsewhere")
        for changed in (turned(question, picker), renamed(question, window, names, picker)):
            if changed:
                yield _row(changed, window, False, asked["context_id"], "squad_changed")


def concept_rows(documents: Sequence[Document], seed: int) -> Iterator[Row]:
    """Questions on the language over docstrings that mention what is asked for: near misses all of them."""
    picker = random.Random(seed)  # noqa: S311 (no secret)
    for document in documents:
        said = document.text[:300].lower()
        held = [c for c in CONCEPTS if c in said and c not in document.id.lower() and c not in document.title.lower()]
        own = windows_of(document)[:1] if held else []
        for window in own:
            question = picker.choice(_CONCEPT_ASKED).format(c=picker.choice(held)).replace("a import", "an import")
            yield _row(question.replace("a exception", "an exception"), window, False, document.id, "concept")


def windows_of(document: Document) -> list[Window]:
    """The different windows of a document, in order."""
    found = {place.window.start: place.window for place in places_of(document)}
    return [found[start] for start in sorted(found)]


def nearest(question: str, windows: Sequence[Window]) -> list[Window]:
    """The windows, those that share most of the question's words first."""
    asked = text_stems(question)
    return sorted(windows, key=lambda w: -len(asked & text_stems(w.text)))


def turned(question: str, picker: random.Random) -> str:
    """The question with one word replaced by its opposite; empty where it has none of those."""
    words = [word for word in re.findall(r"\w+", question) if word in OPPOSITES]
    if not words:
        return ""
    word = picker.choice(words)
    return re.sub(rf"\b{word}\b", OPPOSITES[word], question, count=1)


def renamed(question: str, window: Window, names: Sequence[str], picker: random.Random) -> str:
    """The question about another number or name than the window's; empty where it has none of the window's."""
    if changed := another_number(question, window.text, picker):
        return changed
    own = [name for name in _ENTITY.findall(question) if name in window.text]
    if not own or picker.random() < 0.4:
        return ""
    other = picker.choice(names)
    known = f"{window.title} {window.text} {question}"
    return "" if other in known else question.replace(picker.choice(own), other, 1)


def shipped_rows(data: Path, out: Path, counts: dict[str, int], seed: int = 1) -> dict[str, int]:
    """Write rows of the shipped reader (``FIRST``, ``THEN``, ``LAST``) over this interpreter's standard library; takes
    minutes."""
    documents = list(read_pydocs())
    picker = random.Random(0)  # noqa: S311 (no secret)
    others = picker.sample([d for d in documents if not d.questions], UNASKED)
    some = [document for document in documents if document.questions] + others
    picker.shuffle(some)
    return write_rows(data, some, out, seed, counts)


def write_rows(
    data: Path, documents: Sequence[Document], out: Path, seed: int, counts: dict[str, int]
) -> dict[str, int]:
    """Write the training file; returns how many rows of which source it has.

    Args:
        data: the folder with ``qa_squad2`` and ``pretrain_docs_rustbook``.
        documents: of the standard library, with the questions shipped for them.
        counts: the most rows of each source (``squad`` is repeated with other near misses up to its count).
    """
    picker = random.Random(seed)  # noqa: S311 (no secret)
    learn = squad_titles(data)[0]
    paragraphs = squad_documents(data, learn)
    sources: dict[str, list[Row]] = {
        "squad": [row for turn in range(6) for row in squad_rows(data, learn, seed + turn)],
        "paragraphs": [r.to_dict() for r in contrast_rows(paragraphs, seed, 12)],
        "stdlib": [r.to_dict() for r in contrast_rows(documents, seed, 3)],
        "concepts": list(concept_rows(documents, seed)),
        "rustbook": [r.to_dict() for r in contrast_rows(documents_of(data / "pretrain_docs_rustbook"), seed, 20)],
        "invented": [r.to_dict() for r in invented_rows(counts.get("invented", 0), seed)],
        **{f"pages_{part}": list(page_rows(FOLDER, seed, f"*_{part}.txt")) for part in (1, 2)},
    }
    chosen: list[Row] = []
    for name, rows in sources.items():
        most = counts.get(name, 0)
        rows = rows[:most] if name == "squad" else picker.sample(rows, min(len(rows), most))
        chosen += [{**row, "source": name} for row in rows]
    picker.shuffle(chosen)
    out.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return {name: sum(row["source"] == name for row in chosen) for name in sources}


def documents_of(folder: Path) -> list[Document]:
    """The documents of a set of pages (docs.jsonl)."""
    return [
        Document(row["id"], row["title"] or _heading(row["text"]), row["text"], "", kind="file")
        for row in _rows(folder / "docs.jsonl")
    ]


def _heading(text: str) -> str:
    found = re.search(r"^(?:#+ (.+)|title: (.+))$", text, re.MULTILINE)
    return (found[1] or found[2]).strip() if found else ""


def _row(question: str, window: Window, answerable: bool, document: str, kind: str) -> Row:
    return {
        "question": question, "title": window.title, "text": window.text, "answerable": answerable,
        "document": document, "kind": kind,
    }  # fmt: skip


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
