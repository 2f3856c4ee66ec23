"""The scaling policy in simulated time: steps, waves, noise, slow starts, sleep; and what holds whatever it sees."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.scaling.policy import COOL_S, Look, Memory, Rules, decide, rise
from tests.serve_apps.scaling.simulation import AT_ONCE, RULES, run

STARTS_S = (1.0, 5.0, 20.0, 60.0, 120.0)


def step(at: float) -> float:
    """One replica's worth of clients, ten replicas' worth, one."""
    return 40 if 60 <= at < 400 else 4


@pytest.mark.parametrize("start_s", STARTS_S)
def test_a_step_up_and_down(start_s: float) -> None:
    seen = run(step, 500 if start_s < 100 else 560, start_s)
    assert seen.most(0, 60) == 1
    assert seen.most(70 + start_s, 400) == 10
    assert seen.running[-1][1] <= 2, "one replica carries it at the very limit of what it shall carry"
    assert len(seen.events) <= 6
    assert seen.turns == 1
    before, after = seen.p95(0, 60), seen.p95(100 + start_s, 400)
    assert after <= 1.2 * before, "it recovers once the replicas are there"


def test_more_come_at_once_and_fewer_after_a_while() -> None:
    up, down = run(step, 450).events
    assert up[0] - 60 <= 3
    assert down[0] - 400 >= RULES.down_after_s


@pytest.mark.parametrize(
    ("period_s", "start_s"), [(20.0, 10.0), (60.0, 60.0), (120.0, 1.0), (300.0, 10.0), (600.0, 60.0)]
)
def test_ten_minutes_of_a_wave(period_s: float, start_s: float) -> None:
    """Long waves are followed, one turn for one of the wave's; short ones are not."""
    seen = run(lambda at: 20 + 16 * math.sin(2 * math.pi * at / period_s), 600, start_s)
    assert seen.turns <= 3
    assert len(seen.events) <= 16
    assert seen.p95(100, 600) <= 2.0, "0.5 s of work on average, 1.5 s for one in twenty"


@pytest.mark.parametrize("mean", [1.0, 1.1, 2.2])
def test_noise_at_a_border_between_two_numbers_of_replicas(mean: float) -> None:
    noise = random.Random(7)
    seen = run(lambda at: max(0.0, noise.gauss(mean * AT_ONCE, 0.25 * AT_ONCE)), 300)
    assert len(seen.events) <= 2
    assert seen.turns == 0


@pytest.mark.parametrize("start_s", [60.0, 120.0])
def test_a_rise_is_met_before_it_is_there(start_s: float) -> None:
    """With replicas that take long to start. A policy that does not look ahead has more wait for longer."""
    steady = run(lambda at: at / 10, 400, start_s)
    assert "rise" in {why for *_, why in steady.events}
    blind = run(lambda at: at / 10, 400, start_s, replace(RULES, start_s=0.0))
    assert steady.p95(200, 400) <= blind.p95(200, 400)


def test_a_step_and_noise_are_no_rise() -> None:
    flat = [(float(at), 5.0) for at in range(60)]
    stepped = [(at, 1.0 if at < 50 else 9.0) for at, _ in flat]
    noise = random.Random(3)
    noisy = [(at, noise.gauss(5, 1)) for at, _ in flat]
    falling = [(at, 9 - at / 10) for at, _ in flat]
    assert [rise(needs, 59.0, 60.0) for needs in (flat, stepped, noisy, falling)] == [0.0] * 4
    assert rise([(at, at / 10) for at, _ in flat], 59.0, 60.0) == pytest.approx(0.1)
    assert rise([], 0.0, 60.0) == 0.0


def asleep(at: float) -> float:
    return 4 if at < 60 or 300 <= at < 400 else 0


def test_it_sleeps_and_wakes() -> None:
    seen = run(asleep, 700, rules=replace(RULES, least=0, zero_after_s=60.0))
    ways = [(before, after) for _, before, after, _ in seen.events]
    assert ways == [(1, 0), (0, 1), (1, 0)]
    assert 118 <= seen.events[0][0] <= 125
    assert seen.events[1][0] - 300 <= 1, "who finds nobody there has waited long enough"


