"""The held-out evaluation with models that are faked at their border: prompts in, completions out."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from actors.policies.gate import decide
from cluster.core.sections.train import GateSection
from train_jobs.answering.prompt import completion
from train_jobs.evaluation.generate import Said
from train_jobs.evaluation.held_out import evaluate, paired
from train_jobs.evaluation.metrics import token_f1
from train_jobs.publishing.card import render

SECTION = GateSection(questions=120, unanswerable=60)
TOPICS = (
    "copy",
    "move",
    "delete",
    "rename",
    "open",
    "close",
    "read",
    "write",
    "parse",
    "format",
    "split",
    "join",
    "sort",
)


def rows(answerable: int = 120, unanswerable: int = 60) -> list[dict[str, Any]]:
    """Questions whose right sentence is somewhere among four; the first passage opens with it in half of the cases."""
    made = []
    for number in range(answerable + unanswerable):
        verbs = [TOPICS[(number * 5 + step) % len(TOPICS)] for step in range(4)]
        shown = [f"{verb} the {verb}able object number {number} and return it" for verb in verbs]
        right = number % 4
        known = number < answerable
        made.append(
            {
                "split": "held_out",
                "kind": "how" if known else ("left_out", "foreign")[number % 2],
                "question": f"how do I {verbs[right]} {number}",
                "prompt": f"{number}:" + "".join(f"<|s{i}|> {text}" for i, text in enumerate(shown)),
                "completion": completion([right] if known else []),
                "sentences": shown,
                "document": f"doc{number // 2}" if known else "",
                "gold_sentence": shown[right] if known else "",
                "answerable": known,
                "baseline": shown[right] if number % 2 else "something else entirely was said",
                "quote": {"text": "", "sentence": shown[0], "grounded": number % 10 != 0},
                "support": (number % 10) / 10,
                "supported": True,
            }
        )
    return made


def saying(table: dict[str, str]) -> Any:
    return lambda prompts: [Said(table[prompt]) for prompt in prompts]


ROWS = rows()
RIGHT = {row["prompt"]: row["completion"] for row in ROWS}


def test_a_model_that_points_right_passes_the_gate() -> None:
    report = evaluate(ROWS, saying(RIGHT), SECTION)
    assert report.answerable["model"] == pytest.approx(1.0)
    assert report.unanswerable["abstained"] == 1.0
    assert report.answerable["n"] == 120
    assert report.unanswerable["n"] == 60
    assert report.n == 180
    assert (report.difference["low"] or 0.0) > 0
    assert decide(report.to_dict(), SECTION).passed


def test_one_that_points_at_random_is_refused() -> None:
    picker = random.Random(3)
    table = {row["prompt"]: completion([picker.randrange(4)] if picker.random() < 0.6 else []) for row in ROWS}
    result = decide(evaluate(ROWS, saying(table), SECTION).to_dict(), SECTION)
    assert {check.name for check in result.checks if not check.passed} >= {"beats_baseline", "abstains"}


def test_one_that_never_abstains_is_refused_for_it() -> None:
    table = {row["prompt"]: row["completion"] if row["answerable"] else completion([0]) for row in ROWS}
    report = evaluate(ROWS, saying(table), SECTION)
    result = decide(report.to_dict(), SECTION)
    assert report.unanswerable["abstained"] == 0.0
    assert [check.name for check in result.checks if not check.passed] == ["abstains"]


def test_one_that_always_abstains_is_refused() -> None:
    report = evaluate(ROWS, lambda prompts: [Said(completion([]))] * len(prompts), SECTION)
    assert report.answerable["model"] == 0.0
    assert report.answerable["abstained"] == 1.0
    failed = {check.name for check in decide(report.to_dict(), SECTION).checks if not check.passed}
    assert failed == {"beats_baseline", "answers"}


def test_one_that_only_repeats_the_baseline_is_refused() -> None:
    """No better is not better."""
    table = {}
    for row in ROWS:
        right = row["baseline"] == row["gold_sentence"]
        other = next(i for i, text in enumerate(row["sentences"]) if text != row["gold_sentence"])
        table[row["prompt"]] = row["completion"] if right or not row["answerable"] else completion([other])
        row_score = token_f1(row["sentences"][other], row["gold_sentence"])
        row["baseline"] = row["baseline"] if right else row["sentences"][other]
        assert row_score < 1
    report = evaluate(ROWS, saying(table), SECTION)
    assert report.difference == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert not decide(report.to_dict(), SECTION).passed


def test_the_baseline_stands_behind_the_same_door() -> None:
    """What the passages do not support no tier answers: neither is the model let off, nor the baseline."""
    careful = [{**row, "supported": row["answerable"] and number % 3 != 0} for number, row in enumerate(rows())]
    first = [row["baseline"] == row["gold_sentence"] for row in careful if row["answerable"] and row["supported"]]
    report = evaluate(careful, saying(RIGHT), SECTION)
    assert report.answerable["baseline"] == pytest.approx(sum(first) / 120)
    assert (report.difference["low"] or 0.0) > 0
    never = evaluate([{**row, "supported": False} for row in rows()], saying(RIGHT), SECTION)
    assert never.answerable["baseline"] == never.answerable["model"] == 0.0


def test_nonsense_counts_as_an_abstention_and_is_reported() -> None:
    report = evaluate(ROWS, lambda prompts: [Said("the folder")] * len(prompts), SECTION)
    assert report.answerable["unreadable"] == 1.0
    assert report.answerable["model"] == 0.0


def test_what_the_passages_do_not_support_is_not_answered_whatever_the_model_says() -> None:
    unsupported = [{**row, "supported": False} for row in ROWS]
    report = evaluate(unsupported, saying(RIGHT), SECTION)
    assert report.answerable["abstained"] == 1.0
    assert report.answerable["unreadable"] == 0.0


def test_pointing_at_more_than_the_answer_costs() -> None:
    table = {
        row["prompt"]: completion([number % 4, (number + 1) % 4]) if row["answerable"] else completion([])
        for number, row in enumerate(rows())
    }
    report = evaluate(rows(), saying(table), SECTION)
    assert 0.5 < report.answerable["model"] < 1.0


def test_bands_weigh_questions_in_people_s_own_words() -> None:
    """Over rules' questions the model was better, over people's the quotation: `auto` chose the model."""
    asked = [{**row, "kind": "own" if row["answerable"] and n < 60 else row["kind"]} for n, row in enumerate(rows())]
    table = {row["prompt"]: completion([]) if row["kind"] == "own" else row["completion"] for row in asked}
    report = evaluate(asked, saying(table), SECTION)
    assert sum(band["n"] for band in report.bands) == 60 + 60, "own ones and those without an answer"
    scored = sum(band["model"] * band["n"] for band in report.bands)
    assert scored == pytest.approx(60), "the refusals, and none of the rules' questions"
    few = [{**row, "kind": "how"} if n >= 40 and row["kind"] == "own" else row for n, row in enumerate(asked)]
    assert sum(band["n"] for band in evaluate(few, saying(table), SECTION).bands) == 180


def test_bands_hold_every_row_once_and_reward_right_refusals() -> None:
    fresh = rows()
    report = evaluate(fresh, saying({r["prompt"]: r["completion"] for r in fresh}), SECTION)
    assert sum(band["n"] for band in report.bands) == len(fresh)
    assert all(band["model"] == pytest.approx(1.0) for band in report.bands if band["n"])
    lowest = report.bands[0]
    assert (lowest["low"], report.bands[-1]["high"]) == (0.0, 1.0)
    assert lowest["quote"] < 1.0


def test_latency_is_measured_one_at_a_time() -> None:
    sizes: list[int] = []

    def generate(prompts: list[str]) -> list[Said]:
        sizes.append(len(prompts))
        return [Said(RIGHT[prompt]) for prompt in prompts]

    report = evaluate(ROWS, generate, SECTION)
    assert sizes.count(1) >= 20
    assert max(sizes) > 1
    assert sum(sizes) == len(ROWS)
    assert 0 <= report.ms["p50"] <= report.ms["p95"]


def width(interval: dict[str, float | None]) -> float:
    low, high = interval["low"], interval["high"]
    assert low is not None and high is not None  # noqa: PT018
    return high - low


def test_questions_of_one_document_are_not_counted_as_independent() -> None:
    """The same differences in few documents leave a wider interval than in many."""
    differences = [1.0 if number < 60 else 0.0 for number in range(120)]
    alone = paired(differences, [str(number) for number in range(120)])
    together = paired(differences, [str(number // 20) for number in range(120)])
    assert alone["mean"] == together["mean"] == 0.5
    assert width(together) > 2 * width(alone)


def test_without_questions_nothing_is_claimed() -> None:
    report = evaluate([row for row in ROWS if not row["answerable"]], saying(RIGHT), SECTION)
    assert report.difference["low"] is None
    assert not decide(report.to_dict(), SECTION).passed


def test_f1_counts_words_as_often_as_both_have_them() -> None:
    assert token_f1("Copy the file.", "copy a file") == 1.0
    assert token_f1("copy copy file", "copy file") == pytest.approx(0.8)
    assert token_f1("", "copy") == 0.0
    assert token_f1("move", "copy") == 0.0
    assert re.fullmatch(r"0\.\d+", str(token_f1("copy one file", "copy file")))


def test_the_worst_slice_is_named_and_may_be_refused() -> None:
    """A model that fails on one source of three, and on two questions of a fourth, which are too few to count."""
    sources = {row["prompt"]: ("few" if number < 2 else f"source {number % 3}") for number, row in enumerate(ROWS)}
    tagged = [{**row, "source": sources[row["prompt"]]} for row in ROWS]
    wrong = {p for p, source in sources.items() if source in ("few", "source 1")}
    table = {row["prompt"]: "nonsense" if row["prompt"] in wrong else row["completion"] for row in ROWS}
    report = evaluate(tagged, saying(table), SECTION).to_dict()
    scores = {(one["by"], one["slice"]): (one["n"], one["score"]) for one in report["slices"]["table"]}
    assert scores["source", "few"] == (2, 0.0)
    assert scores["source", "source 2"] == (60, pytest.approx(1.0))
    assert {form for by, form in scores if by == "form"} == {"how", "left_out", "foreign"}
    assert report["slices"]["worst"] == "source 'source 1'"
    # It refuses where it says nonsense, which is right of the 20 unanswerable questions among the 59.
    assert report["slices"]["gap"] == pytest.approx(139 / 180 - 20 / 59)
    assert "Worst slice: **source 'source 1'**, 0.4332 below all questions." in render({"evaluation": report})
    refused = decide(report, SECTION.model_copy(update={"max_slice_gap": 0.1}))
    assert "worse on source 'source 1'" in refused.reason


def test_certainty_is_held_against_how_often_it_is_right() -> None:
    """Nine of ten right at a certainty of 0.9 is calibrated; all right at 0.55 is not; what is not supported is left
    out."""
    table = {r["prompt"]: "x" if n % 10 == 0 and r["answerable"] else r["completion"] for n, r in enumerate(ROWS[:120])}
    good = evaluate(ROWS[:120], lambda prompts: [Said(table[p], 0.9) for p in prompts], SECTION).to_dict()
    assert good["calibration"]["n"] == 120
    assert good["calibration"]["ece"] == pytest.approx(0.0, abs=1e-9)
    timid = evaluate(ROWS[:120], lambda prompts: [Said(RIGHT[p], 0.55) for p in prompts], SECTION).to_dict()
    assert timid["calibration"]["ece"] == pytest.approx(0.45)
    assert evaluate([{**row, "supported": False} for row in ROWS], saying(RIGHT), SECTION).calibration == {}
