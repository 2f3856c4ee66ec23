"""The page of operations in a real Chromium, against the application on a real socket with fakes behind it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.core.home import Home
from cluster.core.storage import utc_now
from cluster.core.telemetry import log_event
from cluster.local_head import Instance
from serve_apps.gateway.protocols import TierState
from serve_apps.metrics import operations
from tests.cluster.test_deployments import dashboard, own
from tests.fakes import FixedRetriever, ScriptedTier
from tests.serve_apps.console.visit import PHONE, Browser, Visit, expect, visit
from tests.serve_apps.metrics.test_operations import page as metrics
from tests.serve_apps.service import CHAT, Service, on_socket

__all__ = ["dashboard", "own"]  # fixtures
LOOKS_MS = 2000


def clean(seen: Visit) -> None:
    assert seen.complaints == []
    assert {request.url.split("/")[2] for request in seen.requests} == {seen.url.split("/")[2]}


def looks(seen: Visit) -> int:
    seen.page.evaluate("() => fetch('/healthz?last')")  # what was asked before it has been seen by now
    return len([request for request in seen.requests if request.url.endswith("/v1/plinth/ops")])


def rows(seen: Visit, box: str) -> list[list[str]]:
    found: list[list[str]] = seen.page.locator(f"#{box} tbody tr").evaluate_all(
        "all => all.map(row => [...row.children].map(cell => cell.textContent))"
    )
    return found


def busy(own: Home, dashboard: Instance) -> Service:
    """Two deployments, two tiers, two collections, events, and work of the last minutes."""
    (own.run / "instance.json").write_text(json.dumps(vars(dashboard)))
    for before, after, why in ((1, 4, "load"), (4, 3, "less load")):
        log_event("scaling", "scaled", deployment="guard", before=before, after=after, why=why)
    for status, ms in ((200, 40.0), (200, 60.0), (503, 1.0)):
        work(own, status, ms)
    small = ScriptedTier(["Said."], [], state=TierState("small", earned=False, model_version="a1b2c3"))
    return Service(
        retriever=FixedRetriever(names=("main", "boats")), models={"small": small}, home=own, metrics=metrics
    )


def work(own: Home, status: int, ms: float) -> None:
    line = {"ts": utc_now(), "event": "request", "method": "POST", "route": "/v1/chat/completions", "status": status,
            "tier": "quote" if status == 200 else None, "first_text_ms": ms, "timings_ms": {"total": ms}}  # fmt: skip
    with (own.logs / "gateway.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desk", "phone"])
def test_what_goes_on(
    browser: Browser, own: Home, dashboard: Instance, scheme: str, viewport: dict[str, int] | None
) -> None:
    with on_socket(busy(own, dashboard).app()) as url:
        size = {"viewport": viewport} if viewport else {}
        seen = visit(browser, f"{url}/ops", color_scheme=scheme, **size)
        page = seen.page
        expect(page.get_by_role("heading", name="Replicas")).to_be_visible()
        assert [row[:8] for row in rows(seen, "replicas")] == [
            ["gateway", "2", "2", "fixed", "–", "–", "0", "0"],
            ["guard", "2", "3", "1 to 4", "4", "3", "1", "1"],
        ]
        expect(page.get_by_role("status")).to_have_text("guard: fewer replicas than wanted")
        quote, small = rows(seen, "tiers")
        assert quote[:5] == ["quote", "quote", "ready", "scripted-1", "what gates compare with"]
        assert quote[6:] == ["2", "60 ms", "60 ms", "60 ms"]
        assert small[:5] == ["small", "model", "ready", "a1b2c3", "not passed"]
        assert [row[:3] for row in rows(seen, "collections-known")] == [
            ["main (default)", "loaded", "v1"], ["boats", "loaded", "v2"]]  # fmt: skip
        assert [row[1:] for row in rows(seen, "events")] == [
            ["guard", "4 to 3", "less load"], ["guard", "1 to 4", "load"]]  # fmt: skip
        expect(page.get_by_role("img", name=re.compile("^4 replicas run, 5 are wanted; 2 changes"))).to_be_visible()
        expect(page.get_by_text("Refused, failed")).to_be_visible()
        expect(page.locator("#tiles")).to_contain_text("1, 0")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        seen.picture(f"ops-{scheme}-{'phone' if viewport else 'desk'}")
        clean(seen)
        page.close()


def test_it_is_live(browser: Browser, own: Home, dashboard: Instance) -> None:
    with on_socket(busy(own, dashboard).app()) as url:
        seen = visit(browser, f"{url}/ops")
        expect(seen.page.locator("#events tbody tr")).to_have_count(2)
        log_event("scaling", "scaled", deployment="gateway", before=2, after=1, why="less load")
        for _ in range(3):
            work(own, 200, 700.0)
        expect(seen.page.locator("#events tbody tr")).to_have_count(3)
        expect(seen.page.locator("#events tbody tr").first).to_contain_text("gateway2 to 1less load")
        expect(seen.page.locator("#tiers tbody tr").first).to_contain_text("5700 ms")  # five answers, P50
        clean(seen)
        seen.page.close()


def test_without_model_index_and_head_it_says_what_to_do(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(retriever=FixedRetriever(names=()))
    with on_socket(service.app()) as url:
        seen = visit(browser, f"{url}/ops")
        page = seen.page
        expect(page.locator("#tiers")).to_contain_text("No model yet: plinth train model")
        expect(page.locator("#collections-known")).to_contain_text("No index yet: plinth index build")
        expect(page.locator("#replicas")).to_contain_text("plinth status")
        expect(page.locator("#events")).to_contain_text("No number of replicas has changed")
        expect(page.get_by_role("img", name="no requests in the last ten minutes")).to_be_visible()
        seen.picture("ops-empty")
        service.retriever.down = True
        monkeypatch.setattr(operations, "STALE_S", 1.0)
        expect(page.locator("#collections-known")).to_contain_text("plinth logs retriever", timeout=30_000)
        clean(seen)
        page.close()


def test_it_says_since_when_nobody_answers_asks_more_rarely_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    service = Service(home=Home(tmp_path))
    with on_socket(service.app()) as url:
        seen = visit(browser, f"{url}/ops")
        page = seen.page
        expect(page.get_by_role("status")).to_have_text("live")
    alert = page.get_by_role("alert")
    expect(alert).to_have_text(
        re.compile(r"^Not reachable since \d\d:\d\d:\d\d \(no connection\)\. What is shown is from")
    )
    expect(page.get_by_role("status")).to_have_text("not reachable")
    expect(page.get_by_role("heading", name="Tiers")).to_be_visible()
    seen.picture("ops-gone")
    with on_socket(service.app(), int(url.rsplit(":", 1)[1])):
        expect(alert).to_be_hidden(timeout=20_000)
        expect(page.get_by_role("status")).to_have_text("live")
        clean(seen)
        page.close()


def test_tries_come_more_rarely_while_nobody_answers(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, f"{url}/ops", clock=True)
        page = seen.page
        expect(page.get_by_role("status")).to_have_text("live")
        page.route("**/v1/plinth/ops", lambda route: route.abort())
        before = looks(seen)
        for _ in range(60):
            page.clock.run_for(1000)
            page.evaluate("() => fetch('/healthz?between')")  # the try that was due has come back
        assert 4 <= looks(seen) - before <= 7  # after 2, 4, 8, 16 and 30 s, not 30 times
        page.close()


def test_a_pause_and_nobody_looking(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, f"{url}/ops", clock=True)
        page = seen.page
        expect(page.get_by_role("status")).to_have_text("live")
        pause = page.get_by_role("button", name="Pause")
        pause.press("Enter")
        expect(pause).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_role("status")).to_contain_text("paused at")
        before = looks(seen)
        page.clock.run_for(60_000)
        assert looks(seen) == before
        with page.expect_response("**/v1/plinth/ops"):
            pause.press("Enter")
        expect(page.get_by_role("status")).to_have_text("live")
        page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})")
        page.clock.run_for(LOOKS_MS)  # the look that was due is the last
        before = looks(seen)
        page.clock.run_for(60_000)
        assert looks(seen) == before
        page.close()


def test_there_and_back_from_the_chat_page(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url)
        page = seen.page
        page.get_by_role("link", name="Operations").click()
        expect(page).to_have_title("Plinth operations")
        expect(page.get_by_role("status")).to_have_text("live")
        page.get_by_role("link", name="Chat").click()
        expect(page).to_have_title("Plinth")
        clean(seen)
        page.close()


def test_names_of_others_are_text_and_nothing_is_run(browser: Browser, own: Home, dashboard: Instance) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    retriever: Any = FixedRetriever(names=("main", hostile))
    log_event("scaling", "scaled", deployment=hostile, before=1, after=2, why=hostile)
    service = busy(own, dashboard)
    service.retriever = retriever
    with on_socket(service.app()) as url:
        assert service.client().post("/v1/chat/completions", json=CHAT).status_code == 200
        seen = visit(browser, f"{url}/ops")
        expect(seen.page.locator("#collections-known")).to_contain_text(hostile)
        expect(seen.page.locator("#events")).to_contain_text(hostile)
        assert seen.page.locator("main img").count() == 0
        expect(seen.page).to_have_title("Plinth operations")
        clean(seen)
        seen.page.close()
