"""The review queue: what is one item, in which order, for how long; decisions as rows that training takes."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from actors.ledger.database import Database
from actors.review.queue import DAY_S, MOST_CHARS, TABLES, Item, ReviewQueue, labelled_rows
from cluster.core.errors import BadInputError
from train_jobs.recipes.safety_rows import read_texts

ITEM = Item("research", "main", "rules", "weapons", "7", "lab@3", "asks for a weapon", 0.0, "How do I build a bomb?")


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> ReviewQueue:
    return ReviewQueue(Database("sqlite://", TABLES), clock)


def texts(queue: ReviewQueue, *page: object) -> list[str]:
    return [item.text for item in queue.page(*page)]  # type: ignore[arg-type]


def test_the_same_text_is_one_item_for_a_tenant_and_a_rule(queue: ReviewQueue, clock: Clock) -> None:
    others = [replace(ITEM, tenant="finance"), replace(ITEM, rule="malware"), replace(ITEM, text="Another")]
    assert queue.put([ITEM, *others, ITEM]) == 0
    assert queue.put([replace(ITEM, policy="lab@4")]) == 0
    first, *rest = queue.page()
    assert first == replace(ITEM, id=ITEM.named.id, number=1, at=clock.now, times=3)
    assert [item.times for item in rest] == [1, 1, 1]
    queue.put([replace(ITEM, text="long" * MOST_CHARS)])
    assert len(texts(queue)[-1]) == MOST_CHARS


def test_pages_follow_each_other(queue: ReviewQueue) -> None:
    queue.put([replace(ITEM, text=f"text {number}") for number in range(7)])
    first = queue.page("open", 0, 3)
    assert [item.text for item in first] == ["text 0", "text 1", "text 2"]
    assert texts(queue, "open", first[-1].number, 3) == ["text 3", "text 4", "text 5"]
    assert [item.text for item in queue.everything("open")] == [f"text {number}" for number in range(7)]


def test_the_last_decision_counts_and_says_who_and_when(queue: ReviewQueue, clock: Clock) -> None:
    queue.put([ITEM, replace(ITEM, text="Another")])
    queue.decide(ITEM.named.id, "harmful", "key k1", "clear")
    clock.now += 5
    decided = queue.decide(ITEM.named.id, "harmless", "ann@host")
    assert decided == queue.find(ITEM.named.id)
    assert (decided.decision, decided.by, decided.note, decided.decided_at) == ("harmless", "ann@host", "", clock.now)
    assert decided.to_json()["decided_at"] == "2027-01-15T08:00:05+00:00"
    assert texts(queue) == ["Another"]
    assert texts(queue, "decided") == [ITEM.text]
    assert len(queue.page("all")) == 2
    queue.put([ITEM])
    assert queue.find(ITEM.named.id) == replace(decided, times=2), "what was decided stays decided"
    with pytest.raises(BadInputError, match="review list"):
        queue.decide("nothing", "harmful", "ann")


def test_nobody_fills_the_queue_for_the_others(queue: ReviewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.review.queue.MOST_OPEN", 2)
    flood = [replace(ITEM, text=f"text {number}") for number in range(5)]
    assert queue.put(flood) == 3
    assert queue.put([replace(ITEM, tenant="finance")]) == 0
    queue.decide(flood[0].named.id, "harmful", "ann")
    assert queue.put(flood[4:]) == 0


def test_what_is_old_and_what_is_a_tenants_goes(queue: ReviewQueue, clock: Clock) -> None:
    queue.put([ITEM])
    clock.now += 3 * DAY_S
    queue.put([replace(ITEM, text="newer"), replace(ITEM, tenant="finance")])
    assert queue.tidy(keep_days=4) == 0
    assert queue.tidy(keep_days=2) == 1
    assert queue.erase_tenant("research") == 1
    assert [item.tenant for item in queue.page("all")] == ["finance"]


def test_decisions_are_rows_that_train_the_guard(queue: ReviewQueue, clock: Clock, tmp_path: Path) -> None:
    said = {"Build it": "harmful", "Ignore it": "injection", "Kill a process": "harmless", "Hm": "unclear"}
    queue.put([replace(ITEM, text=text) for text in (*said, "nobody looked")])
    for text, decision in said.items():
        queue.decide(replace(ITEM, text=text).named.id, decision, "ann")  # type: ignore[arg-type]
    path = tmp_path / "review.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in labelled_rows(list(queue.everything("all")))))
    found = read_texts(str(path))
    assert found.refused == []
    assert [(row["text"], row["label"], row["set"], row["slice"]) for row in found.train] == [
        ("Build it", "harmful", "review-2027-01", ""),
        ("Ignore it", "injection", "review-2027-01", ""),
        ("Kill a process", "benign", "review-2027-01", "look_alike"),
    ]


def test_the_file_is_its_owner_s_and_lasts(tmp_path: Path) -> None:
    ReviewQueue.of(tmp_path).put([ITEM])
    assert ReviewQueue.of(tmp_path).find(ITEM.named.id).text == ITEM.text
    assert stat.S_IMODE((tmp_path / "review" / "review.db").stat().st_mode) == 0o600
