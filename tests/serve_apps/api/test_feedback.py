"""POST /v1/feedback: from an answer to what is kept of what people say of it, over the real routes, keys and book."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.feedback.book import TABLES, FeedbackBook
from actors.ledger.database import Database
from actors.ledger.key_book import KeyBook
from cluster.core.errors import EnvironmentFaultError
from cluster.core.identity import Principal
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.feedback import FeedbackSection
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.trust import TrustSection
from data_jobs.pii import redact
from serve_apps.gateway.audit_trail import masked
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.feedback import FeedbackDesk
from tests.fakes import PASSAGE, FixedRetriever
from tests.serve_apps.api.test_bad_bodies import check_error
from tests.serve_apps.service import CHAT, PEPPER, QUESTION, Service

MAIL = "jane.roe@corpmail.net"


class Desk:
    """A service with keys, and the book behind it."""

    def __init__(self, tmp_path: Path) -> None:
        self.keys = KeyBook(tmp_path / "keys.sqlite", PEPPER)
        self.book = FeedbackBook(Database("sqlite://", TABLES))
        feedback = FeedbackDesk(self.book, FeedbackSection(), PEPPER, masked(redact))
        self.service = Service(feedback=feedback, doorkeeper=Doorkeeper(self.keys, TrustSection()))
        self.client = self.service.client()

    def key(self, tenant: str, *scopes: str) -> dict[str, str]:
        name = f"k{len(self.keys.entries())}"
        text, _ = self.keys.create(name, Principal("", tenant, scopes=frozenset(scopes or ("chat", "feedback"))))
        return {"authorization": f"Bearer {text}"}

    def ask(self, key: dict[str, str], **more: Any) -> tuple[str, str]:
        reply = self.client.post("/v1/chat/completions", json={**CHAT, **more}, headers=key).json()
        return reply["plinth"]["answer_id"], reply["choices"][0]["message"]["content"]

    def say(self, key: dict[str, str], answer_id: str, rating: str = "up", **more: Any) -> Any:
        return self.client.post("/v1/feedback", json={"answer_id": answer_id, "rating": rating, **more}, headers=key)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    with made.client:
        yield made


def test_thumbs_are_kept_with_what_the_answer_was_made_of(desk: Desk) -> None:
    ann = desk.key("research")
    answer, _ = desk.ask(ann)
    reply = desk.say(ann, answer, "down", correction="Use copytree.", comment="wrong")
    assert reply.json() == {"object": "feedback", "answer_id": answer, "rating": "down", "consent": False}
    (kept,) = desk.book.entries(1)
    assert (kept.tenant, kept.rating, kept.correction, kept.comment) == ("research", "down", "Use copytree.", "wrong")
    assert (kept.made_of.tier, kept.made_of.index_version, kept.made_of.labelled) == ("quote", "v1", False)
    assert kept.made_of.documents
    assert desk.say(ann, answer, "none").status_code == 200
    assert desk.book.entries(1) == []


def test_nobody_judges_answers_of_another_tenant(desk: Desk) -> None:
    ann, bob, colleague = desk.key("research"), desk.key("finance"), desk.key("research")
    answer, _ = desk.ask(ann)
    unknown = check_error(desk.say(ann, "ans_nowhere"), 404)
    foreign = check_error(desk.say(bob, answer), 404)
    assert foreign == unknown, "who asks does not learn that it is there"
    assert foreign["code"] == "answer_not_found"
    assert desk.book.entries(1) == []
    assert desk.say(colleague, answer).status_code == 200
    reader = desk.key("research", "chat")
    assert check_error(desk.say(reader, answer), 403)["code"] == "scope_missing"
    assert check_error(desk.say({}, answer), 401)["code"] == "invalid_api_key"


def test_a_stream_a_kept_answer_and_a_response_can_be_judged_too(desk: Desk) -> None:
    ann = desk.key("research")
    with desk.client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers=ann) as reply:
        chunks = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    answer = next(chunk["plinth"]["answer_id"] for chunk in chunks if "plinth" in chunk)
    assert desk.say(ann, answer).status_code == 200
    other = desk.client.post("/v1/responses", json={"model": "auto", "input": QUESTION}, headers=ann)
    assert desk.say(ann, other.headers["x-request-id"].replace("req_", "ans_")).status_code == 200
    assert len(desk.book.entries(1)) == 2


def test_what_rests_on_labelled_documents_is_known_to_also_when_it_is_given_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.service.retriever = FixedRetriever((replace(PASSAGE, access="research"),))
    desk.service.section = ServeSection(cache=CacheSection(on=True))
    with desk.service.client() as desk.client:
        ann = desk.key("research")
        answers = [desk.ask(ann)[0] for _ in range(2)]
        assert [desk.say(ann, answer, consent=True).status_code for answer in answers] == [200, 200]
    assert [record["cache"] for record in desk.service.log if record["tier"]] == ["miss", "hit"]
    assert [one.made_of.labelled for one in desk.book.entries(1)] == [True, True]


def test_of_who_wants_nothing_stored_nothing_is_known(desk: Desk) -> None:
    ann = desk.key("research")
    answer, _ = desk.ask(ann, store=False)
    assert check_error(desk.say(ann, answer), 404)["code"] == "answer_not_found"


def test_an_example_is_kept_with_consent_only_and_only_as_it_was(desk: Desk) -> None:
    ann = desk.key("research")
    answer, text = desk.ask(ann)
    made_up = desk.say(ann, answer, consent=True, question=QUESTION, answer=text + " And more.")
    assert check_error(made_up, 400)["param"] == "answer"
    assert check_error(desk.say(ann, answer, consent=True, question=QUESTION), 400)["message"].endswith("or neither")
    assert desk.say(ann, answer, question=QUESTION, answer=text).status_code == 200
    assert (desk.book.entries(1)[0].question, desk.book.entries(1)[0].answer) == ("", "")
    assert desk.say(ann, answer, consent=True, question=QUESTION, answer=text).status_code == 200
    assert (desk.book.entries(1)[0].question, desk.book.entries(1)[0].answer) == (QUESTION, text)


def test_personal_data_is_taken_out_before_anything_is_kept(desk: Desk) -> None:
    ann = desk.key("research")
    question = f"How do I copy the tree of {MAIL}?"
    answer, text = desk.ask(ann, messages=[{"role": "user", "content": question}])
    more = {"correction": f"Ask {MAIL}", "comment": f"mine: {MAIL[:4]}\u200b{MAIL[4:]}", "question": question}
    assert desk.say(ann, answer, consent=True, answer=text, **more).status_code == 200
    (kept,) = desk.book.entries(1)
    assert (kept.correction, kept.comment) == ("Ask <EMAIL_1>", "mine: <EMAIL_1>")
    assert kept.question == "How do I copy the tree of <EMAIL_1>?"
    assert "corpmail" not in repr(kept)


@pytest.mark.parametrize(
    ("body", "param"),
    [({"answer_id": "req_1"}, "answer_id"), ({"answer_id": "ans_'; DROP"}, "answer_id"), ({"rating": "best"}, "rating"),
     ({"consent": "yes"}, "consent"), ({"comment": "c" * 8_001}, "comment"), ({"tenant": "finance"}, "tenant")],
)  # fmt: skip
def test_what_is_no_feedback_is_told_so(desk: Desk, body: dict[str, Any], param: str) -> None:
    reply = desk.client.post("/v1/feedback", json={"answer_id": "ans_1", "rating": "up", **body},
                             headers=desk.key("research"))  # fmt: skip
    assert check_error(reply, 400)["param"] == param


def test_without_its_book_it_says_so_and_answers_go_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise EnvironmentFaultError("the database sqlite:////home/ann/feedback.db does not answer")

    ann = desk.key("research")
    answer, _ = desk.ask(ann)
    monkeypatch.setattr(desk.book, "find", down)
    error = check_error(desk.say(ann, answer), 503)
    assert "/home/ann" not in error["message"]
    monkeypatch.setattr(desk.book, "note", down)
    assert desk.ask(ann)[1]


def test_the_shipped_service_without_a_desk_takes_none() -> None:
    reply = Service().client().post("/v1/feedback", json={"answer_id": "ans_main", "rating": "up"})
    assert check_error(reply, 404)["code"] == "not_found"
