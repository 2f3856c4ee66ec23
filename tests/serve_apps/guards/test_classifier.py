"""The trained guard: flags or blocks as its heads have earned, reads all of a long text, and fails closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cluster.core.errors import IncompatibleError
from data_jobs.safety.head import Head, Measured, SafetyHead
from serve_apps.errors import UnavailableError
from serve_apps.guards.chain import GuardChain
from serve_apps.guards.classifier import MOST, ClassifierGuard, read

GOOD = Measured(0.9, 0.9, 0.0, 0.0, 0.0)
HEAD = SafetyHead("asks", "v7", {"injection": Head((10.0, 0.0), -5, 0, GOOD), "harmful": Head((0, 10.0), -5, 0, GOOD)})


def embed(texts: Sequence[str]) -> np.ndarray:
    """How often a text says `override`, and whether it says `poison`."""
    return np.array([[text.count("override"), "poison" in text] for text in texts], dtype=float)


def verdicts(text: str, head: SafetyHead = HEAD) -> list[tuple[str, str]]:
    (check,) = ClassifierGuard(head, embed, "asks").check_input([text])
    assert check.text == text
    return [(v.action, v.rule) for v in check.verdicts]


def test_it_blocks_where_it_has_earned_it() -> None:
    assert verdicts("fine") == []
    assert verdicts("poison") == [("block", "classifier_harmful")]
    weak = replace(
        HEAD, heads={**HEAD.heads, "harmful": replace(HEAD.heads["harmful"], measured=replace(GOOD, recall=0.5))}
    )
    assert verdicts("poison", weak) == [("flag", "classifier_harmful")]
    assert verdicts("poison override", weak) == [("block", "classifier_injection"), ("flag", "classifier_harmful")]


def test_the_end_of_a_long_text_counts_and_texts_are_told_apart() -> None:
    checks = ClassifierGuard(HEAD, embed, "asks").check_input(["a word " * 600 + "poison", "fine", "override"])
    assert [[v.rule for v in check.verdicts] for check in checks] == [
        ["classifier_harmful"], [], ["classifier_injection"],
    ]  # fmt: skip


def test_a_verdict_says_version_and_score() -> None:
    (verdict,) = GuardChain([ClassifierGuard(HEAD, embed, "asks")]).check_input(["poison"])[0].verdicts
    assert (verdict.guard, verdict.version) == ("classifier", "v7")
    assert "5.00" in verdict.detail


def test_vectors_of_another_encoder_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="plinth train safety"):
        ClassifierGuard(HEAD, embed, "another")


def test_a_broken_encoder_lets_nothing_pass() -> None:
    def gone(texts: Sequence[str]) -> np.ndarray:
        raise UnavailableError("the weights are gone")

    with pytest.raises(UnavailableError):
        GuardChain([ClassifierGuard(HEAD, gone, "asks")]).check_input(["fine"])


def test_of_a_very_long_request_beginnings_and_ends_are_read_first() -> None:
    cut = [["a1", "a2", "a3", "a4"], ["b1"], ["c1", "c2", "c3"]]
    assert read(cut, 20) == cut
    assert read(cut, 5) == [["a1", "a4"], ["b1"], ["c1", "c3"]]
    assert read(cut, 2) == [["a1"], ["b1"], []]
    seen: list[str] = []

    def counted(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return embed(texts)

    checks = ClassifierGuard(HEAD, counted, "asks").check_input(["word " * 9000 + "poison", *["fine"] * 30])
    assert len(seen) == MOST
    assert [len(check.verdicts) for check in checks] == [0] * 31


def test_what_is_only_embedded_is_not_judged_by_it() -> None:
    chain = GuardChain([ClassifierGuard(HEAD, embed, "asks")])
    assert chain.check_input(["poison"])[0].blocked
    assert not chain.without_classifier().check_input(["poison"])[0].verdicts
