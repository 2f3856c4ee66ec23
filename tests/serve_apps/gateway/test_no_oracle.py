"""What is not there and what one may not see get the same reply: status, body and headers, but for its own name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from actors.audit.entries import Entry
from cluster.core.home import Home
from cluster.haproxy_edge import ROOM, SHARE
from tests.serve_apps.service import CHAT, QUESTION
from tests.serve_apps.whole import Whole

THERE, NOWHERE = "umbrella-docs", "umbrello-docs"  # another tenant's collection, and one that nobody has
OWN = ("x-request-id", "traceresponse", ROOM, SHARE)  # of each reply; the last two no client gets to see
SEEN = ("chat", "search", "audit")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_HOME", str(folder))
        yield Whole(Home(folder))


@pytest.fixture(scope="module")
def client(whole: Whole) -> Iterator[TestClient]:
    with whole.client(whole.key("ann", "acme", SEEN)) as client:
        yield client


ASKS: dict[str, Any] = {
    "the collection": lambda client, name: client.get(f"/v1/collections/{name}"),
    "its examples": lambda client, name: client.get(f"/v1/plinth/examples/{name}"),
    "its model": lambda client, name: client.get(f"/v1/models/auto@{name}"),
    "an answer by model": lambda client, name: client.post(
        "/v1/chat/completions", json={**CHAT, "model": f"auto@{name}"}
    ),
    "a stream": lambda client, name: client.post(
        "/v1/chat/completions", json={**CHAT, "stream": True, "plinth": {"collection": name}}
    ),
    "a completion": lambda client, name: client.post("/v1/completions", json={"model": f"auto@{name}", "prompt": "x"}),
    "a response": lambda client, name: client.post(
        "/v1/responses", json={"model": "auto", "input": QUESTION, "plinth": {"collection": name}}
    ),
    "a search": lambda client, name: client.post(
        "/v1/search", json={"query": QUESTION, "plinth": {"collection": name}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ASKS)
def test_a_hidden_collection_is_one_that_is_not_there(client: TestClient, what: str) -> None:
    hidden, absent = ASKS[what](client, THERE), ASKS[what](client, NOWHERE)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace(THERE, NOWHERE) == absent.text
    kept = [{name: value for name, value in reply.headers.items() if name not in OWN} for reply in (hidden, absent)]
    assert kept[0] == kept[1]
    assert THERE not in absent.text


def test_whose_it_is_sees_it(whole: Whole) -> None:
    with whole.client(whole.key("bob", "umbrella", SEEN)) as client:
        assert client.get(f"/v1/collections/{THERE}").status_code == 200


def test_another_tenant_s_request_is_not_in_the_audit_log(whole: Whole, client: TestClient) -> None:
    whole.log.append([Entry.of("request", "umbrella", request_id="req_" + "1" * 24)])
    hidden, absent = (client.get(f"/v1/plinth/audit/req_{digit * 24}") for digit in "12")
    assert (hidden.status_code, hidden.json()["data"]) == (absent.status_code, absent.json()["data"]) == (200, [])


def test_usage_of_a_tenant_that_is_and_of_one_that_is_not(client: TestClient) -> None:
    hidden, absent = (client.get("/v1/usage", params={"tenant": name}) for name in ("umbrella", "umbrello"))
    assert (hidden.status_code, hidden.text) == (absent.status_code, absent.text)
    assert hidden.status_code == 403


def test_a_revoked_key_a_wrong_secret_and_no_such_key_look_alike(whole: Whole) -> None:
    text = whole.key("gone", "umbrella")
    whole.book.revoke("gone")
    wrong = [text, text[:-3] + "abc", f"plinth_{'0' * 10}_{text.rpartition('_')[2]}"]
    replies = [whole.client(one).get("/v1/models") for one in wrong]
    assert {reply.status_code for reply in replies} == {401}
    assert len({reply.text for reply in replies}) == 1
