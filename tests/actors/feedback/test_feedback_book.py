"""The book of feedback and the dataset of it: whose is whose, what is kept for how long, what is never published."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.feedback.book import DAY_S, TABLES, Feedback, FeedbackBook, Given, MadeOf, digest_of_answer
from actors.feedback.dataset import PAIRS, ROWS, publish
from actors.ledger.database import Database
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.storage import Store
from train_jobs.recipes.rows import read_rows, text_of

OF = MadeOf("small", "m1", "main", "v1", documents=(("notes/ann.md", "notes/ann.md:3"),))
SAID = Feedback(
    "ans_1", "down", True, "Twenty days.", "too short", "How many days?", "Ten days. [1]", "k1", "research", made_of=OF
)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> FeedbackBook:
    return FeedbackBook(Database("sqlite://", TABLES), clock)


def test_an_answer_is_found_by_its_tenant_alone(book: FeedbackBook) -> None:
    given = Given("ans_1", "research", "d", OF)
    book.note([given, replace(given, answer_id="ans_2")])
    book.note([given])
    assert book.find("ans_1", "research") == given
    assert book.find("ans_1", "finance") is None
    assert book.find("ans_9", "research") is None


def test_the_last_word_of_a_key_counts_and_can_be_taken_back(book: FeedbackBook, clock: Clock) -> None:
    book.say(SAID)
    book.say(replace(SAID, rating="up", correction=""))
    book.say(replace(SAID, key_id="k2"))
    assert {(one.key_id, one.rating) for one in book.entries(1)} == {("k1", "up"), ("k2", "down")}
    assert book.entries(1, "research", 1)[0].at == clock.now
    assert book.entries(1, "finance") == []
    book.say(replace(SAID, rating="none"))
    assert [one.key_id for one in book.entries(1)] == ["k2"]


def test_nothing_is_kept_longer_than_it_may_be(
    book: FeedbackBook, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.note([Given("ans_1", "research", "d")])
    book.say(SAID)
    clock.now += 2 * DAY_S
    assert book.entries(1) == [], "not even before it was tidied"
    assert len(book.entries(3)) == 1
    assert book.tidy(answer_days=1, keep_days=3) == 1
    assert book.find("ans_1", "research") is None
    assert book.tidy(answer_days=1, keep_days=1) == 1
    for number in range(5):
        clock.now += 1
        book.note([Given(f"ans_{number}", "research", "d")])
    monkeypatch.setattr("actors.feedback.book.MOST_ANSWERS", 2)
    book.tidy(1, 1)
    assert [bool(book.find(f"ans_{number}", "research")) for number in range(5)] == [False] * 3 + [True] * 2


def test_erasure_by_tenant_and_by_document(book: FeedbackBook) -> None:
    for tenant, source in (("research", "notes/ann.md:3"), ("finance", "notes/ann.md:3"), ("finance", "b.md")):
        made_of = MadeOf(documents=((source.partition(":")[0], source),))
        answer = f"ans_{tenant}_{source[0]}"
        book.note([Given(answer, tenant, "d", made_of)])
        book.say(replace(SAID, answer_id=answer, tenant=tenant, made_of=made_of))
    assert book.erase_tenant("research") == 1
    assert book.find("ans_research_n", "research") is None
    assert book.erase_documents(lambda document, source: document == "notes/ann.md") == 1
    assert [one.answer_id for one in book.entries(1)] == ["ans_finance_b"]
    assert book.find("ans_finance_n", "finance") is None
    assert book.find("ans_finance_b", "finance") is not None


def test_an_answer_is_recognised_whole_and_with_the_key_only() -> None:
    pepper = bytes(32)
    digest = digest_of_answer(pepper, "ab", "c")
    assert digest == digest_of_answer(pepper, "ab", "c")
    others = [(pepper, "a", "bc"), (pepper, "ab", "d"), (bytes(31) + b"1", "ab", "c")]
    assert digest not in {digest_of_answer(*other) for other in others}


def test_the_file_is_its_owner_s_and_lasts(tmp_path: Path) -> None:
    FeedbackBook.of(tmp_path).say(SAID)
    found = FeedbackBook.of(tmp_path).entries(10_000)
    assert found == [replace(SAID, at=found[0].at)]
    path = tmp_path / "feedback" / "feedback.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(EnvironmentFaultError, match="does not answer"):
        FeedbackBook(Database(f"sqlite:///{tmp_path}/nowhere/x.db", TABLES)).entries(1)


def lines(store: Store, made: Any, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in store.read(f"{store.artefact(made)}/{name}").splitlines()]


def test_what_is_published_was_agreed_to_and_may_be_read_by_everybody(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    said = [
        SAID,
        replace(SAID, answer_id="ans_2", rating="up", correction="", comment="", question="", answer=""),
        replace(SAID, answer_id="ans_3", consent=False, comment="SECRET"),
        replace(SAID, answer_id="ans_4", made_of=replace(OF, labelled=True), comment="LABELLED"),
    ]
    made = publish(store, said)
    assert made.counts == {"rows": 2, "pairs": 1, "left_out": {"consent": 1, "access": 1}, "up": 1, "down": 1}
    assert store.alias("feedback", "feedback", "latest") == made.version
    rows = lines(store, made, ROWS)
    assert {row["answer_id"] for row in rows} == {"ans_1", "ans_2"}
    everything = json.dumps(rows)
    for private in ("SECRET", "LABELLED", "research", "k1"):
        assert private not in everything
    assert publish(store, reversed(said)).version == made.version, "the same rows are the same version"
    with pytest.raises(BadInputError, match="1 without consent, 1 about"):
        publish(store, said[2:])


def test_its_pairs_are_what_preference_training_reads(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    path = f"{store.artefact(publish(store, [SAID]))}/{PAIRS}"
    fields = ("prompt", "chosen", "rejected")
    found = read_rows(path, lambda row: {"key": "k"} | {name: text_of(row, name) for name in fields}, 0.0, 0)
    row = (found.train + found.held_out)[0]
    assert [row[name] for name in fields] == ["How many days?", "Twenty days.", "Ten days. [1]"]
