"""A model that writes from evidence, held against the pointing model and the quote tier on the same held-out questions.

All three are scored by the sentence of the documents they answer with, so that none wins by its wording: the model that
writes by the evidence its statements cite, after the check that every answer goes through in the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train_jobs.answering.grounded import Statements
from train_jobs.evaluation.generate import Generate
from train_jobs.evaluation.held_out import RIGHT, Heard, Row, counted, hear, paired, scores
from train_jobs.evaluation.metrics import token_f1
from train_jobs.recipes.grounded_rows import evidence_of_row

Prompt = Callable[[Row], str]


@dataclass
class Counts:
    """What became of the statements that a model wrote: its own words, the quotation instead, or nothing; and how many
    words it wrote in those that were let through."""

    own: int = 0
    replaced: int = 0
    dropped: int = 0
    words: int = 0
    said: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; ``unsupported``: share of the statements written that the check did not let through."""
        written = self.own + self.replaced + self.dropped
        return {
            "statements": written, "own": self.own, "replaced": self.replaced, "dropped": self.dropped,
            "unsupported": (self.replaced + self.dropped) / written if written else 0.0,
            "words_a_statement": self.words / self.own if self.own else 0.0,
        }  # fmt: skip


def hear_writer(rows: Sequence[Row], generate: Generate, prompt: Prompt) -> tuple[Heard, Counts]:
    """What a model that writes comes to on every row: asked only where the passages support an answer, as in the
    service, and each statement checked."""
    counts = Counts()

    def read(row: Row, text: str) -> list[int] | None:
        statements = Statements(evidence_of_row(row))
        made = statements.feed(text, final=True)
        counts.own += statements.own
        counts.replaced += statements.replaced
        counts.dropped += statements.dropped
        counts.words += sum(len(one.text.split()) for one in made)
        counts.said += [one.text for one in made if one.text]
        return [one.evidence for one in made] if made or statements.refused else None

    asked = [place for place, row in enumerate(rows) if row["supported"] and row["evidence"]]
    heard = hear([rows[place] for place in asked], generate, prompt, read)
    points: list[list[int] | None] = [[] for _ in rows]
    for place, found in zip(asked, heard.points, strict=True):
        points[place] = found
    return Heard(points, [None] * len(rows), heard.ms), counts


def compare(
    rows: Sequence[Row], writer: Heard, counts: Counts, pointing: Heard | None, pace: Mapping[str, float]
) -> dict[str, Any]:
    """The report that a gate decides on: the writer's own (``HeldOutReport``), and beside it

    ``contenders``: of ``writer``, ``pointing`` and ``quote``: shares ``answered``, ``right`` and ``named`` (the first
    sentence is the gold one, the first document its document) of the answerable questions, ``abstained`` of the others,
    and the mean ``score``; ``against``: the writer's score less each other's over all questions, with the 95 % interval
    over documents; ``written``: ``Counts``; ``pace``: ``ConvertedModel.pace``.
    """
    own = scores(rows, writer)
    groups = [str(row["document"] or row["question"]) for row in rows]
    quoted = [_quoted(row) for row in rows]
    contenders = {"writer": _contender(rows, [_pointed(row, p) for row, p in zip(rows, writer.points, strict=True)])}
    rivals = {"quote": [_score(row, said[0]) for row, said in zip(rows, quoted, strict=True)]}
    if pointing is not None:
        rivals["pointing"] = scores(rows, pointing)
        found = [_pointed(row, points) for row, points in zip(rows, pointing.points, strict=True)]
        contenders["pointing"] = {**_contender(rows, found), "ms": pointing.ms["p50"]}
    contenders["writer"]["ms"] = writer.ms["p50"]
    contenders["quote"] = _contender(rows, quoted)
    means = {"writer": own, **rivals}
    for name, values in means.items():
        contenders[name]["score"] = float(np.mean(values))
    against = {
        name: paired([a - b for a, b in zip(own, theirs, strict=True)], groups) for name, theirs in rivals.items()
    }
    return {
        **counted(rows, writer).to_dict(), "contenders": contenders, "against": against, "written": counts.to_dict(),
        "pace": dict(pace),
    }  # fmt: skip


def _pointed(row: Row, points: list[int] | None) -> tuple[str, str]:
    """The first sentence and document of an answer; empty where there is none."""
    return (row["sentences"][points[0]], row["documents"][points[0]]) if points else ("", "")


def _quoted(row: Row) -> tuple[str, str]:
    said = row["quote"]
    return (said["sentence"], said["document"]) if said["grounded"] else ("", "")


def _score(row: Row, sentence: str) -> float:
    if not row["answerable"]:
        return float(not sentence)
    return token_f1(sentence, row["gold_sentence"]) if sentence else 0.0


def _contender(rows: Sequence[Row], said: Sequence[tuple[str, str]]) -> dict[str, float]:
    pairs = list(zip(rows, said, strict=True))
    asked = [(row, sentence, document) for row, (sentence, document) in pairs if row["answerable"]]
    foreign = [sentence for row, (sentence, _) in pairs if not row["answerable"]]
    return {
        "answered": _share([bool(sentence) for _, sentence, _ in asked]),
        "right": _share([token_f1(sentence, row["gold_sentence"]) >= RIGHT for row, sentence, _ in asked]),
        "named": _share([document == row["document"] for row, _, document in asked]),
        "abstained": _share([not sentence for sentence in foreign]),
    }


def _share(outcomes: Sequence[bool]) -> float:
    return float(np.mean(outcomes)) if outcomes else 0.0
