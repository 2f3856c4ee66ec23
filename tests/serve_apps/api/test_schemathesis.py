"""Generated requests, most of them wrong by the schema, through every operation: no 5xx, and no reply off the contract.

``PLINTH_FUZZ_EXAMPLES`` is how many for each operation (default EXAMPLES; the slow test SLOW_EXAMPLES).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from cluster.core.home import Home
from serve_apps.api.openai_http import ROUTES
from tests.serve_apps.api.contract import NAMED, OK, document
from tests.serve_apps.api.test_keys import BODIES
from tests.serve_apps.service import desks
from tests.serve_apps.whole import Whole

schemathesis = pytest.importorskip("schemathesis")  # a test tool, of `make install-dev`

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

NEGATIVE, POSITIVE = GenerationMode.NEGATIVE, GenerationMode.POSITIVE
EXAMPLES, SLOW_EXAMPLES = 21, 500
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
HOW = {
    "database": None, "deadline": None, "derandomize": True, "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip
SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
URL = "http://127.0.0.1:8000"
GOOD: dict[str, dict[str, Any]] = {
    **BODIES, "/v1/plinth/session": {"key": "set by the test"}, "/v1/usage": {"since": "2026-11-01"},
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLINTH_HOME", str(folder))
        whole = Whole(Home(folder), **desks("acme"))
        GOOD["/v1/plinth/session"]["key"] = whole.key("page")
        with whole.client(whole.key()) as client:
            yield client


def sent(client: TestClient, case: Any) -> Any:
    """A generated case's reply; the request goes as it was made, byte for byte."""
    made = requests.Request(**case.as_transport_kwargs(base_url=URL)).prepare()
    headers = [(name.encode("latin-1"), as_bytes(value)) for name, value in made.headers.items()]
    headers = [(name, value) for name, value in headers if name.lower() not in (b"host", b"user-agent")]
    return client.request(made.method, made.url, content=made.body, headers=headers)


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")


def fuzzed(client: TestClient, label: str, count: int) -> Counter[int]:
    """Statuses of so many generated requests for an operation, two of three of them wrong; each reply was checked."""
    operation, statuses = OPERATIONS[label], Counter[int]()
    wrong, right = (operation.as_strategy(generation_mode=mode) for mode in (NEGATIVE, POSITIVE))

    @settings(max_examples=count, **HOW)
    @given(st.one_of(wrong, wrong, right))
    def ask(case: Any) -> None:
        response = sent(client, case)
        case.validate_response(response, checks=CHECKS)
        assert response.headers["x-request-id"].startswith("req_")
        if response.status_code >= 400 and response.content and not response.headers["content-type"].startswith("text"):
            told = response.json()["error"]
            assert f"{told['message']}{told['param']}".isprintable(), "what a client sent comes back escaped"
        statuses[response.status_code] += 1

    ask()
    return statuses


def how_many(usual: int) -> int:
    return int(os.environ.get("PLINTH_FUZZ_EXAMPLES", usual))


@pytest.mark.parametrize("label", OPERATIONS)
def test_generated_requests_get_replies_that_the_contract_knows(client: TestClient, label: str) -> None:
    asked = how_many(EXAMPLES)
    assert fuzzed(client, label, asked).total() >= asked


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("label", OPERATIONS)
def test_very_many_generated_requests(client: TestClient, label: str) -> None:
    asked = how_many(SLOW_EXAMPLES)
    assert fuzzed(client, label, asked).total() >= asked


def test_together_they_are_more_than_five_hundred() -> None:
    assert len(OPERATIONS) == len(ROUTES)
    assert EXAMPLES * len(OPERATIONS) >= 500


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.label)
def test_a_good_request_gets_what_the_contract_says(client: TestClient, route: Any) -> None:
    """Also that the checks would notice another shape: with a field too many, or of another type, they fail."""
    label, body = route.label, GOOD.get(route.label)
    known = NAMED.get(label, {}).get("enum", ["req_" + "0" * 24])[0]
    named = {name: known for name in re.findall(r"\{(.*)\}", label)}
    response = client.request(route.methods[0], label.format(**named), json=body if route.body else None)
    case = OPERATIONS[f"{route.methods[0]} {label}"].Case(path_parameters=named)
    case.validate_response(response, checks=CHECKS)
    assert response.status_code == 200
    if "HEAD" in route.methods:
        bare = client.head(label.format(**named))
        assert (bare.status_code, bare.headers["content-type"]) == (200, response.headers["content-type"])
    if label in OK:
        jsonschema.validate(response.json(), OK[label])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**response.json(), "object": 5, "status": 5, "signed_in": 5, "tenant": 5}, OK[label])
