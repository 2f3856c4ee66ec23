"""The learned part of auto: asked only where there is a choice, never above a rule, and told in the answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.storage import Store
from data_jobs.retrieval.results import Retrieval
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.routing.learned import LearnedRouter, Suffices
from serve_apps.routing.rules import Features, route
from tests.fakes import FixedRetriever, ScriptedTier
from tests.serve_apps.service import CHAT, Service
from train_jobs.answering.difficulty import CHEAP, Difficulty, RoutingPolicy

QUOTE = TierState("quote", fallback=True, latency_ms=5.0)
SMALL = TierState("small", continues=True, latency_ms=20.0, price=1.0, bands=(Band(0.0, 1.01, 100, 0.70, 0.40),))
LARGE = TierState("large", continues=True, latency_ms=90.0, price=9.0, bands=(Band(0.0, 1.01, 100, 0.90, 0.40),))
ALL = (QUOTE, SMALL, LARGE)
QUOTED_BETTER = tuple(replace(tier, bands=(Band(0.0, 1.01, 100, 0.5, 0.9),)) for tier in (SMALL, LARGE))
YES, NO = Suffices(0.8, 0.6, "router@1"), Suffices(0.4, 0.6, "router@1")
ASKS, DIM = "toy", 4


@pytest.mark.parametrize(
    ("model", "tiers", "features", "suffices", "tier", "reason"),
    [
        ("auto", ALL, Features(0.9), None, "large", "measured_better"),
        ("auto", ALL, Features(0.9), YES, "small", "small_suffices"),
        ("auto", ALL, Features(0.9), NO, "large", "measured_better"),
        # Rules that stand above it: what a client named, refusals, the documents' own words.
        ("large", ALL, Features(0.9), YES, "large", "requested"),
        ("auto", ALL, Features(0.2, supported=False), YES, "quote", "unsupported"),
        ("auto", ALL, Features(0.9, names_document=True), YES, "quote", "names_document"),
        ("auto", (QUOTE, *QUOTED_BETTER), Features(0.9), NO, "quote", "measured_better"),
        # Nothing to save: no larger model, or none that measured better.
        ("auto", (QUOTE, SMALL), Features(0.9), NO, "small", "measured_better"),
        ("auto", (QUOTE, SMALL, replace(LARGE, bands=SMALL.bands)), Features(0.9), NO, "small", "cheaper_as_good"),
        ("auto", (QUOTE, SMALL, replace(LARGE, earned=False)), Features(0.9), NO, "small", "measured_better"),
    ],
)  # fmt: skip
def test_where_it_decides_and_where_a_rule_does(
    model: str, tiers: tuple[TierState, ...], features: Features, suffices: Suffices | None, tier: str, reason: str
) -> None:
    decision = route(model, tiers, features, suffices)
    assert (decision.tier, decision.reason) == (tier, reason)
    asked = suffices is not None and {decision.tier} <= {"small", "large"} and len(tiers) == 3
    assert bool(decision.learned) == (asked and route("auto", tiers, features).tier == "large" and model == "auto")


def test_what_it_said_is_told() -> None:
    told = route("auto", ALL, Features(0.9), NO).told()
    assert told["learned"] == {
        "suffices": 0.4, "threshold": 0.6, "small": "small", "large": "large", "router": "router@1",
    }  # fmt: skip
    assert "learned" not in route("auto", ALL, Features(0.9)).told()


# -- through the gateway -----------------------------------------------------------------------------------------------
class Questions(FixedRetriever):
    """Embeds questions: the first number of a vector says how easy one is."""

    def __init__(self, easy: float, asks: str = ASKS, error: Exception | None = None) -> None:
        super().__init__()
        self.easy, self.asks, self.error = easy, asks, error
        self.embedded: list[str] = []

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        self.embedded += texts
        if self.error is not None:
            raise self.error
        return self.asks, [[self.easy, 0.0, 0.0, 0.0]] * len(texts)

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        return await super().search(question, k, collection)


def policy(threshold: float = 0.5) -> RoutingPolicy:
    k = DIM + len(CHEAP)
    return RoutingPolicy(
        "router@1", threshold, 0.3, Difficulty(ASKS, (0.0,) * k, (1.0,) * k, (1.0, *[0.0] * (k - 1)), 0.0)
    )


def publish(store: Store, body: Any, name: str = "auto") -> str:
    folder = store.staging(f"policy-{hash(str(body))}")
    store.write(f"{folder}/policy.json", body if isinstance(body, bytes) else json.dumps(body).encode())
    made = store.publish("routing", name, folder, run_key=f"policy-{hash(str(body))}")
    store.move_alias("routing", name, "live", made.version, why="test")
    return made.version


@pytest.fixture
def store(home: object, tmp_path: Path) -> Store:
    del home
    return Store(str(tmp_path / "store"))


def service(store: Store, retriever: Questions, *models: TierState) -> tuple[Service, list[tuple[Any, ...]]]:
    said: list[tuple[Any, ...]] = []
    learned = LearnedRouter(store, Path(store.uri) / "cache", lambda *what, **fields: said.append((*what, fields)))
    tiers = {state.name: ScriptedTier(state=state) for state in models}
    return Service(retriever=retriever, models=tiers, features=Features(0.9), learned=learned), said


def ask(made: Service, model: str = "auto") -> Any:
    return made.client().post("/v1/chat/completions", json={**CHAT, "model": model}).json()["plinth"]


def test_the_answer_says_which_tier_and_how_likely_it_sufficed(store: Store) -> None:
    publish(store, policy().to_dict())
    for easy, tier in ((2.0, "small"), (-2.0, "large")):
        retriever = Questions(easy)
        made, said = service(store, retriever, SMALL, LARGE)
        plinth = ask(made)
        assert plinth["tier"] == tier
        assert plinth["route"]["learned"]["suffices"] == pytest.approx(1 / (1 + 2.718281828**-easy), abs=1e-3)
        assert plinth["route"]["learned"]["router"] == "router@1"
        assert retriever.embedded == [CHAT["messages"][0]["content"]]  # type: ignore[index]
        assert said == []


def test_nothing_changes_with_one_model_without_a_policy_or_with_a_named_tier(store: Store) -> None:
    publish(store, policy().to_dict())
    for models, model in (((SMALL,), "auto"), ((SMALL, LARGE), "large"), ((SMALL, LARGE), "small"), ((), "auto")):
        retriever = Questions(2.0)
        made, _ = service(store, retriever, *models)
        plinth = ask(made, model)
        assert plinth["tier"] == (model if model != "auto" else "small" if models else "quote")
        assert "learned" not in plinth["route"]
        assert retriever.embedded == [], "no vector is made where there is nothing to choose"
    store.remove_alias("routing", "auto", "live")
    retriever = Questions(2.0)
    made, _ = service(store, retriever, SMALL, LARGE)
    assert ask(made)["route"]["reason"] == "measured_better"
    assert retriever.embedded == []


@pytest.mark.parametrize(
    "retriever",
    [
        Questions(2.0, asks="another"),
        Questions(2.0, error=UnavailableError("down")),
        Questions(2.0, error=KeyError("bug")),
    ],
)
def test_where_it_cannot_say_anything_the_rules_decide(store: Store, retriever: Questions) -> None:
    publish(store, policy().to_dict())
    made, said = service(store, retriever, SMALL, LARGE)
    for _ in range(3):
        plinth = ask(made)
        assert (plinth["tier"], plinth["route"]["reason"]) == ("large", "measured_better")
        assert "learned" not in plinth["route"]
    assert [line[1] for line in said] == ["router_not_used"], "once, however many questions"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"threshold": 2}', json.dumps({**policy().to_dict(), "threshold": 7})])
def test_a_damaged_policy_is_refused(store: Store, body: Any) -> None:
    publish(store, body if isinstance(body, bytes) else json.loads(body))
    made, _ = service(store, Questions(2.0), SMALL, LARGE)
    assert ask(made)["route"]["reason"] == "measured_better"


def test_a_damaged_alias_leaves_the_rules(store: Store) -> None:
    publish(store, policy().to_dict())
    store.write(store.alias_path("routing", "auto", "live"), b"{")
    made, said = service(store, Questions(2.0), SMALL, LARGE)
    assert ask(made)["route"]["reason"] == "measured_better"
    assert [line[1] for line in said] == ["router_not_used"]


def test_it_follows_what_is_tuned_and_switched_off(store: Store) -> None:
    learned = LearnedRouter(store, Path(store.uri) / "cache")

    async def said(easy: float) -> Suffices | None:
        return await learned.judge("q", Questions(easy).embed_questions)

    async def through() -> None:
        assert await said(1.0) is None
        publish(store, policy(0.5).to_dict())
        learned._live.refresh()  # what its follower does every other second
        first = await said(1.0)
        assert first is not None
        assert first.small
        publish(store, policy(0.9).to_dict())
        learned._live.refresh()
        second = await said(1.0)
        assert second is not None
        assert not second.small
        store.remove_alias("routing", "auto", "live")
        learned._live.refresh()
        assert await said(1.0) is None

    asyncio.run(through())
