"""Tiers that are models, seen through HTTP: who answers what, by name, by choice, or in place of one that died."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster.core.errors import BadInputError
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import TOO_LONG, UnavailableError
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.routing.rules import Features
from tests.fakes import PASSAGE, FixedRetriever, ScriptedTier
from tests.serve_apps.service import CHAT, QUESTION, Service

GOOD = TierState(
    "small", model_version="m1", knowledge_cutoff="2026-01-01", continues=True, latency_ms=9.0,
    bands=(Band(0.0, 1.01, 100, 0.9, 0.4),),
)  # fmt: skip


def ask(service: Service, model: str, path: str = "/v1/chat/completions", **more: Any) -> Any:
    body = {**CHAT, "model": model, **more}
    return service.client().post(path, json=body)


def service_with(state: TierState, **scripted: Any) -> tuple[Service, ScriptedTier]:
    tier = ScriptedTier(state=state, **scripted)
    return Service(models={"small": tier}, features=Features(0.9)), tier


def test_auto_goes_to_a_tier_that_earned_it_and_says_why() -> None:
    service, tier = service_with(GOOD)
    plinth = ask(service, "auto").json()["plinth"]
    assert (plinth["tier"], plinth["model_version"], plinth["knowledge_cutoff"]) == ("small", "m1", "2026-01-01")
    assert plinth["route"]["reason"] == "measured_better"
    assert set(plinth["route"]["considered"]) == {"quote", "small"}
    assert tier.questions == [QUESTION]


def test_a_refused_model_gets_no_auto_traffic_but_is_reachable_by_name() -> None:
    service, tier = service_with(replace(GOOD, earned=False))
    for _ in range(5):
        assert ask(service, "auto").json()["plinth"]["tier"] == "quote"
    assert tier.questions == []
    assert ask(service, "small").json()["plinth"]["tier"] == "small"
    assert tier.questions == [QUESTION]


def test_a_model_that_is_not_there_is_not_found_nor_listed() -> None:
    service, _ = service_with(replace(GOOD, ready=False))
    reply = ask(service, "small")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert "small" not in [model["id"] for model in service.client().get("/v1/models").json()["data"]]
    there, _ = service_with(GOOD)
    assert "small" in [model["id"] for model in there.client().get("/v1/models").json()["data"]]


def test_quote_answers_for_a_tier_that_died_and_the_answer_says_so() -> None:
    service, _ = service_with(GOOD, deltas=(), error=UnavailableError("the replica died"))
    plinth = ask(service, "auto").json()["plinth"]
    assert (plinth["tier"], plinth["route"]["reason"], plinth["degraded"]) == ("quote", "fallback", True)
    assert ask(service, "small").status_code == 503  # asked for by name: nobody answers in its place


def test_quote_answers_where_question_and_passages_do_not_fit_the_chosen_model() -> None:
    """Passages are not the client's: whoever names no tier is not told that his prompt is too long."""
    service, _ = service_with(GOOD, deltas=(), error=BadInputError("305 of 256 tokens", code=TOO_LONG))
    plinth = ask(service, "auto").json()["plinth"]
    assert (plinth["tier"], plinth["route"]["reason"], plinth["degraded"]) == ("quote", "fallback", True)
    reply = ask(service, "small")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, TOO_LONG)
    other, _ = service_with(GOOD, deltas=(), error=BadInputError("it is something else", code="other"))
    assert ask(other, "auto").status_code == 400, "what is wrong with the request stays wrong"


def test_an_answer_says_when_its_passages_were_not_read() -> None:
    for reader, degraded in (("read", False), ("off", False), ("missing", True), ("failed", True)):
        found = Retrieval("", (PASSAGE,), reader=reader)  # type: ignore[arg-type]
        plinth = ask(Service(retriever=FixedRetriever(found=found)), "quote").json()["plinth"]
        assert (plinth["reader"], plinth["degraded"]) == (reader, degraded)


def test_quote_answers_where_the_chosen_model_abstains() -> None:
    service, tier = service_with(GOOD, deltas=(), citations=(), grounded=False)
    plinth = ask(service, "auto").json()["plinth"]
    assert (plinth["tier"], plinth["route"]["reason"], plinth["degraded"]) == ("quote", "model_abstained", False)
    assert plinth["grounded"] is True
    assert tier.questions == [QUESTION]
    assert ask(service, "small").json()["plinth"]["grounded"] is False, "asked by name it may say that it does not know"


def test_completions_of_a_model_continue_the_prompt_without_passages() -> None:
    service, tier = service_with(GOOD, deltas=("and so ", "on"))
    reply = service.client().post("/v1/completions", json={"model": "small", "prompt": "Once upon a time"}).json()
    assert reply["choices"][0] == {"index": 0, "logprobs": None, "finish_reason": "length", "text": "and so on"}
    assert reply["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert (reply["plinth"]["grounded"], reply["plinth"]["reason"]) == (False, "continuation")
    assert tier.prompts == ["Once upon a time"]
    assert service.retriever.questions == []


def test_a_continuation_passes_both_guards() -> None:
    service, tier = service_with(GOOD, deltas=("Write to jane.roe@corp", "mail.net today."))
    reply = service.client().post("/v1/completions", json={"model": "small", "prompt": "I am bob@corpmail.net and"})
    assert "corpmail" not in reply.text
    assert "<EMAIL" in reply.json()["choices"][0]["text"]
    assert "corpmail" not in tier.prompts[0]


def test_completions_of_auto_and_quote_stay_answers_from_documents() -> None:
    service, tier = service_with(GOOD)
    for model in ("auto", "quote"):
        reply = service.client().post("/v1/completions", json={"model": model, "prompt": QUESTION}).json()
        assert reply["plinth"]["citations"]
    assert tier.prompts == []
