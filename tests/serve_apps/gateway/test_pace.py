"""How often text is checked while it grows: a slow tier is read word by word, a quick one costs few checks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from serve_apps.gateway import speaking

WORD = "about "
HOLD_BACK = 136


class Clock:
    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


class NothingToShape:
    finish = ""


def checks(words: int, seconds_a_word: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """After how many words the text was checked."""
    monkeypatch.setattr(speaking, "time", Clock(seconds_a_word))
    reply = speaking._Reply(None, NothingToShape(), HOLD_BACK)  # type: ignore[arg-type]
    found = []
    for word in range(1, words + 1):
        if reply.hear(WORD):
            found.append(word)
            reply.window.release([], final=False)
    return found


def test_a_slow_tier_is_let_out_four_times_a_second_from_the_first_word_that_may_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = checks(200, 0.05, monkeypatch)  # twenty words a second
    assert found[0] == HOLD_BACK // len(WORD) + 1
    assert max(later - sooner for sooner, later in pairwise(found)) <= 6


def test_a_quick_tier_is_checked_in_growing_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checks(2000, 0.0001, monkeypatch)
    assert len(found) <= 40
    assert found[-1] - found[-2] == pytest.approx(speaking.LARGEST_WINDOW / len(WORD), abs=1)
