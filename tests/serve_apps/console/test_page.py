"""The chat page in a real Chromium, against the application on a real socket with fakes behind it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from serve_apps.console import page as console
from serve_apps.console.page import FILES, SCRIPTS
from serve_apps.errors import UnavailableError
from tests.fakes import CITATION, FixedRetriever, ScriptedTier
from tests.serve_apps.console.visit import PHONE, Browser, Gate, expect, visit
from tests.serve_apps.service import Service, eventually, on_socket

CONSOLE = Path(console.__file__).parent
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
OTHER = dataclasses.replace(
    CITATION, document="shutil.copy2", title="shutil.copy2(src, dst)", source="shutil.py:430", chunk="shutil.copy2#0",
    text=f"Identical to copy() except that copy2() also attempts to preserve file metadata. {HOSTILE}",
)  # fmt: skip
ANSWER = [
    "To copy a whole folder use ``shutil.copytree``: Recursively copy a directory tree and return the destination "
    "directory. [1] ",
    "For single files with their metadata there is `shutil.copy2()`. [2] The docs of shutil.copy2 say more. ",
    HOSTILE,
]


def answering() -> Service:
    return Service(tier=ScriptedTier(ANSWER, [CITATION, OTHER]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desk", "phone"])
def test_a_cited_answer(browser: Browser, scheme: str, viewport: dict[str, int] | None) -> None:
    with on_socket(answering().app()) as url:
        size = {"viewport": viewport} if viewport else {}
        seen = visit(browser, url, color_scheme=scheme, **size)
        page, name = seen.page, f"{scheme}-{'phone' if viewport else 'desk'}"
        expect(page.get_by_text("1 passage")).to_be_visible()
        expect(page.get_by_text(", 2026-01-01")).to_be_visible(visible=viewport is None)
        seen.picture(f"{name}-welcome")
        seen.ask("How do I copy a folder with everything in it?")
        answer = page.locator("article.answer")
        expect(answer.locator(".facts > summary")).to_have_text(re.compile(r"quote · [\d.]+ ms"))
        expect(answer).not_to_have_attribute("aria-busy", "true")
        expect(answer.locator(".text code").first).to_have_text("shutil.copytree")
        expect(answer.locator(".text code")).to_have_text(["shutil.copytree", "shutil.copy2()", "shutil.copy2"])
        assert HOSTILE in answer.locator(".text").inner_text(), "markup in an answer is shown, not run"
        seen.picture(f"{name}-answer")

        quote = page.get_by_text("also attempts to preserve file metadata")
        expect(quote).to_be_hidden()
        page.get_by_role("button", name="Source 2: shutil.copy2").click()
        expect(quote).to_be_visible()
        expect(page.get_by_text("shutil.py:430")).to_be_visible()
        assert HOSTILE in quote.inner_text()
        page.get_by_role("button", name="Source 1: shutil.copytree").first.click()
        expect(page.get_by_text("Also in copies.txt").first).to_be_visible()
        assert page.locator("article img, article script").count() == 0
        page.locator("article.answer .facts > summary").click()
        expect(page.get_by_text("guard_out")).to_be_visible()
        seen.picture(f"{name}-open")
        for box in ("document.documentElement", "document.getElementById('scroller')"):
            assert page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth"), "it never scrolls sideways"
        seen.check_clean()
        page.close()


def test_it_says_when_it_does_not_know(browser: Browser) -> None:
    tier = ScriptedTier(["I do not know: the documents do not say."], [], grounded=False)
    with on_socket(Service(tier=tier).app()) as url:
        seen = visit(browser, url)
        seen.ask("Who won the match?")
        expect(seen.page.get_by_text("Not in the documents")).to_be_visible()
        expect(seen.page.locator("article.answer").get_by_text("the documents do not say.")).to_be_visible()
        assert seen.page.locator(".sources").count() == 0
        seen.picture("unknown")
        seen.check_clean()
        seen.page.close()


def test_the_conversation_is_kept_and_can_be_dropped(browser: Browser) -> None:
    with on_socket(answering().app()) as url:
        seen = visit(browser, url)
        for count, text in enumerate(["How do I copy a folder?", "And a file?"], 1):
            seen.ask(text)
            expect(seen.page.locator("article.answer .facts")).to_have_count(count)
        roles = [message["role"] for message in seen.chats()[-1]["messages"]]
        assert roles == ["user", "assistant", "user"]
        assert seen.chats()[-1]["messages"][1]["content"] == "".join(ANSWER)
        seen.page.get_by_role("button", name="New conversation").click()
        expect(seen.page.get_by_role("heading", name="Ask your documents")).to_be_visible()
        seen.ask("Something else?")
        expect(seen.page.locator("article.answer .facts")).to_have_count(1)
        assert len(seen.chats()[-1]["messages"]) == 1
        seen.check_clean()
        seen.page.close()


def test_text_streams_in_and_escape_stops_it(browser: Browser) -> None:
    tier = ScriptedTier(["Words that come first, many of them. " * 12, "The end."], gate=Gate(1))
    with on_socket(Service(tier=tier).app()) as url:
        seen = visit(browser, url)
        seen.ask("Streaming?")
        answer = seen.page.locator("article.answer")
        expect(answer).to_contain_text("Words that come first")
        expect(answer).to_have_attribute("aria-busy", "true")
        expect(seen.page.get_by_role("button", name="Stop")).to_be_visible()
        seen.picture("streaming")
        seen.page.keyboard.press("Escape")
        expect(seen.page.get_by_text("Stopped.")).to_be_visible()
        expect(seen.page.get_by_role("button", name="Send")).to_be_visible()
        eventually(lambda: tier.closed == 1)
        seen.check_clean()
        seen.page.close()


@pytest.mark.parametrize(
    ("service", "message"),
    [
        (Service(retriever=FixedRetriever(down=True)), "no index is live"),
        (Service(tier=ScriptedTier(ANSWER * 5, error=UnavailableError("the tier died"))), "the tier died"),
    ],
    ids=["before", "inside"],
)
def test_failures_are_shown_and_can_be_retried(browser: Browser, service: Service, message: str) -> None:
    with on_socket(service.app()) as url:
        seen = visit(browser, url)
        seen.ask("Will this work?")
        expect(seen.page.get_by_role("alert")).to_contain_text(message)
        seen.picture(f"failure-{len(message)}")
        service.retriever.down, service.tier.error = False, None
        seen.page.get_by_role("button", name="Try again").click()
        expect(seen.page.locator("article.answer .facts")).to_have_count(1)
        assert len(seen.chats()[-1]["messages"]) == 1
        seen.check_clean()
        seen.page.close()


def test_redaction_is_said(browser: Browser) -> None:
    with on_socket(answering().app()) as url:
        seen = visit(browser, url)
        seen.ask("Mail jane.doe@mail.acme.io a copy?")
        expect(seen.page.get_by_text("was replaced before searching")).to_be_visible()
        seen.page.close()


def test_keyboard_only(browser: Browser) -> None:
    with on_socket(answering().app()) as url:
        seen = visit(browser, url)
        page = seen.page
        expect(page.get_by_label("Your question")).to_be_focused()
        page.keyboard.type("first line")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("second line")
        assert page.get_by_label("Your question").input_value() == "first line\nsecond line"
        page.keyboard.press("Enter")
        expect(page.locator("article.answer .facts")).to_have_count(1)
        page.get_by_role("button", name="Source 1: shutil.copytree").focus()
        page.keyboard.press("Enter")
        expect(page.locator("article.answer blockquote").first).to_be_visible()
        expect(page.locator("article.answer .sources summary").first).to_be_focused()
        page.keyboard.press("/")
        expect(page.get_by_label("Your question")).to_be_focused()
        seen.check_clean()
        page.close()


def test_the_policy_forbids_everything_foreign() -> None:
    response = Service().client().get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "require-trusted-types-for 'script'; trusted-types dompurify" in policy


def test_every_file_is_served_and_nothing_else() -> None:
    client = Service().client()
    for name, kind in FILES.items():
        reply = client.get(f"/console/{name}")
        assert (reply.status_code, reply.headers["content-type"]) == (200, kind), name
    for name in ("package.json", "page.py", "vendor/SHA256SUMS", "vendor/../page.py", "vendor/", "..%2fgateway.py"):
        assert client.get(f"/console/{name}").status_code == 404, name


def test_what_is_vendored_is_what_npm_brought() -> None:
    """A changed byte, or another version than package.json names, is noticed; `make vendor` writes the list."""
    sums = dict(reversed(line.split()) for line in (CONSOLE / "vendor/SHA256SUMS").read_text().splitlines())
    files = [path for path in (CONSOLE / "vendor").iterdir() if path.name != "SHA256SUMS"]
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    wanted = json.loads((CONSOLE / "package.json").read_text())["dependencies"]
    assert f"marked v{wanted['marked']} " in (CONSOLE / "vendor/marked.esm.js").read_text()
    assert f"DOMPurify {wanted['dompurify']} " in (CONSOLE / "vendor/purify.es.mjs").read_text()


def test_scripts_stay_short_and_are_all_served() -> None:
    names = sorted(path.name for path in CONSOLE.glob("*.js"))
    assert names == sorted(SCRIPTS)
    assert [n for n in names if len((CONSOLE / n).read_text().splitlines()) > 400] == []
