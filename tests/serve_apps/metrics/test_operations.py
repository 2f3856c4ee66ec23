"""`/v1/plinth/ops`: what is told, that it agrees with `plinth status`, and what it costs when many look."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.core.home import Home
from cluster.core.sections.serve import ServeSection
from cluster.core.telemetry import log_event
from cluster.deployments import deployments
from cluster.local_head import Instance
from cluster.supervision import Watch
from serve_apps.errors import UnavailableError
from serve_apps.gateway.protocols import TierState
from serve_apps.metrics import operations
from serve_apps.metrics.operations import MOST, Part, replicas
from serve_apps.metrics.text import by_deployment
from tests.cluster.test_deployments import dashboard, own
from tests.fakes import FixedRetriever, ScriptedTier
from tests.serve_apps.service import CHAT, Service

__all__ = ["dashboard", "own"]  # fixtures
PAGE = """\
# HELP ray_serve_deployment_queued_queries Waiting.
# TYPE ray_serve_deployment_queued_queries gauge
ray_serve_deployment_queued_queries{application="plinth",deployment="guard",handle="a"} 2.0
ray_serve_deployment_queued_queries{application="plinth",deployment="guard",handle="b"} 1.0
# HELP ray_serve_replica_processing_queries In work.
# TYPE ray_serve_replica_processing_queries gauge
ray_serve_replica_processing_queries{application="plinth",deployment="guard"} 4.0
# HELP ray_serve_deployment_replica_healthy Healthy.
# TYPE ray_serve_deployment_replica_healthy gauge
ray_serve_deployment_replica_healthy{application="plinth",deployment="guard"} 2.0
# HELP plinth_requests_total Requests.
# TYPE plinth_requests_total counter
plinth_requests_total{route="/v1/chat/completions",status="200"} 7.0
"""


async def page() -> str:
    return PAGE


def ops(service: Service) -> dict[str, Any]:
    reply = service.client().get("/v1/plinth/ops")
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    found: dict[str, Any] = reply.json()
    return found


def test_replicas_and_events_are_those_of_plinth_status(own: Home, dashboard: Instance) -> None:
    (own.run / "instance.json").write_text(json.dumps(vars(dashboard)))
    Watch(restarts=2, last="raylet died").write(own)
    for before, after in ((1, 4), (4, 3)):
        log_event("scaling", "scaled", deployment="guard", before=before, after=after, why="load")
    found = ops(Service(home=own, metrics=page))
    status = [one.to_dict() for one in deployments(own, dashboard)]
    told = [{key: row[key] for key in status[0]} for row in found["deployments"]]
    assert told == status
    assert [one["name"] for one in told] == ["gateway", "guard"]
    assert {key: found["deployments"][1][key] for key in ("in_work", "waiting")} == {"in_work": 4.0, "waiting": 3.0}
    assert {key: found["deployments"][0][key] for key in ("in_work", "waiting")} == {"in_work": None, "waiting": None}
    assert [(one["before"], one["after"]) for one in found["scale_events"]] == [(1, 4), (4, 3)]
    assert found["supervisor"] == Watch.read(own).to_dict()
    assert own.token_path.read_text().strip() not in json.dumps(found)


def test_without_a_dashboard_the_metrics_say_what_runs(own: Home) -> None:
    found = ops(Service(home=own, metrics=page))
    (guard,) = found["deployments"]
    assert (guard["name"], guard["running"], guard["target"], guard["in_work"]) == ("guard", 2, None, 4.0)
    assert replicas([], {}) == []


def test_tiers_with_version_and_gate() -> None:
    section = ServeSection.model_validate({"tiers": [
        {"name": "quote", "kind": "quote", "fallback": True}, {"name": "wide", "kind": "quote"}]})  # fmt: skip
    models = {
        "wide": ScriptedTier(state=TierState("wide", earned=False, model_version="w")),
        "small": ScriptedTier(state=TierState("small", model_version="s1", ongoing=3, capacity=64)),
        "large": ScriptedTier(state=TierState("large", earned=False, model_version="l1", asleep=True)),
        "new": ScriptedTier(state=TierState("new", ready=False, earned=False)),
    }
    told = {one["name"]: one for one in ops(Service(models=models, section=section))["tiers"]}
    fields = ("kind", "state", "version", "gate", "auto")
    assert {name: tuple(one[field] for field in fields) for name, one in told.items()} == {
        "quote": ("quote", "ready", "scripted-1", "baseline", True),
        "wide": ("quote", "ready", "w", "none", False),
        "small": ("model", "ready", "s1", "passed", True),
        "large": ("model", "asleep", "l1", "not passed", False),
        "new": ("model", "not ready", "", None, False),
    }  # fmt: skip
    assert (told["small"]["under_way"], told["small"]["at_once"]) == (3, 64)


def test_collections_the_default_first_and_none_is_not_unknown() -> None:
    found = ops(Service(retriever=FixedRetriever(names=("main", "boats"))))
    assert [(one["name"], one["default"], one["index_version"]) for one in found["collections"]] == [
        ("main", True, "v1"), ("boats", False, "v2")]  # fmt: skip
    assert found["collections"][0]["age_s"] > 0
    assert ops(Service(retriever=FixedRetriever(names=())))["collections"] == []
    assert ops(Service(retriever=FixedRetriever(down=True)))["collections"] is None


def test_the_answer_has_a_bound() -> None:
    names = [f"c{number:03}" for number in range(MOST + 20)]
    models = {f"m{number:03}": ScriptedTier(state=TierState(f"m{number:03}")) for number in range(MOST + 20)}
    found = ops(Service(retriever=FixedRetriever(names=names), models=models))
    assert (len(found["collections"]), len(found["tiers"]), found["left_out"]) == (MOST, MOST, 41)
    assert len(json.dumps(found)) < 40_000


def test_no_question_gets_in(tmp_path: Path) -> None:
    service = Service(home=Home(tmp_path))
    client = service.client()
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    (tmp_path / "logs").mkdir()
    lines = [{"ts": "2026-01-01T00:00:00+00:00", **line} for line in service.log]
    (tmp_path / "logs" / "gateway.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = client.get("/v1/plinth/ops").text
    assert "copy" not in text
    assert service.log[-1]["route"] == "/v1/chat/completions", "looking leaves no line in the log"


def test_many_who_look_at_once_cost_one_look_and_none_waits_for_a_part_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operations, "PATIENCE_S", 0.05)
    asked: list[str] = []

    async def looks() -> None:
        free = asyncio.Event()

        async def ask() -> int:
            asked.append("")
            await free.wait()
            return len(asked)

        hasty, patient = Part(ask, fresh_s=0.0), Part(ask, fresh_s=60.0)
        begun = time.monotonic()
        assert await asyncio.gather(*(hasty() for _ in range(30))) == [None] * 30
        assert (time.monotonic() - begun < 3, len(asked)) == (True, 1)
        free.set()
        assert set(await asyncio.gather(*(patient() for _ in range(30)))) == {2}
        assert [await patient(), await hasty(), await hasty()] == [2, 3, 4]

    asyncio.run(looks())


def test_what_was_told_is_known_for_a_while_after_the_part_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [7]

    async def ask() -> int:
        if not answers:
            raise UnavailableError("gone")
        return answers.pop()

    async def looks() -> None:
        part = Part(ask, fresh_s=0.0)
        assert await part() == 7
        assert await part() == 7  # it has gone, and was here just now
        monkeypatch.setattr(operations, "STALE_S", 0.0)
        assert await part() is None

    asyncio.run(looks())


def test_deployments_are_added_up_over_their_other_labels() -> None:
    names = ("ray_serve_deployment_queued_queries",)
    assert by_deployment(PAGE, names) == {"guard": {names[0]: 3.0}}
    assert by_deployment("", names) == {}
