"""The encoder under the safety heads: what it learns from, and the folder that is made of what was taught.

It is a classifier (``plinth train classifier``) of {text, label} over ``encoder_rows``, whose own head is left behind:
the heads of ``plinth train safety`` are fitted on its vectors. It learns from what was written for it only, and never
from the last block of a written set (``safety_rows.unseen``), so that what the heads are worth is told by texts it has
not seen.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from data_jobs.safety.head import LOOK_ALIKE
from data_jobs.safety.rules import INJECTION
from data_jobs.sources.pydocs.documents import read_pydocs
from train_jobs.recipes import page_rows
from train_jobs.recipes.rows import Row
from train_jobs.recipes.safety_rows import BENIGN, unseen, written_rows

LONGEST = 600  # characters of a text that is put together; the classifier reads 128 tokens
# Texts of each kind: questions and sections of the pages written for the reader, paragraphs of docstrings, and
# sections into which an attack, or an ordinary text, was put.
PAGES, DOCSTRINGS, INSIDE = 2500, 1500, 1200
# Of the written texts: how many stand beside an ordinary one, and in front of it rather than behind.
JOINED, FIRST = 0.3, 0.35
SHOUTED, BARE, MISTYPED = 0.05, 0.1, 0.05
BETWEEN = (" ", "\n", "\n\n", ". ")
_MARKS = re.compile(r"[^\w\s]")
_SENTENCE = re.compile(r"(?<=[.!?]) ")


def encoder_rows(seed: int) -> list[dict[str, str]]:
    """Rows of {text, label}, each written text once, as it is or changed: another seed, other changes."""
    picker = random.Random(seed)  # noqa: S311 (no secret)
    written = [row for row in written_rows() if not unseen(row["set"])]
    ordinary = [row["text"] for row in written if row["label"] == BENIGN and not row["slice"]]
    rows = [(varied(row["text"], ordinary, picker), row["label"]) for row in written]
    questions, sections = _pages(picker)
    rows += [(text, BENIGN) for text in questions[:PAGES] + sections[:PAGES] + _docstrings(picker)]
    rows += _inside(written, sections, picker)
    picker.shuffle(rows)
    return [{"text": text, "label": label} for text, label in rows]


def varied(text: str, ordinary: Sequence[str], picker: random.Random) -> str:
    """A text as somebody else might send it: beside another one, shouted, without marks, mistyped, or as it is."""
    if picker.random() < JOINED and len(text) < LONGEST:
        other = picker.choice(
            [each for each in picker.sample(ordinary, min(8, len(ordinary))) if len(each) < LONGEST] or [""]
        )
        parts = (text, other) if picker.random() < FIRST else (other, text)
        text = picker.choice(BETWEEN).join(filter(None, parts))
    chance = picker.random()
    if chance < SHOUTED:
        return text.upper()
    if chance < SHOUTED + BARE:
        return _MARKS.sub("", text) or text
    if chance < SHOUTED + BARE + MISTYPED:
        letters = list(text)
        for _ in range(len(letters) // 40):
            at = picker.randrange(len(letters) - 1)
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        return "".join(letters)
    return text


def write_rows(out: Path, seed: int) -> int:
    """Write the training file; how many rows it has."""
    rows = encoder_rows(seed)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def ship(classifier: Path, out: Path) -> None:
    """Make the encoder's folder of a published classifier's: its network in 8 bits, without its head."""
    from safetensors.torch import load_file, save_file

    from data_jobs.retrieval.bert import packed

    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(classifier / "model.safetensors")
    own = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
    save_file(packed(own), out / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "tokenizer.json"):
        (out / name).write_bytes((classifier / name).read_bytes())


def _pages(picker: random.Random) -> tuple[list[str], list[str]]:
    """Questions, and sections with their titles, of the pages that were written for the reader."""
    pages = [page for path in sorted(page_rows.FOLDER.glob("*.txt")) for page in page_rows.read_pages(path)]
    sections = [section for page in pages for section in page]
    questions = [asked for section in sections for asked in (*(q for q, _ in section.answered), *section.unanswered)]
    texts = [(f"{section.title}: " if picker.random() < 0.3 else "") + section.text[:LONGEST] for section in sections]
    picker.shuffle(questions)
    picker.shuffle(texts)
    return questions, texts


def _docstrings(picker: random.Random) -> list[str]:
    """Paragraphs of the standard library's documentation."""
    texts = [part for document in read_pydocs() for part in document.text.split("\n\n")]
    whole = sorted({part.strip() for part in texts if 60 < len(part.strip()) < LONGEST})
    return picker.sample(whole, min(DOCSTRINGS, len(whole)))


def _inside(written: Sequence[Row], sections: Sequence[str], picker: random.Random) -> list[tuple[str, str]]:
    """Sections of pages into which another text was put between two sentences: an attack, or one that is none."""

    def short(wanted: Callable[[Row], bool]) -> list[Row]:
        return [
            row for row in written if "indirect" not in row["set"] and len(row["text"]) < LONGEST // 2 and wanted(row)
        ]

    found = []
    kinds = (
        short(lambda row: row["label"] == INJECTION),
        short(lambda row: row["slice"] == LOOK_ALIKE or row["label"] == BENIGN),
    )
    for own in kinds:
        for row in picker.sample(own, min(INSIDE, len(own))):
            parts = _SENTENCE.split(picker.choice(sections)[:LONGEST])
            parts.insert(picker.randint(0, len(parts)), row["text"])
            found.append((" ".join(parts), row["label"]))
    return found
