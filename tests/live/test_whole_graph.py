"""The whole service under a step of load, with every deployment following its load, a model that sleeps, and new
settings while people ask. A service of its own.

It has not been run to its end yet (LOG.md).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.storage import Store
from cluster.deployments import Deployment, deployments
from cluster.local_head import recorded
from cluster.processes import free_ports
from tests.live.conftest import Service, eventually, settings_for, write_pages
from tests.train_jobs.publishing.model_folders import llama
from train_jobs.build_model import judge

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1500)]

SEAL = "How often do I replace the seal of the bilge pump?"
SLEEPER = "attic"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
MEASURED: dict[str, Any] = {  # what a gate would have measured of a model that answers better than a quotation
    "answerable": {"n": 400, "abstained": 0.0}, "unanswerable": {"n": 400, "abstained": 1.0},
    "difference": {"low": 0.4}, "ms": {"model": 5.0},
    "bands": [{"low": 0.0, "high": 1.01, "n": 400, "model": 0.9, "quote": 0.4}],
}  # fmt: skip
FOLLOWS = [
    "serve.gateway_replicas.max=2", "serve.gateway_replicas.target=4",
    "serve.guard_replicas.min=1", "serve.guard_replicas.max=2", "serve.guard_replicas.target=1",
    "serve.retriever_replicas.max=2", "serve.retriever_replicas.target=2",
    "serve.tiers.quote.max_replicas=2", "serve.tiers.quote.target_ongoing=1", "serve.tiers.quote.price=1",
    f"serve.tiers.{SLEEPER}.min_replicas=0", "serve.scaling.zero_after_s=15", "serve.scaling.down_after_s=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose numbers of replicas are all free, and a cheap model that `auto` prefers where it is awake."""
    root = tmp_path_factory.mktemp("graph")
    home, folder = root / "home", write_pages(root / "boat")
    home.mkdir()
    settings = [*settings_for(free_ports(3)), *(part for one in FOLLOWS for part in ("--set", one))]
    command = [sys.executable, "-m", "cluster.cli.main"]
    environ = {**os.environ, "PLINTH_HOME": str(home)}
    environ.pop("PLINTH_STORE", None)
    try:
        words = [*command, "quickstart", "--source", str(folder), "--train-minutes", "0", "--json", *settings]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=400, check=False, cwd=home)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        instance = recorded(Home(home))
        assert instance is not None
        service = Service(home, settings, instance, json.loads(done.stdout), folder)
        model = llama(root / "tiny-llama", template=TEMPLATE, context=4096)
        added = json.loads(service.plinth("models", "add", str(model), "--tier", SLEEPER, "--json", *settings).stdout)
        assert added["live"]
        store = Store(str(home / "store"))
        (model,) = Registry(store).versions(SLEEPER)
        manifest = store.manifest("models", SLEEPER, model.version)
        verdict = judge(PlinthConfig(), store, manifest, "any@index", MEASURED)
        assert verdict.gate.passed, verdict.gate.reason
        yield service
    finally:
        instance = recorded(Home(home))
        subprocess.run([*command, "down"], env=environ, check=True, timeout=120, capture_output=True)
        assert instance is None or instance.processes() == []


def replicas(service: Service) -> dict[str, Deployment]:
    return {one.name: one for one in deployments(Home(service.home), service.instance)}


def told(service: Service) -> dict[str, Any]:
    reply = service.ask(SEAL)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()["plinth"]
    return found


def test_a_model_falls_asleep_and_wakes_while_another_tier_answers(graph: Service) -> None:
    name = f"tier-{SLEEPER}"
    eventually(lambda: told(graph)["tier"] == SLEEPER, 60, "`auto` takes the model")
    eventually(lambda: replicas(graph)[name].running == 0, 120, "nobody needs it, and it falls asleep")
    instead = told(graph)
    assert (instead["tier"], instead["route"]["reason"], instead["degraded"]) == ("quote", "asleep", True)
    eventually(lambda: told(graph)["tier"] == SLEEPER, 120, "it was woken in the background")
    assert replicas(graph)[name].running == 1


