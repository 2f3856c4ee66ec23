"""What a model that writes from evidence learns from: the examples of a corpus, as conversations.

The examples are those of the pointing model: the same questions, searched as in the service. What the model is taught
to write is what it may say (``answering.faithful``): the sentence that answers, without what stands in brackets or
leads to it, and its number; or that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from train_jobs.answering.chat import NOT_KNOWN
from train_jobs.answering.faithful import faithful
from train_jobs.answering.grounded import INSTRUCTION, Evidence, user_message
from train_jobs.evaluation.metrics import token_f1
from train_jobs.examples.rows import RIGHT

Example = Mapping[str, Any]
_BRACKETS = re.compile(r"\s*(?:\([^()]*\)|(?<=\w) [—–] [^—–.;]*[—–](?= ))")
_LEADING = re.compile(
    r"^(?:However|Therefore|Thus|Hence|Moreover|Furthermore|Additionally|In addition|For example|For instance|Finally"
    r"|In fact|Also|Similarly|Consequently|As a result|Then|Nevertheless|Nonetheless|Indeed),\s+(?=\w)"
)
LEAST_WORDS = 4


def evidence_of_row(row: Example) -> list[Evidence]:
    """The evidence that a row shows."""
    return [Evidence(**one) for one in row["evidence"]]


def right_evidence(row: Example, evidence: list[Evidence]) -> int | None:
    """The place of the evidence that says what the gold sentence says; None where none does."""
    gold = row["gold_sentence"]
    best = max(((token_f1(one.text, gold), -place) for place, one in enumerate(evidence)), default=(0.0, 0))
    return -best[1] if row["answerable"] and best[0] >= RIGHT else None


def shortened(one: Evidence) -> str:
    """The evidence in fewer words where it can be had without saying anything else."""
    text = _LEADING.sub("", one.text)
    for said in (_BRACKETS.sub("", text), text):
        said = said[:1].upper() + said[1:]
        if len(said.split()) >= LEAST_WORDS and faithful(said, one.text, one.heading):
            return said
    return one.text


def conversations(rows: Iterable[Example]) -> Iterator[list[dict[str, str]]]:
    """The conversations of examples, each question once; one whose answer is not among the evidence shown teaches
    nothing and is left out."""
    seen = set()
    for row in rows:
        key = row["question"], row["gold_sentence"], row["answerable"]
        if key in seen or not row["evidence"]:
            continue
        seen.add(key)
        evidence = evidence_of_row(row)
        right = right_evidence(row, evidence)
        if right is None and row["answerable"]:
            continue
        said = NOT_KNOWN if right is None else f"{shortened(evidence[right])} [{right + 1}]"
        yield [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": user_message(row["question"], evidence)},
            {"role": "assistant", "content": said},
        ]
