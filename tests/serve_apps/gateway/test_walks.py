"""A key that walks the corpus is flagged; one that asks, and comes back to the same documents, is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.core.identity import LOCAL, Principal
from cluster.core.sections.trust import TrustSection
from cluster.core.telemetry import METRICS
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.walks import MOST_KEYS, CorpusWalks, Distinct
from tests.fakes import MemoryRecorder
from tests.serve_apps.gateway.test_audit_trail import Audited
from tests.serve_apps.service import CHAT

ANN, BOB = Principal("ann", tenant="finance"), Principal("bob")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))


class Watched:
    def __init__(self, most: int = 100) -> None:
        self.now, self.told, self.recorder = 0.0, list[tuple[Any, ...]](), MemoryRecorder()
        section = TrustSection(scraping_documents=most, scraping_hours=1.0)
        self.walks = CorpusWalks(section, self.recorder, self._tell, lambda: self.now)

    def _tell(self, action: str, tenant: str, **details: Any) -> None:
        self.told.append((action, tenant, details))

    def ask(self, who: Principal, first: int, count: int = 5, status: int = 200, collection: str = "main") -> None:
        record = RequestRecord("req_1", principal=who, status=status, collection=collection)
        record.documents = tuple((f"document {number}", "notes") for number in range(first, first + count))
        self.walks.note(record)


@pytest.mark.parametrize("count", [1, 50, 500, 2_000, 20_000, 100_000])
def test_different_texts_are_counted_once_within_the_error(count: int) -> None:
    distinct = Distinct()
    for number in range(count):
        distinct.add(f"document {number}")
        distinct.add(f"document {number // 2}")
    assert distinct.count() == pytest.approx(count, rel=0.1)


def test_a_key_that_walks_the_corpus_is_flagged_once_in_a_window() -> None:
    watched = Watched()
    for first in range(0, 90, 5):
        watched.ask(ANN, first)
    assert watched.told == []
    for first in range(90, 300, 5):
        watched.ask(ANN, first)
    (action, tenant, details), = watched.told  # fmt: skip
    assert (action, tenant, details["key_id"]) == ("scraping_suspected", "finance", "ann")
    assert details["documents"] == pytest.approx(100, rel=0.1)
    assert watched.recorder.values == [("plinth_scraping_total", 1, {})], "and no key is a label"
    watched.now = 3600.0
    for first in range(0, 300, 5):
        watched.ask(ANN, first)
    assert len(watched.told) == 2, "a new window"


def test_who_asks_often_and_who_asks_slowly_is_not(tmp_path: Path) -> None:
    watched = Watched()
    for number in range(500):
        watched.ask(ANN, number % 80)
        watched.ask(BOB, number, count=1, status=429)
        watched.ask(LOCAL, number)
        watched.now += 36.0 if number % 100 == 99 else 0.0
    assert watched.told == []


def test_documents_of_two_collections_are_two() -> None:
    watched = Watched()
    for first in range(0, 60, 5):
        watched.ask(ANN, first)
        watched.ask(ANN, first, collection="other")
    assert len(watched.told) == 1


def test_memory_is_bounded() -> None:
    watched = Watched()
    for number in range(MOST_KEYS + 50):
        watched.ask(Principal(f"key{number}"), 0, count=1)
    assert len(watched.walks) == MOST_KEYS


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/search", {"query": "How do I copy a directory tree?"})]
)
def test_answers_and_searches_count_down_to_the_audit_log(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    audited = Audited(tmp_path)
    trail = audited.service.trail
    assert trail is not None
    recorder, asking = audited.service.recorder, Principal("ann", tenant="finance")
    walks = CorpusWalks(TrustSection(scraping_documents=1), recorder, trail.event)

    def ended(record: RequestRecord) -> None:
        record.principal = asking  # the doorkeeper's part, which is tested elsewhere
        walks.note(record)

    audited.service.also = ended
    with audited.client() as client:
        assert client.post(path, json=body).status_code == 200
        client.portal.call(audited.service.gateway.tidy, recorder)  # type: ignore[union-attr]
    (event,) = audited.written("event")
    assert (event["action"], event["tenant"], event["key_id"]) == ("scraping_suspected", "finance", "ann")
    assert METRICS["plinth_scraping_total"].labels == ()