def test_replicas_of_the_whole_graph_follow_a_step_of_load(graph: Service, tmp_path: Path) -> None:
    questions, picture = tmp_path / "questions.txt", tmp_path / "steps.png"
    questions.write_text("".join(f"{SEAL} ({number})\n" for number in range(1000)))
    more = ["--steps", "1:10,10:60,1:75", "--questions", str(questions), "--plot", str(picture), "--json"]
    found = json.loads(graph.plinth("load", *more, *graph.settings, timeout=300).stdout)
    assert found["failed"] == 0, found["codes"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    events: dict[str, list[dict[str, Any]]] = {}
    for event in found["scale_events"]:
        events.setdefault(event["deployment"], []).append(event)
    grown = {name for name, mine in events.items() if any(one["after"] > one["before"] > 0 for one in mine)}
    assert {"retriever", "gateway"} <= grown, events
    assert all(len(mine) <= 6 for mine in events.values()), events

    def as_few_as_before() -> bool:
        return all(one.running <= max(1, one.min) for one in replicas(graph).values())

    eventually(as_few_as_before, 120, "no more replicas than before the crowd")
    alone, _, after = found["steps"]
    assert after["halves"][1]["p95_ms"] < 3 * alone["p95_ms"] + 200, "what a request takes recovers"


def test_a_crowd_is_told_at_once_and_whoever_is_let_in_is_answered(graph: Service) -> None:
    """Three hundred at once, where some sixty wait five seconds already."""

    async def crowd() -> list[httpx.Response | BaseException]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=graph.url, headers=graph.bearer, trust_env=False, timeout=60,
                                     limits=limits) as http:  # fmt: skip
            body = {"model": "quote", "messages": [{"role": "user", "content": SEAL}]}
            posts = (http.post("/v1/chat/completions", json=body) for _ in range(300))
            return await asyncio.gather(*posts, return_exceptions=True)

    replies = asyncio.run(crowd())
    assert {getattr(reply, "status_code", repr(reply)) for reply in replies} == {200, 503}
    refused = [one for one in replies if isinstance(one, httpx.Response) and one.status_code == 503]
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert all(one.json()["error"]["code"] == "server_is_overloaded" for one in refused)
    assert any("x-request-id" not in one.headers for one in refused), "the edge says so itself"


def test_a_killed_haproxy_is_replaced_and_nobody_is_told_that_there_is_nothing(graph: Service) -> None:
    before = [pid for pid in graph.pids("haproxy") if os.readlink(f"/proc/{pid}/exe").endswith("/haproxy")]
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    seen: set[int] = set()

    def back() -> bool:
        try:
            seen.add(httpx.get(f"{graph.url}/v1/models", headers=graph.bearer, trust_env=False, timeout=5).status_code)
        except httpx.HTTPError:
            return False
        return 200 in seen

    eventually(back, 30, "HAProxy answers again")  # 5 s on an idle machine
    assert seen <= {200, 503}


@dataclass
class Asking:
    """Asks again and again, and keeps what went wrong."""

    service: Service
    stream: bool
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        with httpx.Client(base_url=self.service.url, headers=self.service.bearer, trust_env=False, timeout=60) as http:
            while not self.done.is_set():
                body = {"model": "auto", "messages": [{"role": "user", "content": SEAL}], "stream": self.stream}
                try:
                    reply = http.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                    continue
                whole = not self.stream or reply.text.rstrip().endswith("data: [DONE]")
                if reply.status_code == 200 and whole:
                    self.answered += 1
                else:
                    self.wrong.append(f"{reply.status_code} {reply.text[-200:]}")


def test_new_settings_cost_nobody_an_answer(graph: Service) -> None:
    asking = [Asking(graph, stream) for stream in (False, True)]
    threads = [threading.Thread(target=one) for one in asking]
    for thread in threads:
        thread.start()
    try:
        for seconds in (31, 32, 33):
            graph.plinth("up", *graph.settings, "--set", f"serve.request_timeout_s={seconds}", timeout=300)
    finally:
        for one in asking:
            one.done.set()
        for thread in threads:
            thread.join(90)
    assert [one.wrong for one in asking] == [[], []]
    assert all(one.answered > 10 for one in asking)
