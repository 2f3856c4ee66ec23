"""/metrics is made once for all who ask, by all gateways of a machine; no agent is no page."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serve_apps.errors import UnavailableError
from serve_apps.metrics.agents import Agents
from serve_apps.metrics.shared import SharedPage
from tests.serve_apps.metrics.test_text import PAGE, samples
from tests.serve_apps.service import Service

REQUESTS = ("plinth_requests_total", (("route", "/v1/models"), ("status", "200")))


class Maker:
    """Makes pages that say how many were made; the first ``failing`` fail."""

    def __init__(self, failing: int = 0) -> None:
        self.made, self.at_once, self.most, self._failing = 0, 0, 0, failing

    async def __call__(self) -> str:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        self.made += 1
        if self.made <= self._failing:
            raise UnavailableError("none answered")
        return f"page {self.made}"


def test_all_who_ask_at_once_get_one_page(tmp_path: Path) -> None:
    make = Maker()
    gateways = [SharedPage(tmp_path, make, 60.0) for _ in range(3)]

    async def ask() -> list[str]:
        return await asyncio.gather(*(gateways[n % 3]() for n in range(30)))

    assert set(asyncio.run(ask())) == {"page 1"}
    assert set(asyncio.run(ask())) == {"page 1"}, "it is recent"
    assert make.made == 1


def test_an_old_page_is_made_anew_by_one_at_a_time(tmp_path: Path) -> None:
    make = Maker()
    gateways = [SharedPage(tmp_path, make, 60.0) for _ in range(3)]

    async def ask() -> list[str]:
        return await asyncio.gather(*(gateway() for gateway in gateways))

    asyncio.run(ask())
    os.utime(tmp_path / "page", (1, 1))
    assert set(asyncio.run(ask())) == {"page 2"}
    assert (make.made, make.most) == (2, 1)


def test_what_fails_is_tried_again_and_hides_nothing(tmp_path: Path) -> None:
    page = SharedPage(tmp_path, Maker(failing=1), 60.0)

    async def ask() -> list[object]:
        return await asyncio.gather(*(page() for _ in range(5)), return_exceptions=True)

    assert all(isinstance(found, UnavailableError) for found in asyncio.run(ask()))
    assert set(asyncio.run(ask())) == {"page 2"}


def test_who_stops_waiting_does_not_stop_the_others(tmp_path: Path) -> None:
    page = SharedPage(tmp_path, Maker(), 60.0)

    async def ask() -> str:
        first, second = asyncio.ensure_future(page()), asyncio.ensure_future(page())
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(ask()) == "page 1"


class Agent(BaseHTTPRequestHandler):
    """A metrics agent with a page that a test sets; without one it answers 500."""

    page = ""

    def do_GET(self) -> None:
        self.send_response(200 if self.page else 500)
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def agent() -> Iterator[tuple[str, type[Agent]]]:
    kind = type("OneAgent", (Agent,), {})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()


def test_counters_outlive_replica_node_and_gateway(tmp_path: Path, agent: tuple[str, type[Agent]]) -> None:
    address, kind = agent
    nodes = {"n1": address}

    def asked() -> dict[object, float]:
        return dict(samples(asyncio.run(Agents(tmp_path, lambda: nodes)())).items())  # a new gateway each time

    kind.page = PAGE.format(worker="a", count=5, method="GET") + PAGE.format(worker="b", count=2, method="GET")
    assert asked()[REQUESTS] == 7
    kind.page = PAGE.format(worker="b", count=3, method="GET")
    assert asked()[REQUESTS] == 8
    nodes["n2"] = "127.0.0.1:1"
    found = asked()
    assert (found[REQUESTS], found["plinth_metrics_nodes_missing", ()]) == (8, 1)
    del nodes["n1"]
    nodes["n2"] = address
    assert asked()[REQUESTS] == 11, "another node, whose replica counted three"
    (tmp_path / "ledger.json").write_text("{")
    assert asked()[REQUESTS] == 3, "a ledger that cannot be read does not cost the page"


@pytest.mark.parametrize("page", ["", None])
def test_no_agent_is_no_page(tmp_path: Path, agent: tuple[str, type[Agent]], page: str | None) -> None:
    nodes = {} if page is None else {"n1": agent[0]}
    with pytest.raises(UnavailableError, match="metrics agents answered"):
        asyncio.run(Agents(tmp_path, lambda: nodes)())


def test_the_route_answers_503_then() -> None:
    async def none() -> str:
        raise UnavailableError("none of the 1 metrics agents answered")

    reply = Service(metrics=none).client().get("/metrics")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
