"""The heads of a running guard: what the alias names is used soon, what does not fit is not, and all can be undone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import IncompatibleError
from cluster.core.home import Home
from cluster.core.storage import LIVE, Store
from data_jobs.safety import encoder
from data_jobs.safety.head import FILE, Head, Measured, SafetyHead
from data_jobs.safety.in_force import KIND, NAME, in_force, roll_back, shipped
from serve_apps.guards import chain, heads
from serve_apps.guards.classifier import ClassifierGuard
from serve_apps.guards.heads import LiveHeads
from serve_apps.replicas.guard import GuardReplica
from tests.serve_apps.guards.test_classifier import GOOD, HEAD, embed

ASKS = "asks"


def go_live(store: Store, head: SafetyHead, body: str = "") -> str:
    folder = f"{store.staging(head.version)}/artefact"
    store.write(f"{folder}/{FILE}", (body or head.to_json()).encode())
    made = store.publish(KIND, NAME, folder, run_key=head.version)
    store.move_alias(KIND, NAME, LIVE, made.version, why="a test")
    return made.version


def named(version: str, **more: Any) -> SafetyHead:
    return replace(HEAD, version=version, **more)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def live(store: Store, tmp_path: Path) -> LiveHeads:
    return LiveHeads(store, tmp_path / "cache", ASKS, named("shipped"))


def test_what_goes_live_is_used_and_what_is_taken_back_is_not(store: Store, live: LiveHeads) -> None:
    guard = ClassifierGuard(live.head, embed, ASKS, live)

    def version() -> str:
        live.refresh()
        return guard.check_input(["poison"])[0].verdicts[0].version

    assert version() == "shipped"
    for name in ("first", "second"):
        go_live(store, named(name))
        assert version() == name
    roll_back(store)
    assert version() == "first"
    roll_back(store)
    assert version() == "shipped"
    go_live(store, named("third"))
    assert version() == "third"


def test_what_does_not_fit_is_refused_and_the_one_before_stays(store: Store, live: LiveHeads) -> None:
    go_live(store, named("first"))
    live.refresh()
    for bad in (named("other", embedder="another"), named("odd", heads={"odd": Head((1.0,), 0.0, 0.0, GOOD)})):
        go_live(store, bad)
        assert not live.refresh()
        assert live.head.version == "first"
    go_live(store, named("broken"), body="{")
    live.refresh()
    assert live.head.version == "first"


def test_a_damaged_alias_changes_nothing_and_is_told_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    found = LiveHeads(store, tmp_path / "cache", ASKS, named("shipped"), lambda *what, **more: told.append(more))
    go_live(store, named("first"))
    found.refresh()
    Path(store.alias_path(KIND, NAME, LIVE)).write_text("{")
    for _ in range(2):
        found.refresh()
        assert found.head.version == "first"
    assert len(told) == 1


def test_heads_that_fit_nowhere_let_nothing_pass(store: Store, tmp_path: Path) -> None:
    found = LiveHeads(store, tmp_path / "cache", "another", named("shipped"))
    with pytest.raises(IncompatibleError, match="plinth train safety"):
        _ = found.head
    go_live(store, named("own", embedder="another"))
    found.refresh()
    assert found.head.version == "own", "own heads serve an encoder that the shipped ones do not know"


def test_a_replica_follows_while_it_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``plinth up`` builds it, with a fake encoder of the shipped heads' size."""
    asks, size = shipped().head.embedder, len(next(iter(shipped().head.heads.values())).weights)
    store = Store(Home(home).store_uri)

    def encode(texts: Sequence[str], kind: str) -> np.ndarray:
        assert kind == "query"
        return np.pad(embed(texts) / 1000, ((0, 0), (0, size - 2)))  # so small that the shipped heads see nothing

    monkeypatch.setattr(encoder, "load_encoder", lambda *_, **__: SimpleNamespace(asks=asks, encode=encode))
    monkeypatch.setattr(heads, "FOLLOW_S", 0.01)
    replica = GuardReplica(configured(PlinthConfig(), ['serve.guards=["classifier"]']))
    assert isinstance(replica._chain, chain.GuardChain)
    weights = tuple([0.0, 10_000.0, *[0.0] * (size - 2)])
    own = SafetyHead(asks, "own", {"harmful": Head(weights, -5.0, 0.0, Measured(**vars(GOOD)))})

    async def said() -> list[str]:
        return [one.version for one in (await replica.check_input(["poison"]))[0].verdicts]

    async def until(expected: list[str]) -> None:
        async with asyncio.timeout(5):
            while await said() != expected:
                await asyncio.sleep(0.01)

    async def live() -> None:
        await replica.check_health()
        assert await said() == []
        go_live(store, own)
        await until(["own"])
        assert not (await replica.check_input(["poison"], prompts=False))[0].verdicts
        roll_back(store)
        await until([])

    asyncio.run(live())
    assert json.loads(in_force(store).head.to_json()) == json.loads(shipped().head.to_json())
