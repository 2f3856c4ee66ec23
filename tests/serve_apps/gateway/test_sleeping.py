"""A tier that sleeps: not asked while nobody needs it, woken in the background while another one answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import UsageError
from serve_apps.gateway.protocols import TierState
from serve_apps.gateway.sleeping import SleepingTier
from serve_apps.replicas.options import tier_options
from serve_apps.routing.rules import Features, route
from tests.fakes import FixedRetriever, ScriptedTier
from tests.serve_apps.gateway.test_tiers import GOOD, ask
from tests.serve_apps.service import Service

QUIET_S = 60.0
UNKNOWN = TierState("small", ready=False, earned=False)


class Replicas(ScriptedTier):
    """A tier whose replicas may be away; counts how often they were asked what they serve."""

    def __init__(self) -> None:
        super().__init__(state=UNKNOWN)
        self.away, self.asked = False, 0

    async def refresh(self) -> None:
        self.asked += 1
        self.state = UNKNOWN if self.away else GOOD


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def until(tier: SleepingTier, asleep: bool) -> None:
    async with asyncio.timeout(20):
        while tier.state.asleep is not asleep:
            await asyncio.sleep(0.01)


def test_it_is_asked_while_it_is_used_and_then_no_more() -> None:
    async def scenario() -> None:
        clock, replicas = Clock(), Replicas()
        tier = SleepingTier(replicas, QUIET_S, clock)
        clock.now += 10 * QUIET_S
        await tier.refresh()
        assert (tier.state, replicas.asked) == (GOOD, 1), "what was not known until now has not slept since then"
        await tier.refresh()
        clock.now += QUIET_S / 2
        async for _ in tier.complete("x", None):  # type: ignore[arg-type]
            pass
        clock.now += QUIET_S
        await tier.refresh()
        assert (tier.state, replicas.asked) == (GOOD, 3)
        clock.now += 1
        replicas.away = True
        for _ in range(5):
            await tier.refresh()
        assert (tier.state, replicas.asked) == (replace(GOOD, asleep=True), 3)

    asyncio.run(scenario())


def test_asleep_it_is_what_it_was_at_last() -> None:
    """Replicas are asked in the background: what they say arrives after the request that made somebody ask."""

    async def scenario() -> None:
        clock, replicas = Clock(), Replicas()
        tier = SleepingTier(replicas, QUIET_S, clock)
        await tier.refresh()
        replicas.state = judged = replace(GOOD, earned=True, model_version="judged")
        clock.now += QUIET_S + 1
        assert tier.state == replace(judged, asleep=True)
        replicas.state = UNKNOWN  # somebody asked all the same, and nobody was there
        assert tier.state == replace(GOOD, asleep=True)

    asyncio.run(scenario())


def test_it_is_woken_in_the_background() -> None:
    async def scenario() -> None:
        clock, replicas = Clock(), Replicas()
        tier = SleepingTier(replicas, QUIET_S, clock)
        await tier.refresh()
        clock.now += QUIET_S + 1
        replicas.away = True
        tier.wake()
        tier.wake()
        async with asyncio.timeout(20):
            while replicas.asked < 3:
                assert tier.state == replace(GOOD, asleep=True), "what it is stays known while it starts"
                await asyncio.sleep(0.01)
        replicas.away = False
        await until(tier, asleep=False)
        assert tier.state == GOOD
        asked = replicas.asked
        tier.wake()
        await asyncio.sleep(0)
        assert replicas.asked == asked, "who is awake is not woken"

    asyncio.run(scenario())


def test_another_tier_answers_until_it_is_there() -> None:
    clock, replicas = Clock(), Replicas()
    tier = SleepingTier(replicas, QUIET_S, clock)
    service = Service(models={"small": tier}, retriever=FixedRetriever(), features=Features(0.9))
    with service.client() as client:  # one event loop for all requests
        service.client = lambda: client  # type: ignore[method-assign]
        assert ask(service, "auto").json()["plinth"]["tier"] == "small"
        clock.now += QUIET_S + 1
        plinth = ask(service, "auto").json()["plinth"]
        assert (plinth["tier"], plinth["route"]["reason"], plinth["degraded"]) == ("quote", "asleep", True)
        asked = replicas.asked
        reply = {}
        for _ in range(200):
            reply = ask(service, "auto").json()["plinth"]
            if reply["tier"] == "small":
                break
        assert (reply["tier"], reply["degraded"]) == ("small", False)
        assert replicas.asked > asked - 1
        clock.now += QUIET_S + 1
        assert ask(service, "small").json()["plinth"]["tier"] == "small", "who names it waits for it"


def test_only_what_would_be_chosen_is_woken() -> None:
    quote, small = TierState("quote", fallback=True), replace(GOOD, asleep=True)
    chosen = route("auto", (quote, small), Features(0.9))
    assert (chosen.tier, chosen.reason, chosen.wakes) == ("quote", "asleep", "small")
    unsupported = route("auto", (quote, small), Features(0.9, supported=False))
    assert (unsupported.tier, unsupported.reason, unsupported.wakes) == ("quote", "unsupported", "")
    alone = route("auto", (small,), Features(0.9))
    assert (alone.tier, alone.wakes) == ("small", ""), "there is nobody else: it is waited for"
    assert route("small", (quote, small)).reason == "requested"


def test_a_model_may_sleep_and_what_answers_for_it_may_not() -> None:
    config = configured(PlinthConfig(), ["serve.tiers.small.min_replicas=0"])
    scaled = tier_options(config.serve, config.serve.tier("small"))["autoscaling_config"]
    assert (scaled["min_replicas"], scaled["initial_replicas"], scaled["max_replicas"]) == (0, 1, 1)
    assert scaled["policy"]["policy_kwargs"]["zero_after_s"] == config.serve.scaling.zero_after_s
    with pytest.raises(UsageError, match="min_replicas is 1 at least"):
        configured(PlinthConfig(), ["serve.tiers.quote.min_replicas=0"])