def test_with_a_least_of_one_it_never_sleeps() -> None:
    assert run(asleep, 700).events == []


def test_many_replicas_leave_one_before_none() -> None:
    rules = replace(RULES, least=0, zero_after_s=40.0)
    seen = run(lambda at: 20 if at < 50 else 0, 300, rules=rules)
    assert [after for _, _, after, _ in seen.events][-2:] == [1, 0]


def test_work_that_waits_calls_for_more_until_that_does_not_help() -> None:
    """Little is in flight, and yet it waits: as where one request takes much longer than the others."""
    memory, target, targets = Memory(), 1, []
    for second in range(300):
        decision = decide(RULES, memory, Look(second, target, target, {"requests": 2}, wait_s=2.0))
        memory, target = decision.memory, decision.replicas
        targets.append(target)
    assert max(targets) == 2, "the second one changed nothing, so there is no third"
    assert targets[-1] == 1, "and it goes again"
    helped, target = Memory(), 1
    for second in range(60):
        decision = decide(RULES, helped, Look(second, target, target, {"requests": 2}, wait_s=2.0 / target**2))
        helped, target = decision.memory, decision.replicas
    assert target == 2, "the wait is gone, and nothing more is wanted"


def test_the_largest_need_counts() -> None:
    rules = Rules(1, 9, {"requests": 8, "tokens": 1000})
    assert rules.need({"requests": 4, "tokens": 3500}) == 3.5
    assert rules.need({"requests": 24, "tokens": 10}) == 3.0
    assert rules.need({"requests": 16}) == 2.0, "tokens that nobody told of count nothing"


def test_replicas_that_find_no_room_do_not_keep_the_others() -> None:
    """Ten shall be there, four are: when the load goes, so do they, though six never started."""
    seen, target, memory = [], 1, Memory()
    for second in range(200):
        load = 40 if second < 60 else 1
        decision = decide(RULES, memory, Look(second, min(4, target), target, {"requests": load}))
        memory, target = decision.memory, decision.replicas
        seen.append(target)
    assert (max(seen), seen[-1]) == (10, 1)


def test_numbers_that_changed_by_a_new_configuration_are_met() -> None:
    for target, wanted in ((12, 10), (0, 2), (1, 2)):
        decision = decide(replace(RULES, least=2), Memory(), Look(0.0, target, target, {"requests": 0}))
        assert (decision.replicas, decision.why) == (wanted, "bounds")


looks = st.lists(
    st.tuples(
        st.floats(0, 30),  # seconds since the look before
        st.integers(0, 15),  # running
        st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 4.0, 4.4, 8.0])),  # in flight
        st.floats(0, 1e4),  # wait
    ),
    max_size=60,
)


@settings(max_examples=50, deadline=None)
@given(looks, st.integers(0, 3), st.integers(0, 12), st.integers(0, 15), st.floats(0.01, 100))
def test_always_within_the_bounds_and_always_the_same(
    seen: list[tuple[float, int, float, float]], least: int, more: int, target: int, each: float
) -> None:
    rules = Rules(least, max(1, least + more), {"requests": each}, zero_after_s=20.0)

    def decided() -> list[tuple[int, str]]:
        memory, now, current, found = Memory(), 0.0, target, []
        for gap, running, load, wait_s in seen:
            now += gap
            decision = decide(rules, memory, Look(now, running, current, {"requests": load}, wait_s))
            assert rules.least <= decision.replicas <= rules.most
            assert (decision.replicas != current) == bool(decision.why)
            memory, current = decision.memory, decision.replicas
            found.append((current, decision.why))
        return found

    assert decided() == decided()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 60), min_size=100, max_size=100), st.sampled_from(STARTS_S))
def test_whatever_comes_events_keep_their_distance(loads: list[float], start_s: float) -> None:
    seen = run(lambda at: loads[int(at) % 100], 100, start_s)
    for (at, before, after, _), (later, then, there, _) in pairwise(seen.events):
        assert later - at >= (RULES.down_after_s if there < then else COOL_S if after > before else 0)
