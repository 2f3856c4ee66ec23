"""One Chromium for all tests of the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import needs
from tests.serve_apps.console.visit import Browser, sync_playwright


# Not of the session: while playwright runs, no other test of this process could call asyncio.run.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    needs(sync_playwright is not None, "playwright (pip install -e .[dev])")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    needs(path is not None, "a Chromium browser (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
