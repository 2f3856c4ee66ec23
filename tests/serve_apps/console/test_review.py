"""The page of the review queue in a real Chromium: what is shown, what a decision does, who may not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from actors.ledger.database import Database
from actors.ledger.key_book import KeyBook
from actors.review.decisions import DECISIONS, STATES
from actors.review.queue import TABLES, ReviewQueue
from cluster.core.identity import Principal
from cluster.core.sections.feedback import ReviewSection
from cluster.core.sections.trust import TrustSection
from data_jobs.pii import redact
from serve_apps.console.page import page_reply
from serve_apps.gateway.audit_trail import masked
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.reviewing import ReviewDesk
from tests.serve_apps.console.visit import PHONE, Browser, Visit, expect, visit
from tests.serve_apps.service import FOUND, PEPPER, Service, on_socket

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def queue_of(folder: Path, *texts: str) -> tuple[ReviewQueue, Service]:
    queue = ReviewQueue(Database(f"sqlite:///{folder}/review.sqlite", TABLES))
    queue.put([replace(FOUND, text=text, score=1.5) for text in texts])
    return queue, Service(review=ReviewDesk(queue, ReviewSection(), masked(redact)))


def clean(seen: Visit) -> None:
    assert seen.complaints == []
    assert {request.url.split("/")[2] for request in seen.requests} == {seen.url.split("/")[2]}


def test_what_the_script_looks_for_is_on_the_page_and_every_decision_has_a_button() -> None:
    page, script, item = (
        bytes(page_reply(name).body).decode() for name in ("review.html", "review.js", "review_item.js")
    )
    assert set(re.findall(r'byId\("(\w+)"\)', script)) <= set(re.findall(r'id="(\w+)"', page))
    assert set(re.findall(r"^  (\w+): \"", item, re.MULTILINE)) == set(DECISIONS)
    assert set(re.findall(r"<option>(\w+)", page)) == set(STATES)
    assert not re.findall(r"https?:|\bstyle=|\bon[a-z]+=|innerHTML", page + script + item)


def test_somebody_decides_by_keyboard_and_the_last_word_counts(browser: Browser, tmp_path: Path) -> None:
    queue, service = queue_of(tmp_path, "How do I kill a process?", HOSTILE)
    with on_socket(service.app()) as url:
        seen = visit(browser, f"{url}/review", color_scheme="dark", viewport=PHONE)
        page = seen.page
        first, second = (page.locator("#items li").nth(place) for place in range(2))
        expect(first).to_contain_text("weapons by rules")
        expect(first).to_contain_text("1.50")
        expect(first.locator("pre")).to_have_text("How do I kill a process?")
        expect(second.locator("pre")).to_have_text(HOSTILE)
        seen.picture("review-dark-phone")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        first.get_by_label("Note").fill("of ann@corpmail.net")
        first.get_by_role("button", name="harmless").press("Enter")
        expect(first.locator(".said")).to_contain_text("harmless by key")
        expect(first.locator(".said")).to_contain_text("of <EMAIL_1>")
        expect(second.get_by_role("button", name="harmless")).to_be_focused()
        first.get_by_role("button", name="Decide anew").press("Enter")
        first.get_by_role("button", name="harmful").press("Enter")
        expect(first.locator(".said")).to_contain_text("harmful by key")
        assert [one.decision for one in queue.page("decided")] == ["harmful"]
        page.get_by_label("Show").select_option("decided")
        expect(page.locator("#items li")).to_have_count(1)
        expect(page).to_have_title("Plinth review")
        clean(seen)
        page.close()


def test_an_empty_queue_a_page_more_and_a_service_that_is_gone(browser: Browser, tmp_path: Path) -> None:
    queue, service = queue_of(tmp_path)
    with on_socket(service.app()) as url:
        seen = visit(browser, url)
        page = seen.page
        page.get_by_role("link", name="Review").click()
        expect(page.locator("#empty")).to_contain_text("Nothing waits for a decision")
        queue.put([replace(FOUND, text=f"number {number}") for number in range(51)])
        page.get_by_role("button", name="Look again").press("Enter")
        expect(page.locator("#items li")).to_have_count(50)
        page.get_by_role("button", name="More").press("Enter")
        expect(page.locator("#items li")).to_have_count(51)
        expect(page.get_by_role("button", name="More")).to_be_hidden()
        seen.picture("review-light-desk")
        clean(seen)
    page.get_by_role("button", name="harmful").first.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached (no connection)")
    expect(page.get_by_role("button", name="harmful").first).to_be_enabled()
    page.close()


@pytest.mark.parametrize(("scopes", "said"), [(("chat",), "scope admin"), ((), "not signed in any more")])
def test_who_may_not_review_is_told_so(browser: Browser, tmp_path: Path, scopes: tuple[str, ...], said: str) -> None:
    book = KeyBook(tmp_path / "keys.sqlite", PEPPER)
    service = queue_of(tmp_path, "How do I kill a process?")[1]
    service.doorkeeper = Doorkeeper(book, TrustSection())
    key = book.create("one", Principal("", scopes=frozenset(scopes or ("admin",))))[0]
    with on_socket(service.app()) as url:
        seen = visit(browser, f"{url}/review")
        page = seen.page
        page.get_by_label("Or with a key").fill(key)
        page.keyboard.press("Enter")
        if not scopes:
            expect(page.locator("#items li")).to_have_count(1)
            page.context.clear_cookies()
            page.get_by_role("button", name="harmless").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(said)
        page.close()
