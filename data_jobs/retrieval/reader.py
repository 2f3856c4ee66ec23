"""The reader: does this window of text answer this question, where, and how well does it fit?

A small cross-encoder reads question and window together (Nogueira and Cho 2019; answerability beside the span after
Devlin et al. 2018 for SQuAD 2). It never reads whole passages, which would take too long on a laptop's processor: a
*window* is the best sentence of a passage with its neighbours. ``windows`` cuts them out of a search's result, without
any model; ``load_reader`` gives what reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from data_jobs.retrieval.reading import SHIPPED, Reading, Window, load
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.text.units import ROW, TITLE

if TYPE_CHECKING:
    from cluster.core.records import Chunk, Passage

MAX_WINDOWS = 2  # on eight small folders and on SQuAD, eight told no more
WINDOW_CHARS = 240  # about 55 tokens of English
TITLE_CHARS = 90
LEXICAL = 0.5  # what the share of the question's words counts beside the cosine, where sentences are compared
LATER = 0.01  # what a sentence is worth less for every passage before its own


class Reader(Protocol):
    """Reads windows; ``load_reader`` makes one. Not thread-safe."""

    def read(self, question: str, windows: Sequence[Window]) -> list[Reading]:
        """One reading for each window, in the order given."""
        ...


def windows(retrieval: Retrieval, most: int = MAX_WINDOWS) -> list[Window]:
    """The windows that a reader should see of a search's result, at most ``most``, in the order of their passages.

    They lie around the best sentences of all passages; none of these is in two windows. A passage without scored
    sentences gives the beginning of its text.
    """
    own: dict[int, list[ScoredSentence]] = {}
    for sentence in retrieval.sentences:
        own.setdefault(sentence.passage, []).append(sentence)
    found: list[Window] = []

    def add(number: int, centre: ScoredSentence | None) -> None:
        known = any(w.passage == number and (centre is None or _holds(w, centre)) for w in found)
        if len(found) < most and not known:
            found.append(window_around(number, retrieval.passages[number], own.get(number, []), centre))

    ranked = sorted((s for s in retrieval.sentences if s.kind != TITLE), key=_worth, reverse=True)
    for sentence in ranked:
        add(sentence.passage, sentence)
    for number in range(len(retrieval.passages)):
        if not any(s.passage == number for s in ranked):
            add(number, None)
    return sorted(found, key=lambda window: (window.passage, window.start))


def window_around(
    number: int, passage: Passage | Chunk, sentences: Sequence[ScoredSentence], centre: ScoredSentence | None
) -> Window:
    """The window around a sentence of a passage: its neighbours join in turn while they fit, an earlier one first,
    because it tells what a pronoun stands for."""
    if centre is None:
        return Window(window_title(passage), passage.text[:WINDOW_CHARS].rstrip(), number, passage.start)
    first = last = next(i for i, s in enumerate(sentences) if s.start == centre.start)
    start, end = centre.start, centre.end
    grew = True
    while grew:
        grew = False
        if first > 0 and end - sentences[first - 1].start <= WINDOW_CHARS:
            first, start, grew = first - 1, sentences[first - 1].start, True
        if last + 1 < len(sentences) and sentences[last + 1].end - start <= WINDOW_CHARS:
            last, end, grew = last + 1, sentences[last + 1].end, True
    text = passage.text[start - passage.start : end - passage.start]
    return Window(window_title(passage, centre), text, number, start)


def window_title(passage: Passage | Chunk, centre: ScoredSentence | None = None) -> str:
    """The document's title, the nearest heading above, and for a row of a table the names of its columns."""
    parts = [passage.title or passage.document]
    heading = passage.context.rpartition("\n")[2].rpartition(" > ")[2]
    if heading and heading not in parts[0]:
        parts.append(heading)
    if centre is not None and centre.kind == ROW and centre.header:
        parts.append(" ".join(centre.header.split("\n")[0].replace("|", " ").split()))
    return " | ".join(" ".join(part.split())[:TITLE_CHARS] for part in parts)


def _worth(sentence: ScoredSentence) -> float:
    return sentence.dense + LEXICAL * sentence.lexical - LATER * sentence.passage


def _holds(window: Window, sentence: ScoredSentence) -> bool:
    return window.start <= sentence.start and sentence.end <= window.start + len(window.text)


def load_reader(name: str = SHIPPED, threads: int = 2) -> Reader | None:
    """The reader in a folder (``plinth train reader`` publishes them), ``shipped`` for the one that comes with the
    program; None for an empty name, and where the program came without one.

    Raises:
        BadInputError: the folder holds no reader, or one of another format.
    """
    return load(name, threads)
