"""An open page, as the tests of the page see it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ImportError:  # the fixture `browser` reports it
    Browser = Page = Any  # type: ignore[misc,assignment]
    expect = sync_playwright = None  # type: ignore[assignment]

DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
__all__ = ["DESK", "PHONE", "Browser", "Gate", "Page", "Visit", "expect", "sync_playwright", "visit"]


class Visit:
    """One open page; everything it requested and complained about."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[Any] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)
        page.goto(url)

    def _console(self, message: Any) -> None:
        # A failed request is also written to the console by the browser itself: those are the tests' business.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def ask(self, text: str) -> None:
        self.page.get_by_label("Your question").fill(text)
        self.page.keyboard.press("Enter")

    def chats(self) -> list[dict[str, Any]]:
        return [json.loads(r.post_data) for r in self.requests if r.url.endswith("/v1/chat/completions")]

    def check_clean(self) -> None:
        assert self.complaints == []
        assert {request.url.split("/")[2] for request in self.requests} == {self.url.split("/")[2]}
        assert self.page.title() == "Plinth"

    def picture(self, name: str) -> None:
        """Kept where PLINTH_SCREENSHOTS points, for looking at."""
        if folder := os.environ.get("PLINTH_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")


class Gate:
    """Lets ``passes`` deltas of a tier through, and the others once it is opened."""

    def __init__(self, passes: int) -> None:
        self._passes, self._open = passes, False

    def open(self) -> None:
        self._open = True

    async def wait(self) -> None:
        self._passes -= 1
        while self._passes < 0 and not self._open:
            await asyncio.sleep(0.005)


def visit(browser: Browser, url: str, script: str = "", clock: bool = False, **options: Any) -> Visit:
    """A page in a context of its own; ``script`` runs before its own, ``clock`` lets the test turn time on."""
    page = browser.new_page(**{"viewport": DESK, **options})
    if clock:
        page.clock.install()
    if script:
        page.add_init_script(script)
    return Visit(page, url)
