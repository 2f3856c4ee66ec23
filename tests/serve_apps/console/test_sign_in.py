"""The page of somebody who is not signed in, the ways in, and what a page of another site can do: nothing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.ledger.key_book import KeyBook
from cluster.core.home import Home
from cluster.core.identity import SCOPES, Principal
from cluster.core.sections.trust import TrustSection
from serve_apps.gateway.doorkeeper import Doorkeeper
from tests.serve_apps.console.visit import Browser, expect
from tests.serve_apps.service import Service, eventually, on_socket

HOSTILE = """<!doctype html><title>A nice page</title><script>
const target = "%s";
const ways = {
  get: () => fetch(target + "/v1/models"),
  credentials: () => fetch(target + "/v1/models", { credentials: "include" }),
  metrics: () => fetch(target + "/metrics", { mode: "no-cors", credentials: "include" }),
  simple: () => fetch(target + "/v1/chat/completions", { method: "POST", mode: "no-cors", credentials: "include",
    headers: { "content-type": "text/plain" }, body: '{"model":"auto","messages":[{"role":"user","content":"x"}]}' }),
  json: () => fetch(target + "/v1/chat/completions", { method: "POST", credentials: "include",
    headers: { "content-type": "application/json" }, body: "{}" }),
  session: () => fetch(target + "/v1/plinth/session/end", { method: "POST", mode: "no-cors", credentials: "include" }),
};
async function all() {
  const said = {};
  for (const [name, way] of Object.entries(ways)) {
    try { const reply = await way(); said[name] = reply.type + " " + reply.status + " " + (await reply.text()).length; }
    catch (error) { said[name] = "refused"; }
  }
  return said;
}
</script><form id="f" method="post" enctype="text/plain" action="%s/v1/chat/completions">
<input name='{"model":"auto","messages":[{"role":"user","content":"x' value='"}]}'></form>
<iframe id="frame" src="%s/"></iframe><script src="%s/v1/models"></script>"""


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    made = KeyBook.of(Home(tmp_path))
    made.create("ann", Principal("", "finance", scopes=frozenset(SCOPES)))
    return made


def guarded(book: KeyBook) -> Service:
    return Service(doorkeeper=Doorkeeper(book, TrustSection()))


def test_a_link_signs_in_and_leaves_no_code_behind(browser: Browser, book: KeyBook) -> None:
    with on_socket(guarded(book).app()) as url:
        page = browser.new_context().new_page()
        assert page.goto(url).status == 401  # type: ignore[union-attr]
        expect(page.get_by_text("plinth open")).to_be_visible()
        page.goto(f"{url}/#once={book.link('ann')}")  # in the same tab: nothing is loaded anew by that alone
        expect(page.get_by_text("Signed in: finance")).to_be_visible()
        assert "once" not in page.url
        page.get_by_label("Your question").fill("How do I copy a directory tree?")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("article.answer .facts")).to_have_count(1)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_text("plinth open")).to_be_visible()


def test_a_used_link_and_a_wrong_key_are_said(browser: Browser, book: KeyBook) -> None:
    code = book.link("ann")
    assert book.redeem(code)
    text, _ = book.rotate("ann")
    with on_socket(guarded(book).app()) as url:
        page = browser.new_context().new_page()
        page.goto(f"{url}/#once={code}")
        expect(page.get_by_role("alert")).to_contain_text("this link was used")
        page.get_by_label("Or with a key").fill("plinth_a_b")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("this is no key here")
        page.get_by_label("Or with a key").fill(text)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Signed in: finance")).to_be_visible()


@contextmanager
def another_site(content: str) -> Iterator[str]:
    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()


def test_a_hostile_page_gets_nothing_from_a_signed_in_browser(browser: Browser, book: KeyBook) -> None:
    service = guarded(book)
    with on_socket(service.app()) as url, another_site(HOSTILE % ((url,) * 4)) as site:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/#once={book.link('ann')}")
        expect(page.get_by_text("Signed in: finance")).to_be_visible()
        own = {"/v1/models", "/v1/collections", "/v1/plinth/examples", "/v1/plinth/me"}  # what it asks by itself
        eventually(lambda: own <= {line["route"] for line in service.log}, 20)
        page.goto("about:blank")
        service.log.clear()
        hostile = context.new_page()
        hostile.goto(site)
        said = hostile.evaluate("all()")
        hostile.evaluate("document.getElementById('f').submit()")
        hostile.wait_for_url(f"{url}/**")
        assert {name: reply for name, reply in said.items() if reply not in ("refused", "opaque 0 0")} == {}
        assert hostile.inner_text("body").count("cross_site_request") == 1
        came = [(line["route"], line["status"]) for line in service.log]
        assert came
        assert {status for _, status in came} <= {401, 403, 405}, came
        page.goto(url)
        expect(page.get_by_text("Signed in: finance")).to_be_visible()
