"""What the page knows of the service: whether it is there, what may be asked of whom, and what to begin with."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from data_jobs.retrieval.examples import Example
from serve_apps.gateway.protocols import TierState
from tests.fakes import FixedRetriever, ScriptedTier
from tests.serve_apps.console.visit import PHONE, Browser, Gate, Visit, expect, visit
from tests.serve_apps.service import Service, eventually, on_socket

NOTICED_MS = 3000


def listed(url: str) -> list[str]:
    """The collections that the service names."""
    return [card["id"] for card in httpx.get(f"{url}/v1/collections", trust_env=False).json()["data"]]


def connected(seen: Visit) -> None:
    expect(seen.page.get_by_text("1 passage")).to_be_visible()


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desk", "phone"])
def test_it_notices_that_the_service_is_gone_and_back(browser: Browser, viewport: dict[str, int] | None) -> None:
    service = Service()
    with on_socket(service.app()) as url:
        seen = visit(browser, url, **({"viewport": viewport} if viewport else {}))
        page = seen.page
        connected(seen)
        page.get_by_label("Your question").fill("Written before")
    began = time.monotonic()
    expect(page.get_by_role("alert")).to_contain_text("Plinth does not answer", timeout=NOTICED_MS)
    assert time.monotonic() - began < NOTICED_MS / 1000
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.locator(".example").first).to_be_disabled()
    seen.picture(f"gone-{'phone' if viewport else 'desk'}")
    page.get_by_label("Your question").press("Enter")
    assert seen.chats() == []
    with on_socket(service.app(), int(url.rsplit(":", 1)[1])):
        expect(page.get_by_role("alert")).to_be_hidden(timeout=NOTICED_MS)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("article.answer .facts")).to_have_count(1)
        expect(page.get_by_label("Your question")).to_have_value("")
        seen.check_clean()
        page.close()


def test_it_notices_a_service_that_hangs_during_a_stream(browser: Browser) -> None:
    tier = ScriptedTier(["Some words. " * 20, "Never said."], gate=Gate(1))
    with on_socket(Service(tier=tier).app()) as url:
        seen = visit(browser, url, clock=True)
        page = seen.page
        connected(seen)
        seen.ask("Hanging?")
        expect(page.locator("article.answer[aria-busy]")).to_contain_text("Some words")
        page.route("**/healthz", lambda route: None)  # neither answered nor refused
        page.clock.run_for(NOTICED_MS)
        expect(page.get_by_role("alert")).to_contain_text("Plinth does not answer")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Try again")).to_be_disabled()
        page.unroute("**/healthz")
        expect(page.get_by_role("button", name="Try again")).to_be_enabled()
        seen.check_clean()
        page.close()


def test_nobody_looking_nobody_asking(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url, clock=True)
        page = seen.page
        connected(seen)
        with page.expect_response("**/healthz"):
            page.clock.run_for(1500)
        show = "state => { Object.defineProperty(document, 'visibilityState', {value: state, configurable: true}); }"
        page.evaluate(show, "hidden")
        page.clock.run_for(60_000)  # the look that was due finds nobody there and is the last
        before = probes(seen)
        page.clock.run_for(600_000)
        assert probes(seen) == before
        page.evaluate(show, "visible")
        with page.expect_response("**/healthz"):
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.close()


def probes(seen: Visit) -> int:
    seen.page.evaluate("() => fetch('/healthz?last')")  # what was asked before it has been seen by now
    return len([request for request in seen.requests if request.url.endswith("/healthz")])


def test_the_model_is_chosen_and_remembered(browser: Browser) -> None:
    small = ScriptedTier(["Of the small one."], [], state=TierState("small", earned=False))
    with on_socket(Service(models={"small": small}).app()) as url:
        seen = visit(browser, url)
        picker = seen.page.get_by_label("Model")
        expect(picker.locator("option")).to_have_text(["auto", "quote", "small (gate not passed)"])
        expect(picker).to_have_value("auto")
        picker.select_option("small")
        seen.ask("Who answers?")
        expect(seen.page.locator("article.answer .facts > summary")).to_contain_text("small")
        assert seen.chats()[-1]["model"] == "small"
        seen.page.reload()
        expect(picker).to_have_value("small")
        small.state = TierState("small", ready=False)
        seen.page.reload()
        expect(picker.locator("option")).to_have_text(["auto", "quote"])
        expect(picker).to_have_value("auto")
        seen.check_clean()
        seen.page.close()


def test_examples_come_from_the_index_and_are_asked_when_clicked(browser: Browser) -> None:
    retriever = FixedRetriever()
    retriever.starters = [Example("<b>Mail</b> to jane.doe@mail.acme.io?", "a.md"), *retriever.starters]
    with on_socket(Service(retriever=retriever).app()) as url:
        seen = visit(browser, url)
        shown = seen.page.locator(".example")
        expect(shown).to_have_text([f"What is said about thing {n}?" for n in range(3)])
        shown.nth(1).click()
        expect(seen.page.locator("article.question")).to_have_text("What is said about thing 1?")
        expect(seen.page.locator("article.answer .facts")).to_have_count(1)
        expect(shown.first).to_be_hidden()
        seen.check_clean()
        seen.page.close()


def test_examples_are_asked_for_again_only_where_they_may_be_others(browser: Browser) -> None:
    """Each time counts as a request of the key, and the page looks at the index every half a minute."""
    retriever = FixedRetriever(names=("main", "boats"))
    with on_socket(Service(retriever=retriever).app()) as url:
        seen = visit(browser, url)
        shown, picker = seen.page.locator(".example"), seen.page.get_by_label("Corpus")
        expect(shown).to_have_count(3)

        def look() -> None:
            with seen.page.expect_response("**/v1/collections"):
                picker.dispatch_event("change")

        look()
        look()
        retriever.forgotten, retriever.starters = 1, [Example("What is left?", "left.md")]
        eventually(lambda: '"forgotten":1' in httpx.get(f"{url}/v1/collections", trust_env=False).text)
        look()
        expect(shown).to_have_text(["What is left?"])
        assert sum("/v1/plinth/examples" in request.url for request in seen.requests) == 2
        seen.check_clean()
        seen.page.close()


def test_without_an_index_there_are_no_examples(browser: Browser) -> None:
    service = Service(retriever=FixedRetriever(down=True))
    with on_socket(service.app()) as url:
        seen = visit(browser, url)
        expect(seen.page.get_by_text("no index yet")).to_be_visible()
        expect(seen.page.locator(".example")).to_have_count(0)
        service.retriever.down = False
        expect(seen.page.locator(".example")).to_have_count(3)
        seen.check_clean()
        seen.page.close()


def test_the_collection_is_chosen_and_said(browser: Browser) -> None:
    retriever = FixedRetriever(names=("main",))
    with on_socket(Service(retriever=retriever).app()) as url:
        seen = visit(browser, url)
        picker = seen.page.get_by_label("Corpus")
        expect(seen.page.get_by_text("1 passage")).to_be_visible()
        expect(picker).to_be_hidden()  # one is no choice
        seen.ask("Where?")
        expect(seen.page.locator(".facts > summary")).to_have_text(re.compile(r"^quote · [\d.]+ ms$"))
        assert "plinth" not in seen.chats()[0]

        retriever.names.append("boats")
        eventually(lambda: listed(url) == ["boats", "main"])  # what the gateway knows may be half a second old
        seen.page.reload()
        expect(picker).to_be_visible()
        expect(picker.locator("option")).to_have_text(["boats", "main"])
        expect(picker).to_have_value("main")
        picker.select_option("boats")
        expect(seen.page.locator("#status")).to_have_attribute("title", "boats, index v2")
        seen.ask("And there?")
        expect(seen.page.locator(".facts > summary").last).to_have_text(re.compile(r"^quote · boats · [\d.]+ ms$"))
        assert seen.chats()[1]["plinth"] == {"collection": "boats"}
        assert any(request.url.endswith("/v1/plinth/examples/boats") for request in seen.requests)

        seen.page.reload()
        expect(picker).to_have_value("boats")
        retriever.names.remove("boats")
        eventually(lambda: listed(url) == ["main"])
        seen.page.reload()
        expect(picker).to_be_hidden()
        seen.ask("Where again?")
        expect(seen.page.locator(".facts > summary").last).to_have_text(re.compile(r"^quote · [\d.]+ ms$"))
        assert "plinth" not in seen.chats()[-1]
        seen.check_clean()
        seen.page.close()
