"""Whatever a client sends: OpenAI's error shape, a 4xx, never a 5xx."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.serve_apps.service import CHAT, EMBEDDER, Service, desks, path_of

GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "auto", "prompt": "How do I copy a tree?"},
    "/v1/responses": {"model": "auto", "input": "How do I copy a tree?"},
    "/v1/embeddings": {"model": EMBEDDER, "input": "copy a tree"},
    "/v1/search": {"query": "copy a tree"},
}
# No guard has a part in these.
JUDGING: dict[str, dict[str, Any]] = {
    "/v1/feedback": {"answer_id": "ans_main", "rating": "up"},
    "/v1/review/{id}": {"decision": "harmless"},
}
EVERY = GOOD | JUDGING
JSON = {"content-type": "application/json"}
# Bytes that are wrong whatever the route.
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "open brace": b"{",
    "array": b"[]",
    "number": b"1",
    "null": b"null",
    "string": b'"x"',
    "no fields": b"{}",
    "trailing": b"{} {}",
    "lone surrogate": b'{"model": "\\ud800"}',
    "raw surrogate": b'{"model": "\xed\xa0\x80"}',
    "lone surrogate key": b'{"\\ud800": 1}',
    "escaped NUL": b'{"model": "a\\u0000b"}',
    "raw NUL": b'{"model": "a\x00b"}',
    "NaN": b'{"temperature": NaN}',
    "Infinity": b'{"temperature": Infinity}',
    "-Infinity": b'{"temperature": -Infinity}',
    "1e999": b'{"temperature": 1e999}',
    "nested brackets": b"[" * 60_000,
    "nested in a field": b'{"messages": ' + b"[" * 60_000 + b"]" * 60_000 + b"}",
    "nested objects": b'{"a":' * 60_000,
    "5,000 digits": b'{"seed": ' + b"1" * 5_000 + b"}",
    "20 digits": b'{"seed": ' + b"1" * 20 + b"}",
    "UTF-16": json.dumps(CHAT).encode("utf-16"),
    "UTF-16LE": json.dumps(CHAT).encode("utf-16-le"),
    "UTF-32": json.dumps(CHAT).encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
    "Latin-1": '{"model": "caf\xe9"}'.encode("latin-1"),
    "duplicate key": b'{"model": "auto", "model": "auto"}',
    "form": b"model=auto",
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with Service(**desks()).client() as shared:  # one event loop for all requests
        yield shared


def check_error(response: Any, *statuses: int) -> dict[str, Any]:
    assert response.status_code in (statuses or (400,)), (response.status_code, response.text[:300])
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 600
    return error


@pytest.mark.parametrize("route", EVERY)
def test_the_good_body_is_good(client: TestClient, route: str) -> None:
    assert client.post(path_of(route), json=EVERY[route]).status_code == 200


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("route", EVERY)
def test_broken_bodies(client: TestClient, route: str, name: str) -> None:
    check_error(client.post(path_of(route), content=BROKEN[name], headers=JSON), 400)


@pytest.mark.parametrize("route", EVERY)
def test_too_large(client: TestClient, route: str) -> None:
    error = check_error(client.post(path_of(route), content=b" " * 2_000_000, headers=JSON), 413)
    assert error["code"] == "request_too_large"


@pytest.mark.parametrize("route", EVERY)
@pytest.mark.parametrize("extra", ["api_base", "base_url", "extra_body", "trust_remote_code", "str", "a b"])
def test_unknown_fields(client: TestClient, route: str, extra: str) -> None:
    error = check_error(client.post(path_of(route), json={**EVERY[route], extra: "http://127.0.0.1:8265"}))
    assert extra in error["message"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
def test_other_content_types(client: TestClient, content_type: str) -> None:
    body = json.dumps(CHAT).encode()
    check_error(client.post("/v1/chat/completions", content=body, headers={"content-type": content_type}))


def test_content_type_may_be_left_out_or_spelled_out(client: TestClient) -> None:
    body = json.dumps(CHAT).encode()
    assert client.post("/v1/chat/completions", content=body).status_code == 200
    spelled = {"content-type": 'Application/JSON; charset="UTF-8"'}
    assert client.post("/v1/chat/completions", content=body, headers=spelled).status_code == 200


USER = {"role": "user", "content": "x"}
CHAT_FIELDS: list[tuple[dict[str, Any], str]] = [
    *[({"max_tokens": value}, "max_tokens") for value in (-1, 0, True, 2**31, 2**63 - 1, 1.5, "5", [1])],
    *[({"max_completion_tokens": value}, "max_completion_tokens") for value in (-1, 0, True, 10**9)],
    *[({"n": value}, "n") for value in (0, 2, 1_000_000, True, "1")],
    *[({"temperature": value}, "temperature") for value in (-0.1, 2.1, True, "1")],
    ({"top_p": 1.5}, "top_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{}]}, "functions"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"store": 1}, "store"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": 5}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream_options": {"x": 1}}, "stream_options.x"),
    ({"model": ""}, "model"),
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"model": "x" * 300}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [5]}, "messages[0]"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    ({"messages": [USER, {"role": "assistant", "content": 5}]}, "messages[1].content"),
    ({"messages": [USER, {"role": "assistant", "content": None, "x": 1}]}, "messages[1].x"),
    ({"messages": [USER, {"role": "assistant", "content": [{"type": "audio"}]}]}, "messages[1].content[0].type"),
    ({"messages": [USER, {"role": "root", "content": "x"}]}, "messages[1].role"),
    ({"messages": [{**USER, "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ({"messages": [{**USER, "weight": 1}]}, "messages[0].weight"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
    ),
]


@pytest.mark.parametrize(("change", "param"), CHAT_FIELDS, ids=lambda value: str(value)[:60])
def test_chat_fields(client: TestClient, change: dict[str, Any], param: str) -> None:
    error = check_error(client.post("/v1/chat/completions", json={**CHAT, **change}))
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


OTHER_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/completions", {"prompt": ["a", "b"]}, "prompt"),
    ("/v1/completions", {"prompt": [1]}, "prompt"),
    ("/v1/completions", {"prompt": " "}, "prompt"),
    ("/v1/completions", {"echo": True}, "echo"),
    ("/v1/completions", {"best_of": 3}, "best_of"),
    ("/v1/completions", {"suffix": "x"}, "suffix"),
    ("/v1/completions", {"logprobs": 0}, "logprobs"),
    ("/v1/embeddings", {"input": ""}, "input"),
    ("/v1/embeddings", {"input": []}, "input"),
    ("/v1/embeddings", {"input": ["a", ""]}, "input"),
    ("/v1/embeddings", {"input": ["a"] * 2049}, "input"),
    ("/v1/embeddings", {"input": [1, 2, 3]}, "input"),
    ("/v1/embeddings", {"input": [[1, 2], [3]]}, "input"),
    ("/v1/embeddings", {"input": ["a", 2]}, "input[1]"),
    ("/v1/embeddings", {"encoding_format": "int8"}, "encoding_format"),
    ("/v1/embeddings", {"dimensions": 2}, "dimensions"),
    ("/v1/embeddings", {"dimensions": True}, "dimensions"),
    ("/v1/responses", {"input": [1, 2, 3]}, "input"),
    ("/v1/responses", {"input": []}, "input"),
    ("/v1/responses", {"input": " "}, "input"),
    ("/v1/responses", {"input": None}, "input"),
    ("/v1/responses", {"input": [USER, {"role": "user", "content": 5}]}, "input[1].content"),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ("/v1/responses", {"input": [{"role": "assistant", "content": "x"}]}, "input"),
    ("/v1/responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
    ("/v1/responses", {"conversation": "conv_1"}, "conversation"),
    ("/v1/responses", {"prompt": {"id": "p"}}, "prompt"),
    ("/v1/responses", {"background": True}, "background"),
    ("/v1/responses", {"tools": [{"type": "web_search"}]}, "tools"),
    ("/v1/responses", {"text": {"format": {"type": "json_object"}}}, "text.format"),
    ("/v1/responses", {"include": ["message.output_text.logprobs"]}, "include"),
    ("/v1/responses", {"max_output_tokens": 0}, "max_output_tokens"),
    ("/v1/search", {"query": ""}, "query"),
    ("/v1/search", {"query": 5}, "query"),
    ("/v1/search", {"k": 0}, "k"),
    ("/v1/search", {"k": 51}, "k"),
    ("/v1/search", {"k": True}, "k"),
]


@pytest.mark.parametrize(("route", "change", "param"), OTHER_FIELDS, ids=lambda value: str(value)[:40])
def test_fields_of_other_routes(client: TestClient, route: str, change: dict[str, Any], param: str) -> None:
    assert check_error(client.post(path_of(route), json={**EVERY[route], **change}))["param"] == param


@pytest.mark.parametrize(
    ("route", "change"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 7_000}]}),
        ("/v1/completions", {"prompt": "word " * 7_000}),
        ("/v1/responses", {"input": "word " * 7_000}),
        ("/v1/embeddings", {"input": ["a", "word " * 7_000]}),
        ("/v1/search", {"query": "word " * 7_000}),
    ],
)
def test_over_long_prompts(client: TestClient, route: str, change: dict[str, Any]) -> None:
    assert check_error(client.post(route, json={**EVERY[route], **change}))["code"] == "context_length_exceeded"


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize("model", ["gpt-4o", "AUTO", "auto ", "../x", "'; drop table", "\U0001f600"])
def test_unknown_model(client: TestClient, route: str, model: str) -> None:
    error = check_error(client.post(route, json={**GOOD[route], "model": model}), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_everything_harmless_that_the_sdk_documents_is_accepted(client: TestClient) -> None:
    history = {"role": "assistant", "content": "Earlier.", "refusal": None, "annotations": [], "audio": None,
               "function_call": None, "tool_calls": None}  # fmt: skip
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "How do I"}, {"type": "text", "text": "copy a tree?"}],
    }
    system = {"role": "system", "content": "Be brief.", "name": "ops"}
    body = {
        "model": "quote", "messages": [system, USER, history, parts], "temperature": 0.2, "top_p": 1, "n": 1,
        "stop": ["\n\n"], "stream": False, "max_completion_tokens": 50, "presence_penalty": 0, "frequency_penalty": 0.5,
        "seed": 7, "user": "u", "logit_bias": {}, "response_format": {"type": "text"}, "tools": [],
        "tool_choice": "auto",
        "logprobs": False, "top_logprobs": None, "metadata": {"a": "b"}, "store": False, "parallel_tool_calls": True,
        "service_tier": "auto", "modalities": ["text"], "stream_options": None,
    }  # fmt: skip
    assert client.post("/v1/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize("text", ["\u200b", "\u200b\u2060 \ufeff", "\x07", "\U000e0041\U000e0042"], ids=ascii)
@pytest.mark.parametrize(
    ("route", "field"),
    [
        ("/v1/chat/completions", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/embeddings", "input"),
        ("/v1/search", "query"),
    ],
)
def test_nothing_to_see(client: TestClient, route: str, field: str, text: str) -> None:
    value = [{"role": "user", "content": text}] if field == "messages" else text
    check_error(client.post(route, json={**GOOD[route], field: value}), 400)


JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("model", "messages", "prompt", "input", "query", "k", "stop", "stream", "stream_options", "max_tokens", "n",
          "tools", "temperature", "dimensions")  # fmt: skip
FIELD = st.sampled_from(FIELDS)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(GOOD)), st.dictionaries(FIELD | st.text(max_size=6), JSONISH, max_size=3), st.booleans())
def test_fuzzed_fields_never_make_a_5xx(client: TestClient, route: str, change: dict[str, Any], whole: bool) -> None:
    body = json.dumps(change if whole else {**EVERY[route], **change}).encode()
    response = client.post(route, content=body, headers=JSON)
    if response.status_code != 200:
        check_error(response, 400, 404, 413)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=60), st.integers(0, 200))
def test_fuzzed_bytes_never_make_a_5xx(client: TestClient, route: str, noise: bytes, place: int) -> None:
    good = json.dumps(GOOD[route]).encode()
    response = client.post(route, content=good[:place] + noise + good[place:], headers=JSON)
    if response.status_code != 200:
        check_error(response, 400, 404)


def test_naughty_strings_never_make_a_5xx(client: TestClient, data_set: Callable[[str], Path]) -> None:
    """A quarter of them; all of them, in all places, in test_naughty_strings."""
    strings = json.loads((data_set("robust_blns") / "blns.json").read_text())
    assert len(strings) > 400
    for text in filter(None, strings[2::4]):
        response = client.post("/v1/chat/completions", json={**CHAT, "messages": [{"role": "user", "content": text}]})
        if response.status_code != 200:
            check_error(response, 400)


# A megabyte each, of things that are wrong one by one.
CROWDS: dict[str, tuple[str, bytes]] = {
    "messages that are numbers": ("/v1/chat/completions", b'{"model":"auto","messages":[%s1]}' % (b"1," * 480_000)),
    "messages that are empty": ("/v1/chat/completions", b'{"model":"auto","messages":[%s{}]}' % (b"{}," * 320_000)),
    "parts that are numbers": (
        "/v1/chat/completions",
        b'{"model":"auto","messages":[{"role":"user","content":[%s1]}]}' % (b"1," * 480_000),
    ),
    "items that are empty": ("/v1/responses", b'{"model":"auto","input":[%s{}]}' % (b"{}," * 320_000)),
    "numbers to include": ("/v1/responses", b'{"model":"auto","input":"x","include":[%s1]}' % (b"1," * 480_000)),
    "a hundred thousand fields": (
        "/v1/chat/completions", b"{%s}" % b",".join(b'"%d":1' % number for number in range(90_000))),
    "metadata without end": (
        "/v1/chat/completions",
        b'{"model":"auto","messages":[{"role":"user","content":"x"}],"metadata":{%s}}'
        % b",".join(b'"%d":1' % number for number in range(80_000)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("crowd", CROWDS)
def test_half_a_million_mistakes_cost_no_more_than_one(crowd: str) -> None:
    """They kept the event loop for four seconds, and everybody waited."""
    path, body = CROWDS[crowd]
    client = Service().client()
    began = time.process_time()
    reply = client.post(path, content=body, headers=JSON)
    assert reply.status_code == 400, reply.text
    assert len(reply.content) < 1000
    assert time.process_time() - began < 1.5


def test_a_conversation_of_a_megabyte_is_read() -> None:
    messages = [{"role": "user", "content": "x"}] * 30_000
    assert Service().client().post("/v1/chat/completions", json={**CHAT, "messages": messages}).status_code == 200
