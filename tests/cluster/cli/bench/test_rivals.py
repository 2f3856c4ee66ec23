"""`plinth bench rivals`: our service in process and another server, both on real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cluster.cli.bench.side_by_side import COMPLETIONS, Question, Server, measure
from cluster.cli.main import main
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.processes import free_ports
from tests.serve_apps.service import Service, on_socket

RATES = ("requests_per_s", "tokens_per_s")


class Other(BaseHTTPRequestHandler):
    """Another server: three words, streamed where asked; what `model` says it does wrong."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked: list[Any] = self.server.asked  # type: ignore[attr-defined]
        asked.append((self.path, body, self.headers))
        if body["model"] == "unknown" or (body["model"] == "busy" and len(asked) > 4 and len(asked) % 2):
            return self._answer(503, b"{}", "application/json")
        said: dict[str, Any] = {"usage": {"completion_tokens": 3, "prompt_tokens": 5}}
        if body["model"] == "elsewhere" and len(asked) > 4:
            said["plinth"] = {"degraded": True}
        if not body.get("stream"):
            return self._answer(200, json.dumps({"choices": [{"text": "one two three"}], **said}).encode(), "text/json")
        events = [{"choices": [{"delta": {"content": word}}]} for word in ("one ", "two ", "three")]
        if body["model"] == "blunt":  # ends without [DONE]
            events.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in [*events, {"choices": [], **said}])
        text += "data: [DONE]\n\n" * (body["model"] not in ("blunt", "breaks") or len(asked) <= 4)
        return self._answer(200, text.encode(), "text/event-stream")

    def _answer(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def other() -> Iterator[tuple[str, list[Any]]]:
    """Its URL, and what it was asked: path, body, headers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def test_all_are_asked_the_same_and_compared_with_the_first() -> None:
    with other() as (url, asked), other() as (beside, asked_beside):
        servers = [Server("plinth", url, "a", {"Authorization": "Bearer key"}), Server("beside", beside, "b")]
        found = measure(servers, Question(), [1, 3], 10)
    assert [level["concurrency"] for level in found["levels"]] == [1, 3]
    for level in found["levels"]:
        here, there = level["servers"]["plinth"], level["servers"]["beside"]
        for side in (here, there):
            assert (side["requests"], side["failed"], side["tokens"]) == (10, 0, 30)
            assert 0 < side["first_p50_ms"] <= side["p50_ms"] <= side["p95_ms"]
        for figure in (*RATES, "p50_ms", "first_p50_ms"):
            assert level["ratios"]["beside"][figure] == here[figure] / there[figure]
    words = [[body["messages"][0]["content"] for _, body, _ in said][4:] for said in (asked, asked_beside)]
    assert sorted(words[0]) == sorted(words[1])
    assert len(set(words[0])) == len(words[0]) == 20, "a prompt asked again measures a cache"
    assert {headers.get("authorization") for _, _, headers in asked} == {"Bearer key"}
    assert {headers.get("authorization") for _, _, headers in asked_beside} == {None}, "our key goes nowhere else"


def test_every_client_has_something_to_ask_in_each_round() -> None:
    with other() as (url, _):
        (level,) = measure([Server("plinth", url, "a")], Question(), [6], 2)["levels"]
    assert level["servers"]["plinth"]["requests"] == 12


def test_continuing_in_one_piece() -> None:
    with other() as (url, asked):
        found = measure([Server("plinth", url, "a")], Question(COMPLETIONS, 7, stream=False), [2], 6)
    side = found["levels"][0]["servers"]["plinth"]
    assert (side["requests"], side["tokens"], side["first_p50_ms"]) == (6, 18, None)
    assert {(path, body["max_tokens"], "prompt" in body, "stream" in body) for path, body, _ in asked} == {
        (COMPLETIONS, 7, True, False)
    }


@pytest.mark.parametrize(("model", "codes"), [("busy", {"503": 5}), ("elsewhere", {"degraded": 10})])
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_answer_of_the_model_is_counted_and_not_timed(
    model: str, codes: dict[str, int], stream: bool
) -> None:
    with other() as (url, _), other() as (beside, _):
        servers = [Server("plinth", url, model), Server("beside", beside, "b")]
        (level,) = measure(servers, Question(stream=stream), [1], 10)["levels"]
    side = level["servers"]["plinth"]
    assert (side["requests"], side["failed"], side["codes"]) == (10, sum(codes.values()), codes)
    assert side["tokens"] == 3 * (10 - side["failed"])
    assert (side["p50_ms"] is None) is (side["failed"] == 10)


@pytest.mark.parametrize(("model", "codes"), [("blunt", {}), ("breaks", {"stream": 4})])
def test_a_stream_ends_by_saying_so_in_either_way(model: str, codes: dict[str, int]) -> None:
    with other() as (url, _):
        (level,) = measure([Server("plinth", url, model)], Question(), [2], 4)["levels"]
    assert level["servers"]["plinth"]["codes"] == codes


def test_who_does_not_answer_or_refuses_is_named() -> None:
    (port,) = free_ports(1)
    with pytest.raises(EnvironmentFaultError, match="absent does not answer"):
        measure([Server("absent", f"http://127.0.0.1:{port}", "a")], Question(), [1], 2)
    with other() as (url, _), pytest.raises(BadInputError, match=r"picky .* HTTP 503"):
        measure([Server("picky", url, "unknown")], Question(), [1], 2)


@pytest.mark.usefixtures("home")
def test_our_own_service_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with on_socket(Service().app()) as url, other() as (beside, _):
        words = ["bench", "rivals", "--set", f"cluster.http_port={url.rpartition(':')[2]}", "--requests", "8"]
        words += ["--concurrency", "2", "--against", f"beside={beside}/v1,theirs"]
        assert main([*words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(words) == 0
        table = capsys.readouterr().out
    assert found["servers"] == {"plinth": "quote", "beside": "theirs"}
    assert found["levels"][0]["servers"]["plinth"]["failed"] == 0
    assert found["levels"][0]["servers"]["plinth"]["first_p50_ms"] > 0
    assert "plinth /" in table


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--against", "x"],
        ["--against", "x=ftp://127.0.0.1"],
        ["--against", "x=http://127.0.0.1:1/other"],
        ["--against", "x=http://user:word@127.0.0.1:1"],
        ["--against", "plinth=http://127.0.0.1:1"],
        ["--against", "x=http://127.0.0.1:1", "--against", "x=http://127.0.0.1:2"],
        ["--against", "x=http://127.0.0.1:1", "--max-tokens", "0"],
    ],
)
def test_usage(words: list[str]) -> None:
    assert main(["bench", "rivals", *words]) == 2
