"""Question suites: JSON lines shipped beside this module (or any file in the same form), checked when read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cluster.core.errors import BadInputError, UsageError

SUITES = Path(__file__).with_name("suites")
Split = Literal["tune", "report"]


@dataclass(frozen=True)
class Question:
    """One question of a suite.

    Attributes:
        accepted: every document name that counts as a right answer; empty for unanswerable questions.
        group: ``answerable``, ``near`` (unanswerable, close to the corpus) or ``far`` (unanswerable, unrelated).
    """

    id: str
    split: Split
    question: str
    accepted: tuple[str, ...]
    group: Literal["answerable", "near", "far"]

    @property
    def answerable(self) -> bool:
        """Whether the corpus answers it, so that an abstention would be a miss."""
        return self.group == "answerable"


def suite_names() -> list[str]:
    """The suites that ship, in alphabetical order: what ``load_suite`` takes beside a path."""
    return sorted(path.stem for path in SUITES.glob("*.jsonl"))


def load_suite(name: str) -> list[Question]:
    """Read a shipped suite by name, or a .jsonl file by path.

    Raises:
        UsageError: there is no such suite.
        BadInputError: a line is not a question, or a name is accepted in both splits.
    """
    path = Path(name) if name.endswith(".jsonl") else SUITES / f"{name}.jsonl"
    if not path.is_file():
        raise UsageError(f"no suite {name!r}; there are {', '.join(suite_names())}, or give the path of a .jsonl file")
    questions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            questions.append(_question(json.loads(line)))
        except ValueError as error:
            raise BadInputError(f"{path}:{number}: not a question: {error}", path=str(path), line=number) from error
    _check(questions, path)
    return questions


def _question(row: Any) -> Question:
    if not isinstance(row, dict):
        raise ValueError("a line must be a JSON object")
    for field, kind in (("id", str), ("question", str), ("answerable", bool)):
        if field not in row:
            raise ValueError(f"the field {field!r} is missing")
        if not isinstance(row[field], kind):
            raise ValueError(f"the field {field!r} must be {'true or false' if kind is bool else 'text'}")
    answerable, split, accepted = row["answerable"], row.get("split", "report"), row.get("accepted", [])
    if answerable and "accepted" not in row:
        raise ValueError("the field 'accepted' is missing: an answerable question names the documents that answer it")
    if not isinstance(accepted, list) or not all(isinstance(name, str) for name in accepted):
        raise ValueError("the field 'accepted' must be a list of names")
    if split not in get_args(Split):
        raise ValueError(f"the field 'split' is {split!r}, which is none of {', '.join(get_args(Split))}")
    if not row["question"].strip():
        raise ValueError("the field 'question' is empty")
    if bool(accepted) != answerable:
        raise ValueError("answerable questions, and only they, have names in 'accepted'")
    group: Any = "answerable" if answerable else "near" if row.get("near_miss") else "far"
    return Question(row["id"], split, row["question"], tuple(accepted), group)


def _check(questions: list[Question], path: Path) -> None:
    names: dict[str, str] = {}
    ids: set[str] = set()
    for question in questions:
        if question.id in ids:
            raise BadInputError(f"{path}: id {question.id} stands twice")
        ids.add(question.id)
        for name in question.accepted:
            if names.setdefault(name, question.split) != question.split:
                raise BadInputError(f"{path}: {name} is accepted in both splits: tuning would leak into the report")
