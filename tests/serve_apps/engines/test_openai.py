"""The engine `openai` before servers that behave in every way they may, and in many in which they may not."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError, EnvironmentFaultError, PlinthError, UnsupportedError
from serve_apps.engines.openai_engine import OpenAIEngine, TextSampling
from serve_apps.engines.openai_reply import Written
from serve_apps.engines.server_events import MOST_CHARS, EventReader
from serve_apps.errors import UnavailableError
from tests.serve_apps.engines.openai_server import tier
from tests.serve_apps.engines.scripted_server import HEAD, Scripted, error, event, scripted
from tests.serve_apps.service import eventually

DONE = b"data: [DONE]\n\n"
TURNS = [{"role": "user", "content": "Who?"}]
KEY = "sk-test-0123456789"


def engine_at(url: str, **settings: Any) -> OpenAIEngine:
    engine = OpenAIEngine(tier(url, **settings))
    engine.start()
    return engine


async def written(engine: OpenAIEngine, **sampling: Any) -> list[Written]:
    return [piece async for piece in engine.submit(TURNS, TextSampling(sampling.pop("limit", 20), **sampling))]


def said(pieces: list[Written]) -> str:
    return "".join(piece.text for piece in pieces)


def fails(engine: OpenAIEngine) -> PlinthError:
    with pytest.raises(PlinthError) as caught:
        asyncio.run(written(engine))
    return caught.value


# -- events --------------------------------------------------------------------------------------------------------
STREAM = (
    "\ufeffdata: one\n\n: a comment\r\n\r\nevent: x\nid: 7\nretry: 3\ndata:two\ndata: lines\r\n\r\n"
    "data: \U0001f600 ü\r\rdata\n\nfoo: bar\n\ndata: {\"a\": \"b: c\"}\n\ndata: last"
).encode()  # fmt: skip
EVENTS = ["one", "two\nlines", "\U0001f600 ü", "", '{"a": "b: c"}', "last"]


def test_events_are_the_same_however_their_bytes_are_cut() -> None:
    for size in (*range(1, 9), len(STREAM)):
        reader = EventReader()
        found = [e for at in range(0, len(STREAM), size) for e in reader.feed(STREAM[at : at + size])]
        assert found + list(reader.feed(b"", final=True)) == EVENTS, size


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 1000, b"data: " + b"x" * 1000 + b"\n", b"y" * 1000])
def test_an_event_without_end_is_given_up(piece: bytes) -> None:
    reader = EventReader()

    def flood() -> None:
        for _ in range(2 * MOST_CHARS // 1000):
            list(reader.feed(piece))

    with pytest.raises(UnavailableError, match="too long"):
        flood()


# -- answers that are whole ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "script",
    [
        [HEAD, event("Jane "), event("Roe"), event(finish="stop"), DONE],
        [HEAD, event("Jane "), event("Roe", "stop")],  # no [DONE]
        [HEAD, event("Jane "), event("Roe", "stop")[:-1]],  # nor an empty line behind the last event
        [HEAD, event("Jane "), event("Roe"), DONE],  # no finish_reason
        [HEAD, event(""), b'data: {"choices": []}\n\n', event("Jane Roe"), event(None, "stop"), DONE, event("no more")],
        [HEAD, b'data: {"choices": [{"text": "Jane Roe", "finish_reason": "stop"}]}\n\n'],
    ],
)
def test_a_whole_answer(script: list[bytes]) -> None:
    with scripted(script) as server:
        pieces = asyncio.run(written(engine_at(server.url)))
    assert said(pieces) == "Jane Roe"
    assert [piece.finish for piece in pieces] == [""] * (len(pieces) - 1) + ["stop"]


def test_counts_of_tokens_are_the_servers_own() -> None:
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5}}\n\n'
    with scripted([HEAD, event("Jane Roe"), event(None, "length"), usage, DONE]) as server:
        engine = engine_at(server.url)
        last = asyncio.run(written(engine))[-1]
    assert last == Written("", "length", 11, 5)
    assert (engine.stats().prompt_tokens, engine.stats().generated_tokens, engine.stats().finished) == (11, 5, 1)


def test_halves_of_a_character_are_put_together() -> None:
    halves = [
        b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % half for half in (b"a\\ud83d", b"\\ude00b\\udc00")
    ]
    with scripted([HEAD, *halves, event("c\ud83d", "stop")]) as server:
        text = said(asyncio.run(written(engine_at(server.url))))
    assert text == "a\U0001f600b\ufffdc\ufffd"


def test_a_server_that_does_not_hang_up_is_not_waited_for() -> None:
    with scripted([HEAD, event("Jane Roe", "stop")], waits=True) as server:
        begun = time.monotonic()
        assert said(asyncio.run(written(engine_at(server.url)))) == "Jane Roe"
        assert time.monotonic() - begun < 8
        eventually(lambda: server.hung_up == 1)


# -- answers that are not ------------------------------------------------------------------------------------------
CHUNKED = HEAD.replace(b"connection: close", b"transfer-encoding: chunked")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ([HEAD, event("Jane ")], "broke off"),
        ([HEAD], "broke off"),
        ([CHUNKED, b"%x\r\n" % len(event("J")) + event("J") + b"\r\n"], "broke off"),
        ([], "broke off"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "broke off"),
        ([HEAD, event("Jane "), b'data: {"error": {"message": "SECRET", "code": "overloaded"}}\n\n'], "overloaded"),
        ([HEAD, event("Jane "), event(None, "content_filter"), DONE], r"content_filter"),
        ([HEAD, event("Jane "), event(None, "tool_calls"), DONE], "tool_calls"),
        ([HEAD, b"data: {no json\n\n"], "no part of an answer"),
        ([HEAD, b"data: [1]\n\n"], "no part of an answer"),
        ([HEAD, b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'], "no part of an answer"),
        ([HEAD, b'data: {"choices": 3}\n\n'], "no part of an answer"),
        ([HEAD, b"data: " + b"[" * 100_000 + b"\n\n"], "no part of an answer"),
        ([HEAD, *[event("word " * 200)] * 20], "more than it was asked for"),
        ([error(200, {"choices": []})], "does not stream"),
        ([error(404, {"error": {"message": "SECRET", "code": "model_not_found"}})], "no such model.*model_not_found"),
        ([error(500, {"error": "SECRET"})], "HTTP 500"),
        ([error(500) + b"x" * 200_000], "HTTP 500"),
        ([error(400, {"error": {"code": "SECRET words here"}})], r"\(HTTP 400\)"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_an_error(script: list[bytes], says: str, caplog: pytest.LogCaptureFixture) -> None:
    with scripted(script) as server, caplog.at_level(logging.DEBUG, "serve_apps"):
        engine = engine_at(server.url)
        with pytest.raises(UnavailableError, match=says) as caught:
            asyncio.run(written(engine))
    assert "SECRET" not in caught.value.message + caplog.text
    assert (engine.stats().failed, engine.stats().running) == (1, 0)


def test_what_came_before_it_broke_off_was_delivered() -> None:
    heard: list[Written] = []

    async def hear(engine: OpenAIEngine) -> None:
        async for piece in engine.submit(TURNS, TextSampling(20)):
            heard.append(piece)

    with scripted([HEAD, event("Jane "), event("R")]) as server, pytest.raises(UnavailableError, match="broke off"):
        asyncio.run(hear(engine_at(server.url)))
    assert said(heard) == "Jane R"


def test_no_redirect_is_followed() -> None:
    with scripted([HEAD, event("stolen", "stop")]) as thief:
        for status in (301, 302, 307, 308):
            with scripted([error(status, None, f"location: {thief.url}/chat/completions")]) as server:
                assert "no redirect is followed" in fails(engine_at(server.url)).message
        assert thief.bodies == []


def test_a_text_that_is_too_long_for_the_model_is_a_mistake_of_the_client() -> None:
    with scripted([error(400, {"error": {"code": "context_length_exceeded"}})]) as server:
        found = fails(engine_at(server.url))
    assert isinstance(found, BadInputError)
    assert found.extras["code"] == "context_length_exceeded"


@pytest.mark.parametrize(("header", "wait"), [("retry-after: 7", 7), ("retry-after: 86400", 60), ("x: y", 2)])
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_wants_a_pause_gets_it(header: str, wait: int, status: int) -> None:
    with scripted([error(status, {"error": {"code": "rate_limit_exceeded"}}, header)]) as server:
        engine = engine_at(server.url)
        assert fails(engine).extras["retry_after_s"] == wait
        with pytest.raises(UnavailableError, match="pause") as caught:
            engine.submit(TURNS, TextSampling(5))
    assert 0 < caught.value.extras["retry_after_s"] <= wait
    assert len(server.bodies) == 1


def test_a_server_that_is_not_there_is_left_alone_for_a_moment() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        engine = engine_at(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        assert "cannot be reached" in fails(engine).message
        with pytest.raises(UnavailableError):
            engine.submit(TURNS, TextSampling(5))


def test_a_server_that_falls_silent_is_given_up() -> None:
    with scripted([HEAD, event("Jane ")], waits=True) as server:
        assert "was silent for 0.2 s" in fails(engine_at(server.url, silence_s=0.2)).message
        eventually(lambda: server.hung_up == 1)


def test_closing_the_stream_closes_the_connection() -> None:
    async def work(server: Scripted) -> None:
        engine = engine_at(server.url)
        stream = engine.submit(TURNS, TextSampling(20))
        assert (await anext(stream)).text == "Jane "
        begun = time.monotonic()
        await stream.aclose()
        while server.hung_up == 0:
            assert time.monotonic() - begun < 5, "the other server still works for nobody"
            await asyncio.sleep(0.01)
        assert (engine.stats().cancelled, engine.stats().running) == (1, 0)

    with scripted([HEAD, event("Jane ")], waits=True) as server:
        asyncio.run(work(server))


# -- what leaves the house -----------------------------------------------------------------------------------------
def test_what_is_sent_is_what_was_declared() -> None:
    with scripted([HEAD, event("x", "stop")]) as server:
        engine = engine_at(server.url, limit_name="max_completion_tokens", takes=("seed", "stop"))
        asyncio.run(written(engine, seed=7, stop=("a", "b")))
        with pytest.raises(UnsupportedError, match="temperature"):
            engine.submit(TURNS, TextSampling(5, temperature=0.0))
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies == [
        {"model": "tiny", "messages": TURNS, "max_completion_tokens": 20, "seed": 7, "stop": ["a", "b"],
         "stream": True, "stream_options": {"include_usage": True}}
    ]  # fmt: skip
    assert "authorization" not in server.heads[0].lower()


def test_nothing_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with scripted([HEAD, event("x", "stop")]) as server:
        assert said(asyncio.run(written(engine_at(server.url)))) == "x"
    assert "authorization" not in server.heads[0].lower()


def key_file(folder: Path, text: str = f"{KEY}\n", mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_key_comes_from_its_file_and_goes_nowhere_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = key_file(tmp_path)
    echo = {"error": {"message": f"wrong key {KEY}", "code": "invalid_api_key"}}
    with scripted([error(401, echo)]) as server, caplog.at_level(logging.DEBUG):
        engine = engine_at(server.url, key_file=str(path))
        found = fails(engine)
        path.write_text("sk-another")
        fails(engine)
    assert [f"authorization: Bearer {key}" in head for key, head in zip((KEY, "sk-another"), server.heads, strict=True)]
    assert "Bearer sk-another" in server.heads[1]
    assert "refuses our key (HTTP 401, invalid_api_key)" in found.message
    assert KEY not in found.message + caplog.text + repr(vars(engine)) + json.dumps(engine._tier.model_dump())


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_is_not_used(mode: int, tmp_path: Path) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(EnvironmentFaultError, match="chmod 600"):
        engine_at("https://example.invalid/v1", key_file=str(path))
    path.chmod(0o600)
    with scripted([HEAD, event("x", "stop")]) as server:
        engine = engine_at(server.url, key_file=str(path))
        path.chmod(mode)
        assert "key" in fails(engine).message
        assert server.bodies == []


@pytest.mark.parametrize("text", ["", "\n", "two words", "line\nbreak", "k\x00", "ü", "x" * 5000])
def test_what_is_no_key_is_not_used(text: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFaultError, match="holds no key") as caught:
        engine_at("https://example.invalid/v1", key_file=str(key_file(tmp_path, text)))
    assert not text.strip() or text not in caught.value.message


def test_a_key_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", Path("/dev/null")):
        with pytest.raises(EnvironmentFaultError, match=str(path)):
            engine_at("https://example.invalid/v1", key_file=str(path))
