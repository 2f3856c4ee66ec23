"""What the page keeps in the browser: conversations and marks; and what it does when the browser keeps nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import CITATION, TEXT, ScriptedTier
from tests.serve_apps.console.visit import PHONE, Browser, Visit, expect, visit
from tests.serve_apps.service import Service, on_socket

KEY = "plinth:conversation:"


def asked(seen: Visit, *questions: str) -> None:
    """Each in the conversation that is open, one after the other."""
    for text in questions:
        before = seen.page.locator("article.answer .facts").count()
        seen.ask(text)
        expect(seen.page.locator("article.answer .facts")).to_have_count(before + 1)


def stored(seen: Visit) -> list[dict[str, Any]]:
    values = seen.page.evaluate(
        f"Object.keys(localStorage).filter(k => k.startsWith('{KEY}')).map(k => localStorage[k])"
    )
    return [json.loads(value) for value in values]


def titles(seen: Visit) -> list[str]:
    return seen.page.locator("#list .open").all_inner_texts()


def test_a_reload_keeps_everything(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url)
        page = seen.page
        asked(seen, "How do I copy a folder?", "And a file?")
        page.get_by_role("button", name="Bad answer").last.click()
        page.get_by_role("button", name="New conversation").click()
        asked(seen, "Another matter?")
        assert titles(seen) == ["Another matter?", "How do I copy a folder?"]
        page.reload()
        expect(page.locator("article.question")).to_have_text("Another matter?")
        page.get_by_role("button", name="How do I copy a folder?", exact=True).click()
        expect(page.locator("article.question")).to_have_text(["How do I copy a folder?", "And a file?"])
        pressed = page.get_by_role("button", name="Bad answer").evaluate_all("all => all.map(b => b.ariaPressed)")
        assert pressed == ["false", "true"]
        page.get_by_role("button", name="Source 1: shutil.copytree").last.click()
        expect(page.locator("article.answer").last.locator("blockquote")).to_be_visible()
        asked(seen, "Goes on?")
        assert [m["content"] for m in seen.chats()[-1]["messages"] if m["role"] == "user"] == [
            "How do I copy a folder?", "And a file?", "Goes on?",
        ]  # fmt: skip
        assert titles(seen) == ["How do I copy a folder?", "Another matter?"]
        assert {record["version"] for record in stored(seen)} == {1}
        seen.check_clean()
        page.close()


def test_rename_delete_undo(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url)
        page = seen.page
        asked(seen, "First matter?")
        page.get_by_role("button", name="New conversation").click()
        asked(seen, "Second matter?")
        page.get_by_text("First matter?").hover()
        page.get_by_role("button", name="Rename First matter?").click()
        box = page.get_by_label("Name of the conversation")
        expect(box).to_be_focused()
        box.fill("<b>Copying</b>")
        page.keyboard.press("Enter")
        assert titles(seen) == ["Second matter?", "<b>Copying</b>"]
        page.get_by_text("<b>Copying</b>").hover()
        page.get_by_role("button", name="Rename <b>Copying</b>").click()
        page.keyboard.type("dropped")
        page.keyboard.press("Escape")
        assert titles(seen) == ["Second matter?", "<b>Copying</b>"]
        page.reload()
        assert titles(seen) == ["Second matter?", "<b>Copying</b>"]

        page.get_by_role("button", name="Second matter?", exact=True).hover()
        page.get_by_role("button", name="Delete Second matter?").click()
        assert titles(seen) == ["<b>Copying</b>"]
        expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()
        page.get_by_role("button", name="Undo").click()
        assert titles(seen) == ["Second matter?", "<b>Copying</b>"]
        page.get_by_role("button", name="Delete all").click()
        expect(page.get_by_text("Deleted 2 conversations.")).to_be_visible()
        assert stored(seen) == []
        seen.check_clean()
        page.close()


def test_the_drawer_of_a_phone(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url, viewport=PHONE, has_touch=True)
        page = seen.page
        asked(seen, "First matter?")
        page.get_by_role("button", name="New conversation").tap()
        asked(seen, "Second matter?")
        expect(page.locator("#sidebar")).not_to_be_visible()
        page.get_by_role("button", name="Conversations", exact=True).tap()
        expect(page.get_by_role("button", name="Close the list")).to_be_focused()
        seen.picture("drawer")
        page.keyboard.press("Escape")
        expect(page.locator("#sidebar")).not_to_be_visible()
        expect(page.get_by_role("button", name="Conversations", exact=True)).to_be_focused()
        page.get_by_role("button", name="Conversations", exact=True).tap()
        page.get_by_role("button", name="First matter?", exact=True).tap()
        expect(page.locator("article.question")).to_have_text("First matter?")
        expect(page.locator("#sidebar")).not_to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        seen.check_clean()
        page.close()


DAMAGED = [
    "{", "null", "7", "[]", '{"version": 2, "turns": []}', '{"version": 1, "updated": 1, "turns": 3}',
    '{"version": 1, "updated": "x", "turns": []}',
]  # fmt: skip
STRANGE = {
    "version": 1, "title": {"a": 1}, "updated": 5,
    "turns": [
        None, 3, {"role": "user"}, {"role": "system", "content": 4},
        {"role": "assistant", "content": "It is so. [1]", "thumb": 9, "failure": 3, "plinth": {
            "citations": [None, {"document": 5}], "timings_ms": {"total": "x"}, "verdicts": 4, "index_as_of": 3}},
    ],
}  # fmt: skip


def test_damaged_entries_do_no_harm(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url)
        page = seen.page
        values = {f"{KEY}{n}": text for n, text in enumerate(DAMAGED)} | {f"{KEY}strange": json.dumps(STRANGE)}
        page.evaluate("all => { for (const [k, v] of Object.entries(all)) localStorage.setItem(k, v); }", values)
        page.evaluate(
            "() => { localStorage.setItem('plinth:model', '{'); sessionStorage.setItem('plinth:open', '0'); }"
        )
        page.reload()
        assert titles(seen) == ["Untitled"]
        page.get_by_role("button", name="Untitled", exact=True).click()
        expect(page.locator("article.answer .text").last).to_contain_text("It is so.")
        asked(seen, "Still alive?")
        assert page.evaluate("localStorage.length") == len(DAMAGED) + 2, "what cannot be read is not thrown away"
        seen.check_clean()
        page.close()


def test_the_oldest_make_room(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        seen = visit(browser, url)
        page = seen.page
        page.evaluate(
            """key => { for (let n = 0; n < 230; n += 1) localStorage.setItem(key + n, JSON.stringify(
            {version: 1, title: `No. ${n}`, updated: n + 1, turns: []})); }""",
            KEY,
        )
        page.reload()
        asked(seen, "One more?")
        assert len(titles(seen)) == 200
        assert titles(seen)[:2] == ["One more?", "No. 229"]
        # Another of this browser's pages takes what room is left.
        page.evaluate("""() => {
            for (let size = 1 << 20; size >= 1; size >>= 1) {
                try { for (let n = 0; ; n += 1) localStorage.setItem(`other${size}-${n}`, "x".repeat(size)); } catch {}
            }
        }""")
        asked(seen, "And now?")
        page.reload()
        expect(page.locator("article.question")).to_have_text(["One more?", "And now?"])
        assert len(titles(seen)) < 200
        seen.check_clean()
        page.close()


@pytest.mark.parametrize("name", ["localStorage", "sessionStorage"])
def test_a_browser_that_keeps_nothing(browser: Browser, name: str) -> None:
    refuse = (
        f"Object.defineProperty(window, '{name}', {{ get() {{ throw new DOMException('no', 'SecurityError'); }} }})"
    )
    with on_socket(Service().app()) as url:
        seen = visit(browser, url, script=refuse)
        asked(seen, "Does it work?", "Twice?")
        if name == "localStorage":
            expect(seen.page.get_by_text("It lasts until you reload")).to_be_visible()
        seen.check_clean()
        seen.page.close()


def test_an_answer_that_a_reload_cut_off_can_be_asked_for_again(browser: Browser) -> None:
    service = Service(tier=ScriptedTier(pause_s=60))
    with on_socket(service.app()) as url:
        seen = visit(browser, url)
        seen.ask("Slow?")
        expect(seen.page.locator("article.answer[aria-busy]")).to_be_visible()
        service.tier.pause_s = 0
        seen.page.reload()
        expect(seen.page.get_by_role("alert")).to_contain_text("before the answer was complete")
        seen.page.get_by_role("button", name="Try again").click()
        expect(seen.page.locator("article.answer .facts")).to_have_count(1)
        expect(seen.page.locator("article")).to_have_count(2)
        seen.check_clean()
        seen.page.close()


def test_two_tabs_do_not_overwrite_each_other(browser: Browser) -> None:
    with on_socket(Service().app()) as url:
        context = browser.new_context()
        one, two = Visit(context.new_page(), url), Visit(context.new_page(), url)
        asked(one, "From the first?")
        asked(two, "From the second?")
        expect(one.page.locator("#list .open")).to_have_text(["From the second?", "From the first?"])
        asked(one, "Again?")
        expect(two.page.locator("#list .open")).to_have_text(["From the first?", "From the second?"])
        one.check_clean()
        context.close()


def test_copying(browser: Browser) -> None:
    tier = ScriptedTier([f"{TEXT}\n\n", "```python\ncopytree(a, b)\n```\n"], [CITATION])
    with on_socket(Service(tier=tier).app()) as url:
        seen = visit(browser, url, permissions=["clipboard-read", "clipboard-write"])
        page = seen.page
        asked(seen, "How?")
        page.get_by_role("button", name="Copy code").click()
        expect(page.get_by_text("Copied")).to_be_attached()
        assert page.evaluate("navigator.clipboard.readText()") == "copytree(a, b)"
        page.get_by_role("button", name="Copy answer").click()
        expect(page.get_by_role("button", name="Copy answer")).to_have_class("bare done")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(TEXT)
        assert copied.endswith("\n\n[1] shutil.copytree (shutil.py:560)")
        seen.check_clean()
        page.close()
