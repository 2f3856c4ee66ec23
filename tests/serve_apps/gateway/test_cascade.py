"""The cascade through HTTP: who is asked after whom, what the client sees of it, and when nobody is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from cluster.core.sections.cascade import CascadeSection
from cluster.core.sections.serve import ServeSection
from data_jobs.retrieval.results import Retrieval, WindowReading
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.routing.rules import Features
from tests.fakes import CITATION, PASSAGE, TEXT, FixedRetriever, ScriptedTier
from tests.serve_apps.api.test_openai_http import events_of
from tests.serve_apps.gateway.test_failures import Exchange, until
from tests.serve_apps.service import CHAT, Service

STREAM = {**CHAT, "stream": True}
SMALL = TierState(
    "small", model_version="m1", continues=True, samples=True, latency_ms=9.0, price=1.0,
    bands=(Band(0.0, 1.01, 100, 0.90, 0.4),),
)  # fmt: skip
MEDIUM = replace(SMALL, name="medium", model_version="m2", price=2.0)
GUESS = [f"guess number {n} that nothing bears out. " for n in range(30)]


def service(small: ScriptedTier, medium: ScriptedTier, **more: Any) -> Service:
    return Service(models={"small": small, "medium": medium}, features=Features(0.9), **more)


class Uncited(ScriptedTier):
    """Its answer has the reason that real tiers give for text without a citation."""

    async def stream(self, *what: Any) -> Any:
        async for item in super().stream(*what):
            yield (
                item
                if isinstance(item, str)
                else replace(item, reason="uncited", prompt_tokens=70, completion_tokens=30)
            )


def uncited(**more: Any) -> Uncited:
    return Uncited(**{"deltas": GUESS, "citations": (), "grounded": False, "state": SMALL, **more})


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_an_answer_that_is_not_borne_out_goes_on_to_the_next_tier(body: dict[str, Any]) -> None:
    small, medium = uncited(), ScriptedTier(state=MEDIUM)
    asked = service(small, medium)
    response = asked.client().post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert "guess" not in response.text, "nothing of what was passed over reaches the wire"
    chunks = [response.json()] if body is CHAT else events_of(response.text)[:-1]
    said = [choice.get("message", choice.get("delta")) for chunk in chunks for choice in chunk["choices"]]
    assert "".join(part.get("content") or "" for part in said) == TEXT
    plinth = chunks[-1]["plinth"]
    assert (plinth["tier"], plinth["model_version"], plinth["grounded"]) == ("medium", "m2", True)
    assert plinth["route"]["reason"] == "escalated"
    assert plinth["route"]["cascade"] == {"from": "small", "to": "medium", "why": "uncited", "tokens": 100}
    assert (len(small.questions), len(medium.questions), small.closed) == (1, 1, 1)
    assert (asked.log[-1]["tier"], asked.log[-1]["routed"]) == ("medium", "escalated")


def test_at_most_one_escalation() -> None:
    large = ScriptedTier(state=replace(MEDIUM, name="large", price=3.0))
    asked = Service(
        models={"small": uncited(), "medium": uncited(state=MEDIUM), "large": large}, features=Features(0.9)
    )
    plinth = asked.client().post("/v1/chat/completions", json=CHAT).json()["plinth"]
    assert (plinth["tier"], plinth["grounded"], plinth["reason"]) == ("medium", False, "uncited")
    assert large.questions == []


def test_a_supported_answer_is_not_asked_for_twice() -> None:
    medium = ScriptedTier(state=MEDIUM)
    plinth = (
        service(ScriptedTier(state=SMALL), medium).client().post("/v1/chat/completions", json=CHAT).json()["plinth"]
    )
    assert (plinth["tier"], medium.questions) == ("small", [])
    assert "cascade" not in plinth["route"]


def test_who_names_a_tier_gets_its_answer() -> None:
    medium = ScriptedTier(state=MEDIUM)
    reply = service(uncited(), medium).client().post("/v1/chat/completions", json={**CHAT, "model": "small"}).json()
    assert (reply["plinth"]["tier"], reply["plinth"]["reason"], medium.questions) == ("small", "uncited", [])
    assert "guess" in reply["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("state", "section", "held"),
    [
        (replace(MEDIUM, latency_ms=31_000.0), ServeSection(), "no_time"),
        (replace(MEDIUM, latency_ms=0.0), ServeSection(), "unmeasured"),
        (MEDIUM, ServeSection(cascade=CascadeSection(on=False)), None),
        (MEDIUM, ServeSection(cascade=CascadeSection(most_price=1.0)), None),
    ],
    ids=["too slow", "unmeasured", "off", "too dear"],
)
def test_without_time_or_money_the_first_answer_stands_and_says_so(
    state: TierState, section: ServeSection, held: str | None
) -> None:
    medium = ScriptedTier(state=state)
    plinth = (
        service(uncited(), medium, section=section).client().post("/v1/chat/completions", json=CHAT).json()["plinth"]
    )
    assert (plinth["tier"], plinth["reason"], medium.questions) == ("small", "uncited", [])
    told = {"from": "small", "to": "", "why": "uncited", "held": held} if held else None
    assert plinth["route"].get("cascade") == told


def test_free_text_waits_for_its_end_where_it_may_be_passed_over_and_not_else() -> None:
    async def first_text(tier: ScriptedTier, other: TierState) -> bool:
        """Whether any text is out before the tier has come to its end."""
        gate = asyncio.Event()
        gate.set()
        tier.gate, tier.pause_s = gate, 0.001
        said = Exchange(service(tier, ScriptedTier(state=other)), STREAM)
        running = asyncio.create_task(said.run())
        await until(lambda: tier.closed == 1 or b"guess" in said.wire)
        out = b"guess" in said.wire and not tier.closed
        await running
        return out

    async def scene() -> None:
        assert not await first_text(ScriptedTier(GUESS, state=SMALL), MEDIUM)
        assert await first_text(ScriptedTier(GUESS, state=SMALL), replace(MEDIUM, latency_ms=1e6)), (
            "there is no time for another"
        )
        checked = replace(SMALL, checked=True)
        assert await first_text(ScriptedTier(GUESS, state=checked), MEDIUM), "it was held against the passages already"

    asyncio.run(scene())


def test_where_the_larger_tier_is_down_the_fallback_answers() -> None:
    medium = ScriptedTier(deltas=(), error=UnavailableError("gone"), state=MEDIUM)
    plinth = service(uncited(), medium).client().post("/v1/chat/completions", json=CHAT).json()["plinth"]
    assert (plinth["tier"], plinth["route"]["reason"], plinth["degraded"]) == ("quote", "fallback", True)
    assert plinth["route"]["cascade"]["to"] == "medium"


def test_an_answer_that_had_no_time_for_a_better_one_is_not_kept() -> None:
    other = replace(PASSAGE, chunk="other#0", document="other")
    found = Retrieval(
        "", (PASSAGE, other), index_version="v1", readings=(WindowReading(0, 0, 71, 0.95, 0, 20, 1.0),), reader="read"
    )
    beside = ScriptedTier(state=SMALL, citations=(replace(CITATION, chunk="other#0"),))
    section = ServeSection.model_validate({"cache": {"on": True}})
    for latency_ms, caches in ((1e6, ["miss", "miss"]), (9.0, ["miss", "hit"])):
        asked = service(
            beside, ScriptedTier(state=replace(MEDIUM, latency_ms=latency_ms)), section=section,
            retriever=FixedRetriever(found=found),
        )  # fmt: skip
        client = asked.client()
        replies = [client.post("/v1/chat/completions", json=CHAT).json()["plinth"] for _ in range(2)]
        assert [reply["cache"] for reply in replies] == caches
        assert replies[0]["route"]["cascade"]["why"] == "beside_reader"
