"""Rows for a reader from pages that were written for it, with what people would ask of them (``asked_pages/*.txt``).

Rules ask in a page's own words; people do not, and a reader that learns from rules turns down what is told in other
words than the question's. These pages and questions are Plinth's own. A file's form, an item a line::

    = Title of the page | Section
    The text of one window.
    + a question that it answers ||| the words of the text that answer it
    - a question that it does not answer

Sections of one title that follow each other are one page; none tells what another of its page is asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.records import Document
from data_jobs.retrieval.reader import TITLE_CHARS, Window, window_around
from data_jobs.retrieval.results import ScoredSentence
from data_jobs.retrieval.wording import text_stems
from data_jobs.text.chunks import chunk
from data_jobs.text.units import units

Row = dict[str, Any]
CHUNK_WORDS = 180  # no section is longer
FOLDER = Path(__file__).with_name("asked_pages")
# Of the answered questions that are asked, too, of: another window of their section; another section; another page.
PART, BESIDE, ELSEWHERE = 0.6, 0.4, 0.15


@dataclass
class Section:
    """A section of a page. ``answered``: question and the words that answer it; ``unanswered``: questions."""

    title: str
    heading: str
    text: str = ""
    answered: list[tuple[str, str]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


def read_pages(path: Path) -> list[list[Section]]:
    """The pages of a file.

    Raises:
        BadInputError: a line out of its place, or an answer that is not in its text; the line is named.
    """
    pages: list[list[Section]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, said = line.strip().partition(" ")
        if not line.strip():
            continue
        if mark == "=":
            title, _, heading = (part.strip() for part in said.partition("|"))
            if not pages or pages[-1][0].title != title:
                pages.append([])
            pages[-1].append(Section(title, heading))
            continue
        if not pages:
            raise BadInputError(f"{path.name}, line {number}: a page begins with `= Title | Section`")
        section = pages[-1][-1]
        if mark == "+":
            question, _, answer = (part.strip() for part in said.partition("|||"))
            if not answer or answer not in section.text:
                raise BadInputError(f"{path.name}, line {number}: the text above does not hold the answer {answer!r}")
            section.answered.append((question, answer))
        elif mark == "-":
            section.unanswered.append(said.strip())
        elif section.text:
            raise BadInputError(f"{path.name}, line {number}: a section has one line of text")
        else:
            section.text = line.strip()
    return pages


def page_rows(folder: Path, seed: int, files: str = "*.txt") -> Iterator[Row]:
    """Rows as ``reader.train_reader`` takes them, of the pages in a folder's files: each question over the windows that
    a search would show of its section, and those that are answered over their page's other sections, too."""
    picker = random.Random(seed)  # noqa: S311 (no secret)
    pages = [page for path in sorted(folder.glob(files)) for page in read_pages(path)]
    own = [[_windows(section) for section in page] for page in pages]
    for number, page in enumerate(pages):
        name = f"{page[0].title} {number}"
        for place, section in enumerate(page):
            shown = own[number][place]
            beside = [window for other, windows in enumerate(own[number]) if other != place for window in windows]
            for question, answer in section.answered:
                at = section.text.index(answer)
                end = at + len(answer)
                held = [w for w in shown if w.start <= at and end <= w.start + len(w.text)]
                for window in sorted(held, key=lambda w: -min(at - w.start, w.start + len(w.text) - end))[:2]:
                    yield {
                        **_row(question, window, name, "answered"),
                        "answer": [at - window.start, end - window.start],
                    }
                rest = [window for window in shown if answer not in window.text]
                for kind, share, others in (("part", PART, rest), ("beside", BESIDE, beside)):
                    if others and picker.random() < share:
                        yield _row(question, _nearest(question, others)[0], name, kind)
                if picker.random() < ELSEWHERE and len(own) > 1:
                    other = picker.choice([n for n in range(len(own)) if n != number])
                    theirs = [window for windows in own[other] for window in windows]
                    yield _row(question, _nearest(question, theirs)[0], name, "elsewhere")
            for question in section.unanswered:
                yield _row(question, _nearest(question, shown)[0], name, "unanswered")


def _windows(section: Section) -> list[Window]:
    """The different windows of a section, in order, as ``windows`` cuts them around a sentence."""
    title = " | ".join(part[:TITLE_CHARS] for part in (section.title, section.heading) if part)
    document = Document(title, title, section.text, "", kind="file")
    found: dict[int, Window] = {}
    for piece in chunk(document, lambda text: len(text.split()), CHUNK_WORDS):
        units_of = units(piece.text, piece.header, not piece.start)
        scored = [
            ScoredSentence(0, piece.start + u.start, piece.start + u.end, piece.text[u.start : u.end], 0.0, 0.0, u.kind)
            for u in units_of
        ]
        for sentence in scored:
            window = window_around(0, piece, scored, sentence)
            found[window.start] = Window(title, window.text, 0, window.start)
    return [found[start] for start in sorted(found)]


def _nearest(question: str, windows: Sequence[Window]) -> list[Window]:
    """The windows, those that share most of the question's words first."""
    asked = text_stems(question)
    return sorted(windows, key=lambda w: -len(asked & text_stems(w.text)))


def _row(question: str, window: Window, document: str, kind: str) -> Row:
    return {
        "question": question, "title": window.title, "text": window.text, "answerable": kind == "answered",
        "document": document, "kind": f"page_{kind}",
    }  # fmt: skip
