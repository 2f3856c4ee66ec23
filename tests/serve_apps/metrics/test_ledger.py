"""Counters never fall, whatever happens to those that count."""

from __future__ import annotations

import random

import pytest

from serve_apps.metrics.ledger import SETTLED_AFTER_S, Ledger
from serve_apps.metrics.text import Family, Reading

COUNTER = Family("plinth_requests", "counter", "Requests.")
SERIES = "plinth_requests_total"


def told(**counts: float) -> list[Reading]:
    """What a node's agent tells: one sample of each of its exporters."""
    return [Reading(COUNTER, SERIES, exporter, value) for exporter, value in counts.items()]


def total(ledger: Ledger) -> float:
    return ledger.totals().get(SERIES, 0.0)


def test_a_replica_that_died_keeps_its_count() -> None:
    ledger = Ledger()
    ledger.enter({"n": told(a=5, b=7)}, ["n"], 0)
    ledger.enter({"n": told(b=8)}, ["n"], 1)
    assert total(ledger) == 13
    ledger.enter({"n": told(b=8)}, ["n"], 2 + SETTLED_AFTER_S)
    assert (total(ledger), len(ledger.open)) == (13, 1), "settled, and no longer kept one by one"
    ledger.enter({"n": told(b=9, c=1)}, ["n"], 3 + SETTLED_AFTER_S)
    assert total(ledger) == 15


def test_one_that_is_missed_once_is_not_counted_twice() -> None:
    ledger = Ledger()
    ledger.enter({"n": told(a=5)}, ["n"], 0)
    ledger.enter({"n": told()}, ["n"], 1)
    ledger.enter({"n": told(a=6)}, ["n"], 2)
    assert total(ledger) == 6


def test_a_node_that_does_not_answer_keeps_its_count_however_long() -> None:
    ledger = Ledger()
    ledger.enter({"n": told(a=5), "m": told(a=1)}, ["n", "m"], 0)
    ledger.enter({"m": told(a=2)}, ["n", "m"], 10 * SETTLED_AFTER_S)
    assert total(ledger) == 7
    ledger.enter({"n": told(a=6), "m": told(a=2)}, ["n", "m"], 11 * SETTLED_AFTER_S)
    assert total(ledger) == 8


def test_a_node_that_is_gone_is_settled_at_once() -> None:
    ledger = Ledger()
    ledger.enter({"n": told(a=5), "m": told(a=1)}, ["n", "m"], 0)
    ledger.enter({"new": told(a=2)}, ["new"], 1)
    assert (total(ledger), len(ledger.open)) == (8, 1)


def test_an_exporter_that_begins_anew_goes_on_from_where_it_was() -> None:
    ledger = Ledger()
    for time, value in enumerate((5, 2, 3, 1)):
        ledger.enter({"n": told(a=value)}, ["n"], time)
    assert total(ledger) == 5 + 3 + 1


def test_gauges_are_not_its_affair() -> None:
    ledger = Ledger()
    gauge = Reading(Family("plinth_index_chunks", "gauge", "Chunks."), "plinth_index_chunks", "a", 7)
    ledger.enter({"n": [gauge]}, ["n"], 0)
    assert ledger.totals() == {}


def test_it_never_falls_whatever_comes_and_goes() -> None:
    """Replicas that start, count, begin anew, are missed and die, on nodes that do the same, read back in between."""
    chance, ledger, before, counts = random.Random(5), Ledger(), 0.0, dict.fromkeys("abcd", 0)
    for time in range(300):
        for name in counts:
            counts[name] = 0 if chance.random() < 0.1 else counts[name] + chance.randrange(3)
        seen = [name for name in counts if chance.random() < 0.8]
        nodes = [node for node in ("n", "m") if chance.random() < 0.9]
        pages = {node: told(**{name: counts[name] for name in seen}) for node in nodes if chance.random() < 0.9}
        ledger.enter(pages, nodes, time * 60.0)
        assert total(ledger) >= before
        before, ledger = total(ledger), Ledger.loads(ledger.dumps())
    assert before > 300
    assert len(ledger.open) <= 8


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"settled": {}, "open": [[1]], "families": []}', "null"])
def test_what_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Ledger.loads(text)
