"""Requests exactly as clients send them: options without effect, tools, long talks, many texts, slashes, HEAD."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params
from starlette.testclient import TestClient

from cluster.core.sections.serve import ServeSection
from serve_apps.api.openai_http import ROUTES
from serve_apps.api.options import NOT_OFFERED
from serve_apps.api.response_request import NOT_OFFERED as RESPONSE_NOT_OFFERED
from serve_apps.api.response_request import ResponseRequest
from serve_apps.api.schema import ChatRequest
from serve_apps.gateway.lookups import PIECE_CHARS, PIECE_TEXTS, pieces
from serve_apps.gateway.protocols import TierState
from tests.fakes import RealGuard, ScriptedTier
from tests.serve_apps.api.test_bad_bodies import check_error
from tests.serve_apps.service import CHAT, EMBEDDER, QUESTION, Service, desks, eventually, on_socket, path_of

TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
CHAT_ROUTE = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with Service(**desks()).client() as shared:
        yield shared


def said(client: TestClient, body: dict[str, Any], route: str = CHAT_ROUTE) -> dict[str, Any]:
    response = client.post(route, json=body)
    assert response.status_code == 200, response.text[:300]
    plinth: dict[str, Any] = response.json()["plinth"]
    return plinth


def test_every_option_the_sdk_documents_is_known() -> None:
    """A new option of the SDK is to be taken, or refused by name: neither is "unknown field"."""
    for params, model, refused in (
        (chat_params.CompletionCreateParamsBase, ChatRequest, NOT_OFFERED),
        (response_create_params.ResponseCreateParamsBase, ResponseRequest, RESPONSE_NOT_OFFERED),
    ):
        documented = {"stream", *params.__annotations__}
        assert documented <= {*model.model_fields, *refused}, documented - {*model.model_fields, *refused}


def test_options_without_effect_are_named(client: TestClient) -> None:
    assert said(client, CHAT)["ignored"] == []
    sent = {
        "temperature": 0.2, "top_p": 0.9, "seed": 7, "presence_penalty": 0.1, "reasoning_effort": "low",
        "verbosity": "low", "service_tier": "auto", "metadata": {"a": "b"}, "parallel_tool_calls": False,
        "prompt_cache_key": "k", "prompt_cache_options": {"mode": "implicit"}, "safety_identifier": "s",
    }  # fmt: skip
    assert said(client, {**CHAT, **sent})["ignored"] == sorted(sent)
    assert said(client, {**CHAT, "max_tokens": 50, "stop": "x", "user": "u", "n": 1, "tools": []})["ignored"] == []
    thanks = {"model": "auto", "messages": [{"role": "user", "content": "Thanks!"}], "seed": 1}
    assert said(client, thanks)["ignored"] == ["seed"], "a courtesy samples nothing"


def test_what_a_model_samples_is_not_named() -> None:
    """Free text is sampled; a tier that is asked to continue a text samples whatever it does elsewhere."""
    sampling = {"temperature": 0.2, "seed": 3, "frequency_penalty": 1}
    models = {
        "free": ScriptedTier(state=TierState("free", continues=True, samples=True)),
        "points": ScriptedTier(state=TierState("points", continues=True)),
    }
    client = Service(models=models).client()
    plain = {"prompt": QUESTION, **sampling}
    assert said(client, {**CHAT, "model": "free", **sampling})["ignored"] == ["frequency_penalty"]
    assert said(client, {**CHAT, "model": "points", **sampling})["ignored"] == sorted(sampling)
    assert said(client, {"model": "points", **plain}, "/v1/completions")["ignored"] == ["frequency_penalty"]
    assert said(client, {"model": "quote", **plain}, "/v1/completions")["ignored"] == sorted(sampling)


def test_tools(client: TestClient) -> None:
    error = check_error(client.post(CHAT_ROUTE, json={**CHAT, "tools": [TOOL]}))
    assert "no tier here calls tools" in error["message"]
    assert '"tool_choice": "none"' in error["message"]
    assert said(client, {**CHAT, "tools": [TOOL], "tool_choice": "none"})["ignored"] == ["tools"]
    old = {"functions": [{"name": "now"}], "function_call": "none"}
    assert said(client, {**CHAT, **old})["ignored"] == ["functions"]
    assert (
        check_error(client.post(CHAT_ROUTE, json={**CHAT, "tools": [5], "tool_choice": "none"}))["param"] == "tools[0]"
    )
    assert check_error(client.post(CHAT_ROUTE, json={**CHAT, "tool_choice": "required"}))["param"] == "tool_choice"


def test_a_history_with_tool_turns_is_read_for_its_text() -> None:
    service = Service()
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "12:00"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot say."}]},
        {"role": "user", "content": "How do I copy a file?", "name": "ann"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]
    assert said(service.client(), {"model": "auto", "messages": messages})["messages"] == {"sent": 8, "looked_at": 6}
    assert service.tier.questions == ["How do I copy a file?"]


def test_a_conversation_of_any_length_is_answered_and_what_was_dropped_is_said() -> None:
    talk = [{"role": role, "content": f"{n} is what I said"} for n in range(5_000) for role in ("user", "assistant")]
    body = {"model": "auto", "messages": [*talk, CHAT["messages"][0]]}
    section = ServeSection(max_messages=200, max_prompt_chars=1_000)
    plinth = said(Service(section=section).client(), body)
    assert plinth["messages"]["sent"] == 10_001
    assert 1 < plinth["messages"]["looked_at"] < 100
    assert said(Service().client(), body)["messages"]["looked_at"] == 200


def test_embeddings_of_2048_texts_are_checked_in_pieces() -> None:
    """How much a guard gets at once, and so how long it takes, does not grow with the request."""
    guard = RealGuard(delay_s=0.001)
    seen: list[int] = []
    check = guard.check_input

    async def counted(texts: list[str], prompts: bool = True) -> Any:
        assert not prompts, "what is only embedded asks for nothing"
        seen.append(len(texts))
        return await check(texts)

    guard.check_input = counted  # type: ignore[method-assign]
    texts = [f"text {n}" for n in range(2_048)]
    body = Service(guard=guard).client().post("/v1/embeddings", json={"model": EMBEDDER, "input": texts}).json()
    assert [(row["index"], row["embedding"][0]) for row in body["data"]] == [(n, len(t)) for n, t in enumerate(texts)]
    assert max(seen) == PIECE_TEXTS
    assert sum(seen) == 2_048


def test_one_piece_of_texts_is_worked_on_at_once_and_a_question_beside_it() -> None:
    """Two lists of texts, a piece of one of them hangs: the other list waits, a question does not."""
    guard, go_on, at_work = RealGuard(), threading.Event(), list[int]()
    check = guard.check_input

    async def hangs(texts: list[str], prompts: bool = True) -> Any:
        if not prompts:
            at_work.append(len(texts))
            while not go_on.is_set():
                await asyncio.sleep(0.01)
            assert at_work.pop()
            assert not at_work
        return await check(texts)

    guard.check_input = hangs  # type: ignore[method-assign]
    with on_socket(Service(guard=guard).app()) as url, ThreadPoolExecutor(2) as pool:
        request = {"json": {"model": EMBEDDER, "input": ["some text"] * 100}, "timeout": 30, "trust_env": False}
        lists = [pool.submit(httpx.post, f"{url}/v1/embeddings", **request) for _ in range(2)]
        eventually(lambda: at_work, 20)
        asked = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30, trust_env=False)
        assert (asked.status_code, len(at_work)) == (200, 1)
        go_on.set()
        assert [len(one.result().json()["data"]) for one in lists] == [100, 100]


def test_pieces_keep_order_and_bounds() -> None:
    texts = ["a" * length for length in (PIECE_CHARS + 5, 10, PIECE_CHARS - 10, 1, *[3] * 150)]
    found = list(pieces(texts))
    assert [text for piece in found for text in piece] == texts
    assert all(len(piece) == 1 or sum(map(len, piece)) <= PIECE_CHARS for piece in found)
    assert [len(piece) for piece in found] == [1, 2, 32, 32, 32, 32, 23]


def test_token_ids_are_refused_with_what_to_do(client: TestClient) -> None:
    """LangChain's OpenAIEmbeddings sends these by itself."""
    body = {"model": EMBEDDER, "input": [[9906, 1917], [15339]], "encoding_format": "base64"}
    error = check_error(client.post("/v1/embeddings", json=body))
    assert error["code"] == "token_ids_not_supported"
    assert "check_embedding_ctx_length=False" in error["message"]


