"""``/v1/responses``: held against the SDK's own types, whole and as a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from serve_apps.errors import UnavailableError
from tests.fakes import TEXT, ScriptedTier
from tests.serve_apps.api.test_bad_bodies import check_error
from tests.serve_apps.gateway.test_failures import LONG
from tests.serve_apps.service import QUESTION, Service

ROUTE = "/v1/responses"
BODY = {"model": "auto", "input": QUESTION}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CITED = {
    "type": "file_citation",
    "index": TEXT.index("[1]"),
    "file_id": "shutil.copytree#0",
    "filename": "shutil.copytree",
}


def events_of(client: TestClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream: each by its name, numbered from 0."""
    response = client.post(ROUTE, json={**body, "stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("\n\n")
    found = []
    for place, event in enumerate(response.text[:-2].split("\n\n")):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        assert found[-1]["sequence_number"] == place
    return found


def test_a_response_is_what_the_sdk_calls_one() -> None:
    service = Service()
    reply = service.client().post(ROUTE, json=BODY)
    body = reply.json()
    response = Response.model_validate(body, strict=True)
    assert response.output_text == TEXT
    assert (response.object, response.status, response.error, response.previous_response_id) == (
        "response", "completed", None, None,
    )  # fmt: skip
    assert response.id.removeprefix("resp_") == reply.headers["x-request-id"].removeprefix("req_")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 10
    assert body["output"][0]["content"][0]["annotations"] == [CITED]
    assert body["plinth"]["citations"][0]["document"] == "shutil.copytree"
    assert service.log[-1]["route"] == ROUTE


def test_a_stream_builds_the_same_response() -> None:
    client = Service().client()
    events = events_of(client, BODY)
    for event in events:
        EVENT.validate_python(event)
    names = [event["type"].removeprefix("response.") for event in events]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    assert len(deltas) > 10, "word by word"
    assert [name for name in names if name != "output_text.delta"] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.annotation.added",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    last = events[-1]["response"]
    whole = client.post(ROUTE, json=BODY).json()
    assert last["output"][0]["content"] == whole["output"][0]["content"]
    assert events[-2]["item"] == last["output"][0]
    assert {key: value for key, value in last.items() if value == whole[key]}.keys() >= {
        "object", "status", "model", "usage", "tools", "text", "metadata",
    }  # fmt: skip


def test_what_ends_early_is_incomplete() -> None:
    client = Service().client()
    short = client.post(ROUTE, json={**BODY, "max_output_tokens": 4}).json()
    assert (short["status"], short["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert short["output"][0]["status"] == "incomplete"
    assert short["output"][0]["content"][0]["annotations"] == [], "the marker was cut off"
    assert events_of(client, {**BODY, "max_output_tokens": 4})[-1]["type"] == "response.incomplete"


def test_a_stream_that_breaks_ends_in_an_error() -> None:
    client = Service(tier=ScriptedTier(LONG, error=UnavailableError("replica died"))).client()
    *before, last = events_of(client, BODY)
    assert any(event["type"] == "response.output_text.delta" for event in before)
    assert last["type"] == "error"
    assert "replica died" in last["message"]
    assert last["code"] == "server_is_overloaded"
    assert last["error"]["message"] == last["message"]
    EVENT.validate_python(last)


def test_a_conversation_as_items() -> None:
    service = Service()
    items = [
        {"role": "user", "content": "How do I copy a file?"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "12:00"},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
         "content": [{"type": "output_text", "text": TEXT, "annotations": [CITED], "logprobs": []}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]  # fmt: skip
    body = service.client().post(ROUTE, json={"model": "auto", "instructions": "Be brief.", "input": items}).json()
    assert body["instructions"] == "Be brief."
    assert body["plinth"]["messages"] == {"sent": 5, "looked_at": 5}
    assert service.tier.questions == [QUESTION]


def test_what_is_ignored_is_named_and_what_needs_a_memory_is_refused() -> None:
    client = Service().client()
    sent = {
        "store": True, "temperature": 1, "reasoning": {"effort": "low"}, "truncation": "auto", "include": [],
        "metadata": {"a": "b"}, "tools": [{"type": "web_search"}], "tool_choice": "none",
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }  # fmt: skip
    body = client.post(ROUTE, json={**BODY, **sent}).json()
    assert body["plinth"]["ignored"] == sorted({*sent, "text.verbosity"} - {"tool_choice", "text"})
    assert body["metadata"] == {"a": "b"}
    error = check_error(client.post(ROUTE, json={**BODY, "previous_response_id": "resp_1"}))
    assert error["param"] == "previous_response_id"
    assert "send the whole conversation in input" in error["message"]


@pytest.mark.parametrize("store", [None, True, False])
def test_store_false_leaves_no_trace(store: bool | None) -> None:
    service = Service(tier=ScriptedTier(["I do not know."], citations=[], grounded=False))
    service.client().post(ROUTE, json={**BODY, "store": store})
    assert service.noted[0][0].keep == (store is not False)
