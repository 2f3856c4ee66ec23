"""Runs a question suite against an answerer and counts: what is right, what is cited, what is refused.

A question is *answered* when the reply is grounded. Citations and names count for answerable questions only, whether
or not the reply was grounded: an abstention that should have been an answer has no right citation and is a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.errors import UsageError
from train_jobs.evaluation.answerer import Answerer, Reply
from train_jobs.evaluation.metrics import Rate, accepted_in_text, first_accepted
from train_jobs.evaluation.questions import Question, load_suite

MEASURES = ("cited", "named", "retrieved", "answered", "abstained_near", "abstained_far", "abstained")
"""cited: an accepted document is among the citations. named: an answer (no refusal, which names what is
near) names an accepted function. retrieved: an accepted document is among the passages (in process only). answered:
answerable questions not refused. abstained*: unanswerable questions refused, near misses, unrelated ones, and both."""


@dataclass(frozen=True)
class QuestionResult:
    """What became of one question."""

    id: str
    split: str
    group: str
    question: str
    accepted: tuple[str, ...]
    text: str
    cited: tuple[str, ...]
    grounded: bool
    reason: str
    confidence: float
    ms: float
    cited_hit: bool
    named_hit: bool
    retrieved: tuple[str, ...]
    retrieved_rank: int | None
    words: int

    def to_dict(self) -> dict[str, Any]:
        """What the report says of the question, field by field."""
        return asdict(self)


@dataclass(frozen=True)
class SuiteResult:
    """Everything one run found. ``rates[split][measure]``; splits are those asked for, and ``all``."""

    suite: str
    answerer: str
    index_version: str
    questions: tuple[QuestionResult, ...]
    rates: dict[str, dict[str, Rate]]
    latency_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON: rates with their intervals, latency in ms, and every question with its reply."""
        return {
            "suite": self.suite,
            "answerer": self.answerer,
            "index_version": self.index_version,
            "rates": {
                split: {name: rate.to_dict() for name, rate in table.items()} for split, table in self.rates.items()
            },
            "latency_ms": self.latency_ms,
            "questions": [question.to_dict() for question in self.questions],
        }

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Lines of a table: split, measure, rate, 95 % interval, hits/total."""
        lines = []
        for split, table in self.rates.items():
            for name, rate in table.items():
                low, high = rate.interval
                if rate.value is not None:
                    line = (split, name, f"{rate.value:.3f}", f"{low:.2f}-{high:.2f}", f"{rate.hits}/{rate.total}")
                    lines.append(line)
        return lines


def run_suite(
    suite: str | Sequence[Question],
    answerer: Answerer,
    *,
    splits: Collection[str] = ("tune", "report"),
    aliases: Mapping[str, Collection[str]] | None = None,
    on_question: Callable[[int, int], None] | None = None,
) -> SuiteResult:
    """Ask every question of the chosen splits, one after the other.

    Args:
        suite: a shipped suite's name, the path of a .jsonl file, or questions.
        aliases: other public names of a document (``Document.aliases``), so that a re-export counts as the same thing.
        on_question: called with (done, total) after each question: progress.

    Raises:
        UsageError: unknown suite, or no question in these splits.
    """
    loaded = load_suite(suite) if isinstance(suite, str) else list(suite)
    questions = [question for question in loaded if question.split in splits]
    if not questions:
        raise UsageError(f"suite {suite!r} has no question in the splits {', '.join(splits)}")
    results, versions = [], set()
    for done, question in enumerate(questions, 1):
        reply = answerer.ask(question.question)
        versions.add(reply.index_version)
        results.append(_judged(question, reply, aliases or {}))
        if on_question:
            on_question(done, len(questions))
    return SuiteResult(
        suite=suite if isinstance(suite, str) else "custom",
        answerer=answerer.name,
        index_version=", ".join(sorted(versions)),
        questions=tuple(results),
        rates=_tables(results),
        latency_ms=_latency([result.ms for result in results]),
    )


def _judged(question: Question, reply: Reply, aliases: Mapping[str, Collection[str]]) -> QuestionResult:
    made = reply.answer
    cited = tuple(citation.document for citation in made.citations)
    return QuestionResult(
        id=question.id,
        split=question.split,
        group=question.group,
        question=question.question,
        accepted=question.accepted,
        text=made.text,
        cited=cited,
        grounded=made.grounded,
        reason=made.reason,
        confidence=round(made.confidence, 4),
        ms=round(reply.ms, 2),
        cited_hit=first_accepted(cited, question.accepted, aliases) is not None,
        named_hit=made.grounded and accepted_in_text(made.text, cited, question.accepted, aliases),
        retrieved=reply.retrieved,
        retrieved_rank=first_accepted(reply.retrieved, question.accepted, aliases),
        words=len(made.text.split()),
    )


def _tables(results: Sequence[QuestionResult]) -> dict[str, dict[str, Rate]]:
    splits = sorted({result.split for result in results}, key=["tune", "report"].index)
    tables = {split: _rates([result for result in results if result.split == split]) for split in splits}
    return tables if len(splits) == 1 else {**tables, "all": _rates(results)}


def _rates(results: Sequence[QuestionResult]) -> dict[str, Rate]:
    answerable = [result for result in results if result.group == "answerable"]
    unanswerable = [result for result in results if result.group != "answerable"]
    rates = {
        "cited": Rate.of(result.cited_hit for result in answerable),
        "named": Rate.of(result.named_hit for result in answerable),
        "retrieved": Rate.of(result.retrieved_rank is not None for result in answerable if result.retrieved),
        "answered": Rate.of(result.grounded for result in answerable),
        "abstained_near": Rate.of(not result.grounded for result in unanswerable if result.group == "near"),
        "abstained_far": Rate.of(not result.grounded for result in unanswerable if result.group == "far"),
        "abstained": Rate.of(not result.grounded for result in unanswerable),
    }
    return {name: rates[name] for name in MEASURES}


def _latency(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"p{q}": ordered[min(len(ordered) - 1, (len(ordered) * q) // 100)] for q in (50, 95)}
