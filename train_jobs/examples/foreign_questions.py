"""Questions about other fields, from a small shipped list: what a corpus most likely does not answer.

A corpus may be about any of them, so a thing that one of its documents speaks of is left out for it. Whole fields are
either for training or held out: a model is judged on fields it never refused in training.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from data_jobs.corpus.splits import is_held_out
from data_jobs.retrieval.wording import text_stems

LIST = Path(__file__).with_name("foreign_questions.txt")
HELD_OUT_FIELDS = 0.35
MAX_KNOWN = 0.5


@dataclass(frozen=True)
class Field:
    """A field of life: templates with ``{}`` and the things that go into them."""

    name: str
    templates: tuple[str, ...]
    things: tuple[str, ...]

    @property
    def held_out(self) -> bool:
        """Whether its questions are for the gate, not for training. Its name decides, the same way in every corpus."""
        return is_held_out(f"field {self.name}", HELD_OUT_FIELDS)


def load_fields(lines: Iterable[str] | None = None) -> list[Field]:
    """The shipped fields (or those of ``lines`` in the same format)."""
    fields: list[tuple[str, list[str], list[str]]] = []
    for raw in LIST.read_text(encoding="utf-8").splitlines() if lines is None else lines:
        mark, _, text = raw.strip().partition(" ")
        if raw.strip().startswith("["):
            fields.append((raw.strip().strip("[]"), [], []))
        elif mark == ">":
            fields[-1][1].append(text)
        elif mark == "-":
            fields[-1][2].append(text)
    return [Field(name, tuple(templates), tuple(things)) for name, templates, things in fields]


def foreign_questions(held_out: bool, speaks_of: Callable[[frozenset[str]], bool], picker: random.Random) -> list[str]:
    """All questions of one side about things that no document speaks of, in random order.

    Args:
        held_out: those for the gate, or those for training.
        speaks_of: whether some passage of the corpus holds all the given index terms. A field more than half of whose
            things are spoken of belongs to the corpus, and is left out whole.
    """
    questions = []
    for field in load_fields():
        foreign = [thing for thing in field.things if not speaks_of(frozenset(text_stems(thing)))]
        if field.held_out == held_out and len(foreign) >= (1 - MAX_KNOWN) * len(field.things):
            questions += [template.format(thing) for template in field.templates for thing in foreign]
    picker.shuffle(questions)
    return questions
