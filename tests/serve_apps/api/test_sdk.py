"""The official OpenAI SDK, unchanged, against the application on a real socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import openai
import pytest

from serve_apps.errors import UnavailableError
from tests.fakes import TEXT, ScriptedTier
from tests.serve_apps.gateway.test_failures import LONG
from tests.serve_apps.service import EMBEDDER, QUESTION, Service, eventually, on_socket

pytestmark = pytest.mark.process

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with on_socket(Service().app()) as base:
        yield base


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="auto", messages=MESSAGES, temperature=0, max_tokens=200)
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.model_extra is not None
    assert reply.model_extra["plinth"]["citations"][0]["document"] == "shutil.copytree"
    assert reply._request_id is not None
    # What came back can be sent back as history.
    again = [*MESSAGES, reply.choices[0].message, {"role": "user", "content": "And how do I move one?"}]
    assert client.chat.completions.create(model="quote", messages=again).choices[0].message.content == TEXT


def test_chat_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="auto", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].usage is not None
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["plinth"]["tier"] == "quote"


def test_chat_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="auto", messages=MESSAGES) as stream:
        assert stream.get_final_completion().choices[0].message.content == TEXT


def test_responses(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="auto", input=QUESTION)
    assert reply.output_text == TEXT
    events = list(client.responses.create(model="auto", input=QUESTION, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"
    with client.responses.stream(model="auto", input=QUESTION) as stream:
        final = stream.get_final_response()
    assert final.output_text == TEXT
    # What came back can be sent back as history.
    again = [{"role": "user", "content": QUESTION}, *final.output, {"role": "user", "content": "And a file?"}]
    assert client.responses.create(model="quote", input=again).output_text == TEXT  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="auto", input=QUESTION, previous_response_id=reply.id)


def test_a_response_that_breaks_raises() -> None:
    service = Service(tier=ScriptedTier(LONG, error=UnavailableError("replica died")))
    with on_socket(service.app()) as base:
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="none")
        with pytest.raises(openai.APIError, match="replica died"):
            list(client.responses.create(model="auto", input=QUESTION, stream=True))


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="auto", prompt=QUESTION).choices[0].text == TEXT
    parts = client.completions.create(model="auto", prompt=QUESTION, stream=True)
    assert "".join(part.choices[0].text for part in parts) == TEXT


def test_embeddings(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model=EMBEDDER, input=["ab"]).data[0].embedding == [2.0, 0.5, -0.25, 1.0]
    plain = client.embeddings.create(model=EMBEDDER, input="ab", encoding_format="float")
    assert plain.data[0].embedding == [2.0, 0.5, -0.25, 1.0]


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "quote", "auto@main", "quote@main", EMBEDDER]
    assert client.models.retrieve("quote").id == "quote"


def test_errors_map_to_the_sdks_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="auto", messages=MESSAGES, extra_body={"api_base": "http://127.0.0.1:1"})
    assert bad.value.param == "api_base"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "word " * 8_000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError) as large:
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x" * 2_000_000}])
    assert large.value.status_code == 413


def test_a_stream_that_breaks_raises_after_the_text_so_far() -> None:
    service = Service(tier=ScriptedTier(LONG, error=UnavailableError("replica died")))
    parts: list[str] = []
    with on_socket(service.app()) as base:
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="none")
        stream = client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="replica died"):
            parts.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    text = "".join(parts)
    assert text
    assert "".join(LONG).startswith(text)


def test_a_bug_in_mid_stream_is_a_connection_error_not_an_end() -> None:
    service = Service(tier=ScriptedTier(LONG, error=ZeroDivisionError("bug")))
    with on_socket(service.app()) as base:
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="none")
        with pytest.raises(openai.APIConnectionError):
            list(client.chat.completions.create(model="auto", messages=MESSAGES, stream=True))


def test_hanging_up_stops_the_tier() -> None:
    service = Service(tier=ScriptedTier(LONG * 200, pause_s=0.002))
    with on_socket(service.app()) as base:
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="none")
        stream = client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        next(iter(stream))
        stream.close()
        eventually(lambda: service.tier.closed == 1, 3)
        eventually(lambda: bool(service.log), 3)
    assert service.log[-1]["status"] == 499


def test_a_huge_chunked_body_is_answered_while_it_arrives(url: str) -> None:
    """The reply comes at the limit, the connection ends, and not all of 100 MB is read."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /v1/search HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = 0
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        while sent < 100_000_000 and not select.select([connection], [], [], 0)[0]:
            connection.sendall(chunk)
            sent += len(chunk)
        reply = connection.recv(65_536)
    assert sent < 30_000_000
    assert reply.startswith(b"HTTP/1.1 413")
