"""Courtesies over the wire: answered without a search, guarded, marked; refused questions reach the gap map."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import FixedRetriever, RealGuard, ScriptedTier
from tests.serve_apps.service import CHAT, Service


def chat(service: Service, text: str, **more: Any) -> dict[str, Any]:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **more}
    reply = service.client().post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize(("text", "said"), [("Thanks!", "welcome"), ("hello", "Hello"), ("Merci beaucoup", "welcome")])
def test_a_courtesy_is_answered_without_a_search(text: str, said: str) -> None:
    service = Service()
    made = chat(service, text)
    assert said in made["choices"][0]["message"]["content"]
    assert service.retriever.questions == []
    plinth = made["plinth"]
    assert (plinth["reason"], plinth["grounded"], plinth["citations"]) == ("courtesy", False, [])
    assert made["usage"]["completion_tokens"] > 0


def test_help_says_what_the_documents_cover() -> None:
    service = Service()
    made = chat(service, "What can you do?")
    said = made["choices"][0]["message"]["content"]
    assert "Leave policy; Travel" in said
    assert said.count("\n- ") == 3
    assert made["plinth"]["index_version"] == "v1"


def test_a_question_behind_thanks_is_searched() -> None:
    service = Service()
    chat(service, "Thanks, and how do I copy a file?")
    assert len(service.retriever.questions) == 1


def test_the_same_shape_as_any_answer() -> None:
    service = Service()
    keys = set(chat(service, CHAT["messages"][0]["content"])["plinth"])  # type: ignore[index]
    assert set(chat(service, "thanks")["plinth"]) == keys


def test_courtesies_fail_closed_and_know_their_model() -> None:
    service = Service(guard=RealGuard(fail_input=True))
    assert (
        service.client()
        .post("/v1/chat/completions", json={**CHAT, "messages": [{"role": "user", "content": "hi"}]})
        .status_code
        == 503
    )
    reply = (
        Service()
        .client()
        .post("/v1/chat/completions", json={"model": "nobody", "messages": [{"role": "user", "content": "hi"}]})
    )
    assert reply.status_code == 404


def test_thanks_need_no_index_but_help_does() -> None:
    service = Service(retriever=FixedRetriever(down=True))
    assert "welcome" in chat(service, "thanks")["choices"][0]["message"]["content"]
    body = {"model": "auto", "messages": [{"role": "user", "content": "help"}]}
    assert service.client().post("/v1/chat/completions", json=body).status_code == 503


def test_a_streamed_courtesy_ends_as_any_stream() -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "thanks"}], "stream": True}
    text = Service().client().post("/v1/chat/completions", json=body).text
    assert "welcome" in text
    assert text.rstrip().endswith("data: [DONE]")


def test_what_was_refused_reaches_the_gap_map_redacted_with_who_asked() -> None:
    tier = ScriptedTier(deltas=["I do not know: nothing here says."], citations=[], grounded=False)
    service = Service(tier=tier)
    chat(service, "What does mail klara.meier@firma.de?", user="ada", store=False)
    chat(service, "thanks")
    (noted,) = service.noted
    ask, question, retrieval, done = noted
    assert (ask.user, ask.keep) == ("ada", False)
    assert "firma.de" not in question
    assert retrieval.index_version == "v1"
    assert done.plinth["grounded"] is False
