"""What a replica tells of its work: units in flight, and waits until somebody begins."""

from __future__ import annotations

import threading

import pytest

from serve_apps.scaling.load import WINDOW_S, CountedThreads, Load


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_units_in_flight_and_what_is_left_of_them() -> None:
    load = Load("tokens")
    with load.doing(30) as first, load.doing(12):
        assert load.stats()["tokens"] == 42
        first.less(10)
        first.less(25)  # more than there is
        assert load.stats()["tokens"] == 12
    assert load.stats()["tokens"] == 0
    with pytest.raises(RuntimeError), load.doing(5):
        raise RuntimeError
    assert load.stats()["tokens"] == 0, "what failed is in flight no more"


def test_waits_are_those_of_lately_and_those_that_go_on() -> None:
    clock = Clock()
    load = Load("", clock)
    assert load.stats() == {"wait_s": 0.0}
    first, second = load.begin(1), load.begin(1)
    clock.now += 2
    assert load.stats()["wait_s"] == 2, "both still wait"
    first.begun()
    first.begun()
    clock.now += 2
    assert load.stats()["wait_s"] == pytest.approx((2 + 4) / 2)
    second.end()
    assert load.stats()["wait_s"] == 2, "who gave up is no measure"
    clock.now += WINDOW_S + 1
    assert load.stats()["wait_s"] == 0


def test_what_nobody_asks_for_is_not_kept() -> None:
    """A replica whose number is fixed is never asked."""
    clock = Clock()
    load = Load("", clock)
    for _ in range(1000):
        load.begin(1).begun()
        clock.now += 1
    assert len(load._ended) <= WINDOW_S + 1


def test_threads_tell_how_long_they_were_waited_for_and_how_much_they_were_asked() -> None:
    load, hold = Load("texts"), threading.Event()
    with CountedThreads(load, 1) as threads:
        blocked = threads.submit(hold.wait, 30)
        behind = threads.submit(sorted, ["b", "a", "c"])
        cancelled = threads.submit(sorted, ["d"] * 9)
        assert load.stats()["texts"] == 1 + 3 + 9
        assert cancelled.cancel()
        assert load.stats()["texts"] == 4
        waiting = load.stats()["wait_s"]
        hold.set()
        assert behind.result(30) == ["a", "b", "c"]
        assert blocked.result(30)
    assert load.stats()["texts"] == 0
    assert waiting >= 0
    assert load.stats()["wait_s"] > 0, "the second waited for the first"


def test_what_a_call_raises_is_raised_and_it_counts_no_more() -> None:
    load = Load("texts")
    with CountedThreads(load, 1) as threads, pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(30)
    assert load.stats()["texts"] == 0
