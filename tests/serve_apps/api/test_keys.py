"""Who may come in: keys, sessions, scopes, other origins; over the real book of keys and the real routes."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from actors.ledger.key_book import KeyBook
from actors.ledger.keyring import Keyring, Session
from cluster.core.errors import EnvironmentFaultError
from cluster.core.identity import SCOPES, Principal
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.trust import TrustSection
from serve_apps.api.openai_http import ROUTES
from serve_apps.errors import ApiError
from serve_apps.gateway.doorkeeper import Doorkeeper
from tests.serve_apps.service import CHAT, EMBEDDER, Service, desks, path_of

PEPPER = bytes(range(32))
OPEN = {"/healthz", "/readyz", "/v1/plinth/session", "/v1/plinth/session/end", "/console/{name}"}
BODIES: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "auto", "prompt": "copy a tree"},
    "/v1/responses": {"model": "auto", "input": "copy a tree"},
    "/v1/embeddings": {"model": EMBEDDER, "input": "a"},
    "/v1/search": {"query": "copy"},
    "/v1/feedback": {"answer_id": "ans_main", "rating": "up"},
    "/v1/review/{id}": {"decision": "harmless"},
}


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> KeyBook:
    return KeyBook(tmp_path / "keys.sqlite", PEPPER, clock)


def service_of(book: Any, clock: Clock, **section: Any) -> Service:
    keeper = Doorkeeper(book, TrustSection(), 8000, clock)
    return Service(section=ServeSection(**section), doorkeeper=keeper, **desks())


@pytest.fixture
def service(book: KeyBook, clock: Clock) -> Service:
    return service_of(book, clock)


def key(book: KeyBook, *scopes: str, name: str = "one", **more: Any) -> str:
    return book.create(name, Principal("", scopes=frozenset(scopes or SCOPES), **more))[0]


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def code_of(response: Any) -> str | None:
    return str(response.json()["error"]["code"])


def call(client: TestClient, route: Any, **more: Any) -> Any:
    path = path_of(route.path)
    body = BODIES.get(route.path)
    return client.request(route.methods[0], path, **({} if body is None else {"json": body}), **more)


def test_every_route_but_the_named_ones_refuses_who_has_no_key(service: Service, book: KeyBook) -> None:
    client, whole = service.client(), key(book)
    for route in ROUTES:
        service.recorder.values.clear()
        response = call(client, route)
        if route.label in OPEN:
            assert route.scope is None
            continue
        assert response.status_code == 401, route.path
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.headers["content-type"].startswith("text/html" if route.page else "application/json")
        assert service.recorder.values[0][2] == {"route": route.label, "status": "401"}
        assert call(client, route, headers=bearer(whole)).status_code == 200, route.path


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/-/routes", "/-/healthz", "/%2d/routes", "/v1/x"]
)
def test_what_is_nowhere_is_nobodys(service: Service, book: KeyBook, path: str) -> None:
    client = service.client()
    assert client.get(path).status_code == 401
    assert client.get(path, headers=bearer(key(book))).status_code == 404


@pytest.mark.parametrize("behind", ["%0a", "%0A", "%0d%0a", "%0b", "%c2%85", "%e2%80%a8"])
def test_no_way_to_write_a_path_gets_round_its_scope(service: Service, book: KeyBook, behind: str) -> None:
    client, headers = service.client(), bearer(key(book, "feedback"))
    for route in ROUTES:
        if route.scope and not route.label.endswith("}"):
            reply = client.request(route.methods[0], route.path + behind, headers=headers, json=BODIES.get(route.path))
            assert reply.status_code == 404, route.path


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", "Basic x", "Bearer " + "k" * 10_000, "Bearer ' OR '1'='1", "Bearer plinth_x_y",
     "Bearer \x01\x02", b"Bearer \xff\xfe", "plinth_", "Bearer plinth__", "Token abc", "Bearer plinth_%00_%00"],
)  # fmt: skip
def test_what_is_no_key_is_told_so_before_a_body_is_read(service: Service, book: KeyBook, given: Any) -> None:
    key(book)
    reply = service.client().post("/v1/chat/completions", content=b"{" * 50, headers={"authorization": given})
    assert (reply.status_code, code_of(reply)) == (401, "invalid_api_key")
    assert "SELECT" not in reply.text


def test_two_keys_at_once_are_none(service: Service, book: KeyBook) -> None:
    one = f"Bearer {key(book)}"
    headers = [("authorization", one), ("authorization", one)]
    assert service.client().get("/v1/models", headers=headers).status_code == 401


@pytest.mark.parametrize("scope", ["chat", "search", "metrics", "admin", "audit", "registry", "feedback"])
def test_a_key_does_what_its_scope_says_and_nothing_else(service: Service, book: KeyBook, scope: str) -> None:
    client, headers = service.client(), bearer(key(book, scope))
    for route in ROUTES:
        if route.scope:
            reply = call(client, route, headers=headers)
            assert reply.status_code == (200 if route.scope == scope else 403), route.path
            if reply.status_code == 403:
                assert code_of(reply) == "scope_missing"


def test_revoked_expired_and_rotated_keys_end(book: KeyBook, clock: Clock) -> None:
    first, second = (service_of(book, clock).client() for _ in range(2))  # two gateways
    text, made = book.create("one", Principal("", scopes=frozenset({"chat"})), lifetime_s=100)
    short = book.create("short", Principal("", scopes=frozenset({"chat"})), lifetime_s=10)[0]

    def statuses(text: str) -> list[int]:
        return [one.get("/v1/models", headers=bearer(text)).status_code for one in (first, second)]

    assert statuses(text) == statuses(short) == [200, 200]
    clock.now += 10
    assert statuses(short) == [401, 401]
    fresh, _ = book.rotate("one", overlap_s=5)
    clock.now += TrustSection().key_check_s
    assert statuses(text) == statuses(fresh) == [200, 200]
    clock.now += 5
    assert (statuses(text), statuses(fresh)) == ([401, 401], [200, 200])
    book.revoke(made.key_id)
    assert statuses(fresh) == [200, 200], "the look before is still good"
    clock.now += TrustSection().key_check_s
    assert statuses(fresh) == [401, 401]


def test_a_key_made_a_moment_ago_works_at_once(book: KeyBook, clock: Clock) -> None:
    client = service_of(book, clock).client()
    assert client.get("/v1/models", headers=bearer(key(book, name="first"))).status_code == 200
    text = key(book, name="second")
    clock.now += 0.25
    assert client.get("/v1/models", headers=bearer(text)).status_code == 200
    third = key(book, name="third")
    assert client.get("/v1/models", headers=bearer(third)).status_code == 401, "but nobody makes it look all the time"


class Broken:
    """A book whose database is gone."""

    def keyring(self, known: int = -1) -> Keyring | None:
        raise EnvironmentFaultError("the book of keys cannot be read: gone")

    def redeem(self, code: str) -> str | None:
        raise EnvironmentFaultError("the book of keys cannot be read: gone")

    def end(self, session: Session) -> None:
        raise EnvironmentFaultError("the book of keys cannot be read: gone")


def test_without_the_book_nobody_is_let_in(clock: Clock, book: KeyBook) -> None:
    text = key(book)
    client = service_of(Broken(), clock).client()
    reply = client.post("/v1/chat/completions", json=CHAT, headers=bearer(text))
    assert (reply.status_code, code_of(reply)) == (503, "server_is_overloaded")
    assert "retry-after" in reply.headers
    assert client.get("/healthz").status_code == 200
    assert client.post("/v1/plinth/session", json={"code": "x"}).status_code == 503


def test_a_link_signs_one_browser_in_once(service: Service, book: KeyBook, clock: Clock) -> None:
    key(book, "chat", name="page")
    client = service.client()
    refused = client.get("/")
    assert refused.status_code == 401
    assert "/console/signin.js" in refused.text
    code = book.link("page")
    done = client.post("/v1/plinth/session", json={"code": code})
    assert done.status_code == 200
    cookie = done.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert client.get("/").status_code == 200  # the client keeps cookies
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert client.get("/ops").status_code == 403, "a session may what its key may"
    other = service.client()
    assert other.post("/v1/plinth/session", json={"code": code}).status_code == 401
    late = book.link("page")
    clock.now += 3600
    assert other.post("/v1/plinth/session", json={"code": late}).status_code == 401
    assert client.post("/v1/plinth/session/end").status_code == 200
    assert client.get("/").status_code == 401


def test_a_link_for_a_key_made_a_moment_ago_signs_in(service: Service, book: KeyBook) -> None:
    client = service.client()
    assert client.get("/v1/models", headers=bearer(key(book, name="first"))).status_code == 200, (
        "the book was looked at"
    )
    key(book, "chat", name="second")
    assert client.post("/v1/plinth/session", json={"code": book.link("second")}).status_code == 200


def test_a_key_typed_into_the_page_signs_in(service: Service, book: KeyBook) -> None:
    text, client = key(book, "chat"), service.client()
    assert client.post("/v1/plinth/session", json={"key": text + "x"}).status_code == 401
    assert client.post("/v1/plinth/session", json={"key": text}).status_code == 200
    assert client.get("/v1/plinth/me").json()["scopes"] == ["chat"]
    assert client.post("/v1/plinth/session", json={"key": text, "code": "x"}).status_code == 400


def test_a_session_ends_with_its_time_its_key_or_any_change_to_it(
    service: Service, book: KeyBook, clock: Clock
) -> None:
    text = key(book, "chat")
    client = service.client()
    client.post("/v1/plinth/session", json={"key": text})
    name, value = next(iter(client.cookies.items()))
    key_id, until, nonce, seal = value.split(".")

    def status(cookie: str) -> int:
        return service.client().get("/v1/models", headers={"cookie": f"{name}={cookie}"}).status_code

    assert status(value) == 200
    for forged in (
        f"{key_id}.{int(until) + 1}.{nonce}.{seal}", f"other.{until}.{nonce}.{seal}", f"{key_id}.{until}.{seal}",
        f"{key_id}.{until}.{nonce[::-1]}.{seal}", f"{key_id}.{until}.{nonce}.", value[:-1], "",
    ):  # fmt: skip
        assert status(forged) == 401
    assert service.client().get("/v1/models", headers={"cookie": f"{name}={value}; {name}={value}"}).status_code == 401
    before = clock.now
    clock.now = float(until)
    assert status(value) == 401
    clock.now = before
    book.rotate("one")
    clock.now += 5
    assert status(value) == 401


def test_readiness_is_everybodys_and_which_index_serves_is_not(service: Service, book: KeyBook) -> None:
    client, text = service.client(), key(book, "chat")
    for headers in ({}, bearer(text + "x"), {"cookie": "plinth_session_8000=x.1.y"}):
        assert (client.get("/readyz", headers=headers).status_code) == 200
        assert client.get("/readyz", headers=headers).json() == {"status": "ready"}
    assert client.get("/readyz", headers=bearer(text)).json()["index_version"] == "v1"
    client.post("/v1/plinth/session", json={"key": text})
    assert client.get("/readyz").json()["index_version"] == "v1", "a browser that is signed in"


def test_a_copied_cookie_is_of_no_use_after_signing_out(book: KeyBook, clock: Clock) -> None:
    text, first, second = key(book, "chat"), service_of(book, clock), service_of(book, clock)  # two gateways
    client, other = first.client(), first.client()
    for one in (client, other):
        assert one.post("/v1/plinth/session", json={"key": text}).status_code == 200
    name, value = next(iter(client.cookies.items()))
    copied = {"cookie": f"{name}={value}"}
    assert second.client().get("/v1/models", headers=copied).status_code == 200
    assert client.post("/v1/plinth/session/end").status_code == 200
    assert first.client().get("/v1/models", headers=copied).status_code == 401, "here at once"
    clock.now += TrustSection().key_check_s
    assert second.client().get("/v1/models", headers=copied).status_code == 401
    assert other.get("/v1/models").status_code == 200, "another browser of the same key goes on"
    assert client.post("/v1/plinth/session", json={"key": text}).status_code == 200
    assert client.get("/v1/models").status_code == 200, "in the same second"
    assert first.client().post("/v1/plinth/session/end", headers={"cookie": f"{name}=x.1.y"}).status_code == 200


HOSTILE = [
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil.example"},
    {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
]  # fmt: skip


@pytest.mark.parametrize("headers", HOSTILE)
def test_a_page_of_another_site_may_use_nothing(service: Service, book: KeyBook, headers: dict[str, str]) -> None:
    """Not even what needs no key, or with the session that a browser sends along."""
    client = service.client()
    client.post("/v1/plinth/session", json={"key": key(book)})
    for route in ROUTES:
        reply = call(client, route, headers=headers)
        if route.page:
            assert reply.status_code == 200  # a link leads here
        else:
            assert (reply.status_code, code_of(reply)) == (403, "cross_site_request"), route.path


def test_pages_of_listed_origins_ask_with_a_key_and_never_with_a_session(book: KeyBook, clock: Clock) -> None:
    origin = "https://chat.example.org"
    client = service_of(book, clock, allowed_origins=(origin,)).client()
    text = key(book)
    guest = {"origin": origin, "sec-fetch-site": "cross-site"}
    asked = {**guest, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    before = client.options("/v1/chat/completions", headers=asked)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == origin
    assert "authorization" in before.headers["access-control-allow-headers"]
    reply = client.post("/v1/chat/completions", json=CHAT, headers={**guest, **bearer(text)})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in reply.headers
    assert client.post("/v1/plinth/session", json={"key": text}, headers=guest).status_code == 403
    client.post("/v1/plinth/session", json={"key": text})
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers=guest).status_code == 401
    assert client.post("/v1/plinth/session/end", headers=guest).status_code == 403
    assert client.options("/v1/models", headers={**asked, "origin": "https://evil.example"}).status_code == 403


def test_a_doorkeeper_asks_the_book_once_for_many(book: KeyBook, clock: Clock) -> None:
    text, looks = key(book), []

    class Counted:
        def keyring(self, known: int = -1) -> Keyring | None:
            looks.append(known)
            return book.keyring(known)

        def redeem(self, code: str) -> str | None:
            return book.redeem(code)

        def end(self, session: Session) -> None:
            book.end(session)

    keeper = Doorkeeper(Counted(), TrustSection(), 0, clock)

    async def many() -> list[Principal]:
        return await asyncio.gather(*(keeper.recognise(Headers(bearer(text))) for _ in range(50)))

    assert {one.tenant for one in asyncio.run(many())} == {"default"}
    assert looks == [-1]


def test_a_link_of_a_key_that_was_revoked_signs_nobody_in(service: Service, book: KeyBook, clock: Clock) -> None:
    key(book)
    code = book.link("one")
    book.revoke("one")
    clock.now += TrustSection().key_check_s
    reply = service.client().post("/v1/plinth/session", json={"code": code})
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers


def test_who_tries_codes_keeps_nobody_elses_key_from_being_read(book: KeyBook, clock: Clock) -> None:
    text, tried, go_on = key(book), [0], threading.Event()

    class Slow:
        def keyring(self, known: int = -1) -> Keyring | None:
            return book.keyring(known)

        def redeem(self, code: str) -> str | None:
            tried[0] += 1
            go_on.wait(20)
            return None

        def end(self, session: Session) -> None:
            book.end(session)

    keeper = Doorkeeper(Slow(), TrustSection(), 0, clock)

    async def flooded() -> Principal:
        trying = [asyncio.create_task(keeper.sign_in(code="x")) for _ in range(64)]
        while not tried[0]:
            await asyncio.sleep(0)
        try:
            return await keeper.recognise(Headers(bearer(text)))
        finally:
            go_on.set()
            await asyncio.gather(*trying, return_exceptions=True)

    assert asyncio.run(flooded()).tenant == "default"


def test_keys_switched_off_let_everybody_be_the_local_user() -> None:
    client = Service().client()
    assert client.get("/v1/plinth/me").json()["keys"] is False
    assert client.post("/v1/plinth/session", json={"code": "x"}).status_code == 404


def test_no_key_is_in_what_is_logged_or_answered(service: Service, book: KeyBook) -> None:
    text = key(book)
    client = service.client()
    client.post("/v1/chat/completions", json=CHAT, headers=bearer(text))
    client.post("/v1/chat/completions", json={"model": text}, headers=bearer(text[:-1]))
    client.get("/v1/models", headers={"x-request-id": "a", **bearer(text + "x")})
    secret = text.split("_", 2)[2]
    assert service.log
    assert not re.search(re.escape(secret[:20]), str(service.log) + str(service.recorder.values))


def test_a_refused_key_raises_what_the_table_of_errors_says(clock: Clock, book: KeyBook) -> None:
    keeper = Doorkeeper(book, TrustSection(), 0, clock)
    with pytest.raises(ApiError) as caught:
        asyncio.run(keeper.recognise(Headers({"authorization": "Bearer no"})))
    assert (caught.value.status, caught.value.extras["code"]) == (401, "invalid_api_key")
