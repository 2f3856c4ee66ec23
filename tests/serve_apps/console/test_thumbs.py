"""The thumbs of the chat page in a real Chromium, down to the book of feedback."""

from __future__ import annotations

from pathlib import Path

from actors.feedback.book import TABLES, FeedbackBook
from actors.ledger.database import Database
from cluster.core.sections.feedback import FeedbackSection
from data_jobs.pii import redact
from serve_apps.gateway.audit_trail import masked
from serve_apps.gateway.feedback import FeedbackDesk
from tests.serve_apps.console.visit import Browser, expect, visit
from tests.serve_apps.service import PEPPER, QUESTION, Service, eventually, on_socket


def said(book: FeedbackBook) -> list[tuple[str, bool, str]]:
    return [(one.rating, one.consent, one.question) for one in book.entries(1)]


def test_a_mark_is_sent_and_texts_only_once_that_is_allowed(browser: Browser, tmp_path: Path) -> None:
    # A file: the service writes while the test reads, and a database in memory has one connection for both.
    book = FeedbackBook(Database(f"sqlite:///{tmp_path}/feedback.sqlite", TABLES))
    service = Service(feedback=FeedbackDesk(book, FeedbackSection(), PEPPER, masked(redact)))
    with on_socket(service.app()) as url:
        seen = visit(browser, url)
        page = seen.page
        seen.ask(QUESTION)
        good, bad = (page.get_by_role("button", name=f"{word} answer") for word in ("Good", "Bad"))
        bad.focus()
        page.keyboard.press("Enter")  # with the keyboard as with the mouse
        expect(bad).to_have_attribute("aria-pressed", "true")
        eventually(lambda: said(book) == [("down", False, "")])
        expect(page.get_by_role("status").get_by_text("May question and answer be used")).to_be_visible()
        page.get_by_role("button", name="Allow").click()
        eventually(lambda: said(book) == [("down", True, QUESTION)])
        assert book.entries(1)[0].answer
        good.click()
        eventually(lambda: said(book) == [("up", False, "")])
        good.click()
        expect(good).to_have_attribute("aria-pressed", "false")
        eventually(lambda: said(book) == [])
        seen.check_clean()
        page.close()


def test_a_mark_that_nobody_takes_stays_on_the_page(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url)
        seen.ask(QUESTION)
        good = seen.page.get_by_role("button", name="Good answer")
        good.click()
        expect(seen.page.get_by_text("The mark stays on this page only.")).to_be_visible()
        expect(good).to_have_attribute("aria-pressed", "true")
        seen.page.close()
