"""Which corpus answers: chosen by a field or by the model's name, said in every answer, listed, refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fakes import FixedRetriever
from tests.serve_apps.service import CHAT, EMBEDDER, QUESTION, Service, eventually


@pytest.fixture
def service() -> Service:
    return Service(retriever=FixedRetriever(names=("main", "boats")))


def chat(client: TestClient, **more: Any) -> Any:
    return client.post("/v1/chat/completions", json={**CHAT, **more})


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({}, "main"),
        ({"plinth": {"collection": "boats"}}, "boats"),
        ({"plinth": {"collection": None}}, "main"),
        ({"plinth": None}, "main"),
        ({"model": "auto@boats"}, "boats"),
        ({"model": "quote@boats"}, "boats"),
        ({"model": "auto@boats", "plinth": {"collection": "boats"}}, "boats"),
        ({"model": "quote", "plinth": {"collection": "main"}}, "main"),
    ],
)
def test_a_request_chooses_and_the_answer_says_which(service: Service, asked: dict[str, Any], answered: str) -> None:
    reply = chat(service.client(), **asked)
    assert reply.status_code == 200, reply.text
    assert reply.json()["plinth"]["collection"] == answered
    assert reply.json()["plinth"]["index_version"] == {"main": "v1", "boats": "v2"}[answered]
    assert reply.json()["model"] == asked.get("model", "auto")
    assert service.log[-1]["collection"] == answered


def test_a_stream_and_a_legacy_completion_choose_too(service: Service) -> None:
    client = service.client()
    with client.stream("POST", "/v1/chat/completions", json={**CHAT, "model": "auto@boats", "stream": True}) as reply:
        assert '"collection":"boats"' in reply.read().decode().replace('": "', '":"')
    body = {"model": "auto@boats", "prompt": QUESTION}
    assert client.post("/v1/completions", json=body).json()["plinth"]["collection"] == "boats"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "param"), [({"model": "auto@nope"}, "model"), ({"plinth": {"collection": "nope"}}, "plinth.collection")]
)
def test_an_unknown_one_is_404_and_those_there_are_listed(
    service: Service, asked: dict[str, Any], param: str, stream: bool
) -> None:
    for question in (QUESTION, "Thanks!"):  # what needs no search is refused as well
        reply = chat(service.client(), **asked, messages=[{"role": "user", "content": question}], stream=stream)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["param"]) == (404, "collection_not_found", param)
        assert "there are boats, main" in error["message"]
        assert "'nope'" in error["message"]


@pytest.mark.parametrize(
    ("asked", "param"), [({"model": "auto@boats"}, "model"), ({"plinth": {"collection": "boats"}}, "plinth.collection")]
)
def test_one_that_has_just_gone_is_an_error_of_the_field_that_named_it(
    service: Service, asked: dict[str, Any], param: str
) -> None:
    client = service.client()
    assert chat(client, **asked).status_code == 200
    service.retriever.names.remove("boats")
    error = chat(client, **asked).json()["error"]
    assert (error["code"], error["param"]) == ("collection_not_found", param)


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"model": "nope@boats"}, 404, "the model 'nope' does not exist"),
        ({"model": "auto@"}, 404, "the model 'auto@' does not exist"),
        ({"model": "@boats"}, 404, "the model '' does not exist"),
        ({"model": "auto@../x"}, 404, "collection '../x' does not exist"),
        ({"model": "auto@boats", "plinth": {"collection": "main"}}, 400, "name one"),
        ({"plinth": {"collection": ""}}, 400, "plinth.collection"),
        ({"plinth": {"collection": 3}}, 400, "plinth.collection"),
        ({"plinth": {"collections": "boats"}}, 400, "unknown field plinth.collections"),
        ({"plinth": "boats"}, 400, "plinth"),
        ({"plinth": {"collection": "x" * 65}}, 400, "plinth.collection"),
    ],
)
def test_what_names_nothing_is_refused(service: Service, asked: dict[str, Any], status: int, message: str) -> None:
    reply = chat(service.client(), **asked)
    assert (reply.status_code, message in reply.json()["error"]["message"]) == (status, True), reply.text


def test_search_and_examples_choose(service: Service) -> None:
    client = service.client()
    for collection, body in (("main", {}), ("boats", {"plinth": {"collection": "boats"}})):
        reply = client.post("/v1/search", json={"query": QUESTION, **body}).json()
        assert reply["plinth"]["collection"] == collection
    assert client.get("/v1/plinth/examples/boats").json()["plinth"] == {"collection": "boats", "index_version": "v2"}
    assert client.get("/v1/plinth/examples").json()["plinth"]["index_version"] == "v1"
    missing = client.post("/v1/search", json={"query": QUESTION, "plinth": {"collection": "nope"}})
    assert missing.json()["error"]["code"] == client.get("/v1/plinth/examples/nope").json()["error"]["code"]
    assert missing.json()["error"]["code"] == "collection_not_found"


def test_they_are_listed_as_collections_and_as_models(service: Service) -> None:
    client = service.client()
    listed = client.get("/v1/collections").json()
    assert [(card["id"], card["object"], card["default"]) for card in listed["data"]] == [
        ("boats", "collection", False), ("main", "collection", True),
    ]  # fmt: skip
    assert client.get("/v1/collections/boats").json() == listed["data"][0]
    assert listed["data"][0]["created"] == 1767225600
    assert listed["data"][0]["model"] == "auto@boats"
    assert client.get("/v1/collections/nope").status_code == 404
    models = {card["id"]: card["plinth"] for card in client.get("/v1/models").json()["data"]}
    assert set(models) == {
        "auto",
        "quote",
        EMBEDDER,
        *(f"{a}@{b}" for a in ("auto", "quote") for b in ("main", "boats")),
    }
    assert models["auto@boats"]["collection"] == "boats"
    assert "collection" not in models["auto"]
    assert client.get("/v1/models/quote@boats").json()["plinth"]["collection"] == "boats"


def test_a_new_collection_is_found_and_a_removed_one_refused(service: Service) -> None:
    client = service.client()
    assert chat(client, model="auto@boats").status_code == 200
    assert chat(client, model="auto@new").status_code == 404
    service.retriever.names.append("new")
    eventually(lambda: chat(client, model="auto@new").status_code == 200)
    service.retriever.names.remove("boats")
    assert chat(client, model="auto@boats").status_code == 404


def test_only_a_new_name_costs_a_question_to_the_retriever(service: Service) -> None:
    client = service.client()
    for _ in range(3):
        assert chat(client).status_code == 200
    assert service.retriever.listings == 0
    for _ in range(3):
        assert chat(client, model="auto@boats").status_code == 200
    assert service.retriever.listings == 1


def test_models_are_listed_while_the_retriever_is_down_and_a_named_collection_is_unavailable() -> None:
    client = Service(retriever=FixedRetriever(down=True)).client()
    assert {card["id"] for card in client.get("/v1/models").json()["data"]} == {"auto", "quote", EMBEDDER}
    assert chat(client, model="auto@boats").status_code == client.get("/v1/collections").status_code == 503
