"""The Big List of Naughty Strings in every place where the service, its command line and its policy files take text.

Nothing answers 5xx or shows a traceback, errors are OpenAI's JSON, and no control character gets to a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from actors.ledger.key_book import KeyBook
from cluster.cli.main import main
from cluster.core.errors import UsageError
from cluster.core.home import Home
from cluster.core.sections.trust import TrustSection
from serve_apps.gateway import doorkeeper
from serve_apps.guards.policy import parse_policies
from tests.conftest import DATA, needs
from tests.serve_apps.service import CHAT, EMBEDDER, QUESTION, on_socket
from tests.serve_apps.whole import Whole

MORE = ["\x1b[2J\x1b]0;x\x07", "\x9b2J", "\u202e\u2066txt", "[/bold]", "[link=x]", "a\u2028b", "\x7f\x08", "%s%n{0}"]
ALL_TEXTS = 515
# Fields of chats that take text and are not what is asked.
ASIDE = ("user", "safety_identifier", "prompt_cache_key", "reasoning_effort", "verbosity", "service_tier", "stop")


pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module", params=[pytest.param(16, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def texts(request: pytest.FixtureRequest) -> list[str]:
    """Every 16th of them, or all."""
    path = DATA / "robust_blns" / "blns.json"
    needs(path.is_file(), "the Big List of Naughty Strings (../shared/data/robust_blns)")
    found = json.loads(path.read_text())
    assert len(found) == ALL_TEXTS
    return [*found[:: request.param], *MORE]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    home = Home(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_HOME", str(home.root))
        patch.setattr(doorkeeper, "AGAIN_S", 0.0)  # a string that is no key costs no wait here, however many there are
        patient = TrustSection(refusals_per_minute=1_000_000)
        yield Whole(home, doorkeeper=doorkeeper.Doorkeeper(KeyBook.of(home), patient, 8000))


@pytest.fixture(scope="module")
def client(whole: Whole) -> Iterator[TestClient]:
    with whole.client(whole.key()) as client:
        yield client


def fine(response: Any, *expected: int) -> None:
    """No failure of ours; what went wrong is told in JSON that a terminal may show."""
    assert response.status_code in (200, *expected), (response.status_code, response.text[:300])
    assert "Traceback" not in response.text
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert f"{error['message']}{error['param']}".isprintable(), ascii(error)
        assert len(error["message"]) < 1200  # of a name of 80 characters each may be an escape of ten


ASKED: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda text: {**CHAT, "messages": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"model": "auto", "prompt": text},
    "/v1/responses": lambda text: {"model": "auto", "input": text, "instructions": text},
    "/v1/search": lambda text: {"query": text},
}


@pytest.mark.parametrize("route", ASKED)
def test_as_what_is_asked(client: TestClient, texts: list[str], route: str) -> None:
    for text in texts:
        fine(client.post(route, json=ASKED[route](text)), 400)


def test_as_what_is_embedded(client: TestClient, texts: list[str]) -> None:
    visible = [text for text in texts if text.strip()]
    fine(client.post("/v1/embeddings", json={"model": EMBEDDER, "input": visible}), 400)
    for text in texts:
        fine(client.post("/v1/embeddings", json={"model": EMBEDDER, "input": text}), 400)


def test_in_a_stream_every_event_is_a_line_of_json(client: TestClient, texts: list[str]) -> None:
    for text in texts[::8]:
        reply = client.post("/v1/chat/completions", json={**ASKED["/v1/chat/completions"](text), "stream": True})
        if reply.status_code == 200:
            events = [line.removeprefix("data: ") for line in reply.text.split("\n") if line]
            assert events[-1] == "[DONE]"
            assert all(json.loads(event) for event in events[:-1])


def test_as_names_of_models_and_collections(client: TestClient, texts: list[str]) -> None:
    for text in texts:
        fine(client.post("/v1/chat/completions", json={**CHAT, "model": text}), 400, 404)
        fine(client.post("/v1/search", json={"query": QUESTION, "plinth": {"collection": text}}), 400, 404)


def test_in_fields_aside_and_in_names_of_fields(client: TestClient, texts: list[str]) -> None:
    for text in texts:
        body = {**CHAT, **dict.fromkeys(ASIDE, text), "metadata": {text: text}}
        fine(client.post("/v1/chat/completions", json=body), 400)
        fine(client.post("/v1/search", json={"query": QUESTION, text: text}), 400)


@pytest.mark.parametrize(
    "path", ["/v1/models/{}", "/v1/collections/{}", "/v1/plinth/examples/{}", "/console/{}", "/{}"]
)
def test_in_paths(client: TestClient, texts: list[str], path: str) -> None:
    for text in texts:
        fine(client.get(path.format(quote(text, safe=""))), 400, 403, 404, 405, 413, 431)


def test_in_queries_and_as_ids_of_the_audit_log(client: TestClient, texts: list[str]) -> None:
    for text in texts[::4] + MORE:
        fine(client.get("/v1/usage", params={"tenant": text}), 400, 403)
        fine(client.get("/v1/usage", params={"since": text, text: text}), 400)
        fine(client.get(f"/v1/plinth/audit/{quote(text, safe='')}"), 404)


def test_in_headers(client: TestClient, texts: list[str], whole: Whole) -> None:
    for text in texts:
        raw = text.encode().replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
        named = {name: raw for name in ("x-request-id", "user-agent", "traceparent", "cache-control", "accept")}
        fine(client.get("/v1/models", headers=named))
        for name in ("host", "origin", "content-type", "authorization"):
            reply = client.post("/v1/search", content=b'{"query": "x"}', headers={name: raw})  # type: ignore[dict-item]
            fine(reply, 400, 401, 403)


def test_as_codes_and_keys_that_sign_in(client: TestClient, texts: list[str]) -> None:
    for text in texts:
        fine(client.post("/v1/plinth/session", json={"key": text}), 400, 401)
        fine(client.post("/v1/plinth/session", json={"code": text}), 400, 401)


def test_what_was_logged_is_a_line_of_json_each(client: TestClient, texts: list[str], whole: Whole) -> None:
    for text in texts:
        raw = text.encode().replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
        client.post("/v1/chat/completions", json={**CHAT, "model": text or "x"}, headers={"x-request-id": raw})  # type: ignore[dict-item]
    data = (whole.home.logs / "gateway.jsonl").read_bytes()
    lines = data.split(b"\n")[:-1]
    assert len(lines) >= len(texts)
    assert all(json.loads(line)["event"] == "request" for line in lines)
    assert data.replace(b"\n", b"").decode("ascii").isprintable()


POLICY = """\
version: {text}
policies:
  - name: {text}
    tenants: [{text}]
    collections: [{text}]
    rules: {{{text}: {text}}}
    personal_data: {text}
    {text}: {text}