def test_a_slash_at_the_end_is_the_same_route(client: TestClient) -> None:
    assert client.post(f"{CHAT_ROUTE}/", json=CHAT).status_code == 200
    assert client.post("/v1/search/", json={"query": "copy"}).status_code == 200
    assert [card["id"] for card in client.get("/v1/models/").json()["data"]] == [
        "auto", "quote", "auto@main", "quote@main", EMBEDDER,
    ]  # fmt: skip
    assert client.get("/v1/models/quote/").json()["id"] == "quote"
    assert client.get("/healthz/", headers={"host": ""}).status_code == 200
    assert check_error(client.get(f"{CHAT_ROUTE}/"), 405)["code"] == "method_not_allowed"
    for path in ("/v1/models//x/", "/nowhere/", "/v1/search//"):
        check_error(client.get(path), 404)


def test_head_where_get_is(client: TestClient) -> None:
    for route in ROUTES:
        path = path_of(route.path)
        status = client.head(path).status_code
        assert status == (200 if "GET" in route.methods else 405), path


# What Open WebUI, LangChain, LlamaIndex and LiteLLM send beside what people type, as their versions of 2026 do.
SHAPES: dict[str, dict[str, Any]] = {
    "open webui": {"stream": True, "stream_options": {"include_usage": True}, "metadata": {"chat_id": "c"}},
    "langchain": {"stream": False, "n": 1, "temperature": 0.7, "max_completion_tokens": 100},
    "llama index": {"stream": False, "temperature": 0.1, "max_tokens": None, "tools": None},
    "litellm": {"stream": False, "max_tokens": 50, "user": "u", "parallel_tool_calls": None, "response_format": None},
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_other_clients(client: TestClient, name: str) -> None:
    assert client.post(CHAT_ROUTE, json={**CHAT, **SHAPES[name]}).status_code == 200
