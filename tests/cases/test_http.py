"""Cases of what OpenAI clients send, against the application with fakes behind it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serve_apps.service import CHAT, EMBEDDER, Service

QUESTION = "How do I copy a directory tree?"
CHECKS = {
    path.parent.name: json.loads(path.read_text())["check"]
    for path in sorted(Path(__file__).parent.glob("*/expected.json"))
}
CALLS = [
    pytest.param(call, id=f"{name}-{number}")
    for name, check in CHECKS.items()
    if check["kind"] == "http"
    for number, call in enumerate(check["calls"])
]


def talk(turns: int, content: str) -> dict[str, Any]:
    said = [{"role": ("user", "assistant")[turn % 2], "content": content} for turn in range(turns)]
    return {"model": "auto", "messages": [*said, {"role": "user", "content": QUESTION}]}


BODIES = {
    "201 messages": talk(200, "And then?"),
    "40000 characters": talk(200, "x" * 200),
    "1000 texts": {"model": EMBEDDER, "input": [f"text {number}" for number in range(1000)]},
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with Service().client() as shared:
        yield shared


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_answered(client: TestClient, call: dict[str, Any]) -> None:
    body = call["body"] if "body" in call else BODIES[call["body_of"]]
    reply = client.post(call["path"], json={**body, "model": EMBEDDER if "input" in body else body["model"]})
    assert reply.status_code == call["status"], reply.text
    found = reply.json()
    if "input" in body:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        assert len(found["data"]) == len(texts)
    else:
        assert found["choices"][0]["message"]["content"]


def test_base64_is_the_same_vector(client: TestClient) -> None:
    ask = {"model": EMBEDDER, "input": "copy a tree"}
    plain = client.post("/v1/embeddings", json=ask).json()["data"][0]["embedding"]
    packed = client.post("/v1/embeddings", json={**ask, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert list(struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))) == pytest.approx(plain)


def test_a_conversation_is_searched_by_its_newest_turns_only() -> None:
    service = Service()
    turns = [
        *talk(300, "z" * 300)["messages"],
        {"role": "assistant", "content": "shutil.copytree"},
        {"role": "user", "content": "And delete it?"},
    ]
    with service.client() as client:
        assert client.post("/v1/chat/completions", json={**CHAT, "messages": turns}).status_code == 200
    assert service.retriever.questions[-1] == f"{QUESTION} And delete it?"


def test_a_list_that_is_too_long_names_the_limit(client: TestClient) -> None:
    reply = client.post("/v1/embeddings", json={"model": EMBEDDER, "input": ["a"] * 2049})
    assert reply.status_code == 400
    assert "2048" in reply.json()["error"]["message"]