"""
FIELDS = ("version", "name", "tenants", "collections", "rules", "personal_data")


def test_in_policy_files(texts: list[str]) -> None:
    good: dict[str, Any] = {"name": "one", "tenants": ["acme"], "collections": ["main"], "rules": {"injection": "flag"}}
    read = 0
    for text in texts:
        files = [POLICY.replace("{text}", text)]
        for name in FIELDS:
            value = {"tenants": [text], "collections": [text], "rules": {text: text}}.get(name, text)
            changed = {"version": text, "policies": [good]} if name == "version" else {
                "version": "1", "policies": [{**good, name: value}]}  # fmt: skip
            files.append(json.dumps(changed))
        for file in files:
            try:
                read += parse_policies(file).version != ""
            except UsageError:  # any other error is the test's
                continue
    assert read > len(texts), "what is text may be any"


# -- the terminal ------------------------------------------------------------------------------------------------------
@contextmanager
def terminal(capsys: pytest.CaptureFixture[str], *codes: int) -> Iterator[Callable[..., str]]:
    """Runs verbs; each ends with one of these codes and writes nothing that steers a terminal."""

    def run(*words: str) -> str:
        code = main(list(words))
        said = capsys.readouterr()
        assert code in codes, (code, words, said.err[-500:])
        shown = said.out + said.err
        assert "Traceback" not in shown
        assert shown.replace("\n", "").replace("\t", "").isprintable(), ascii(shown)
        return shown

    yield run


def typed(texts: list[str]) -> list[str]:
    """Strings as one types them: no option, no NUL, each kind among them; not all, as every verb reads files."""
    some = [text for place, text in enumerate(texts) if not text.isprintable() or place % 12 == 0] + MORE
    return [text for text in some if text and not text.startswith("-") and "\0" not in text]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    monkeypatch.delenv("PLINTH_API_KEY", raising=False)
    return Home(tmp_path)


def test_as_names_of_keys_tenants_groups_scopes_and_limits(
    texts: list[str], home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(capsys, 0, 2, 3) as run:
        for text in typed(texts):
            run("keys", "create", text)
            run("keys", "create", "x", "--tenant", text, "--group", text)
            run("keys", "create", "y", "--scope", text)
            run("keys", "revoke", text)
        for number, text in enumerate(typed(texts)[::4] + MORE):
            run("keys", "create", f"k{number}", "--collections", text, "--models", text)
            run("keys", "limits", text, "--tokens-per-day", "1")
            run("keys", "usage", "--tenant", text)
        run("keys", "list", "--all")
        run("keys", "limits")
        run("audit", "show")
        run("audit", "verify")


def test_in_questions_and_names_that_are_asked_from_a_terminal(
    texts: list[str],
    whole: Whole,
    client: TestClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLINTH_API_KEY", whole.key("terminal"))
    with on_socket(whole.service.app()) as url, terminal(capsys, 0, 2, 3) as run:
        port = ("--set", f"cluster.http_port={url.rpartition(':')[2]}")
        for text in typed(texts)[::3] + MORE:
            run("ask", text, *port)
            run("ask", QUESTION, "--model", text, *port)
            run("ask", QUESTION, "--collection", text, *port)
        run("logs", "-n", "200")
