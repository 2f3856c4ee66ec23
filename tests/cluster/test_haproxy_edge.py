"""HAProxy's configuration as Serve writes it gets an edge: loopback, limits, errors in the API's shape."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.haproxy_edge import (
    ALWAYS,
    BEYOND,
    ERRORS,
    FEW,
    KNOWN,
    METHODS,
    QUEUED,
    REQUEST_S,
    ROOM,
    SHARE,
    edged,
    reply,
    write_replies,
)
from cluster.processes import free_ports
from cluster.serve_mode import bundled_haproxy, write_haproxy_wrapper

CONFIG = """\
global
    stats socket {folder}/admin.sock mode 666 level admin
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 5s
    retries 0
    errorfile 502 {folder}/500.http
    errorfile 503 {folder}/500.http
frontend prometheus
    bind :{metrics}
    http-request use-service prometheus-exporter if {{ path /metrics }}
frontend http_frontend
    bind 127.0.0.1:{port}
    acl routes path -i /-/routes
    http-request return status 200 content-type text/plain string "x" if routes
    acl is_app path_beg /app
    use_backend app if is_app
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
backend app
    server nobody 127.0.0.1:{nobody}
listen stats
  bind *:{stats}
  stats enable
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real HAProxy, started as Serve starts it, with nothing behind it; it waits a second for a request."""
    folder = tmp_path_factory.mktemp("edge")
    names = ("port", "metrics", "stats", "nobody")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(folder=folder, **ports))
    wrapper = write_haproxy_wrapper(str(folder))
    quick = folder / "quick"
    shorter = f"s/timeout http-request {REQUEST_S}s/timeout http-request 1s/"
    quick.write_text(f"#!/bin/sh\nsed -i '{shorter}' '{config}'\nexec '{bundled_haproxy()}' \"$@\"\n")
    quick.chmod(0o700)
    environ = {**os.environ, "PLINTH_HAPROXY": str(quick)}
    with subprocess.Popen([wrapper, "-db", "-f", config], env=environ) as haproxy:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports["port"])) == 0:
                    break
        yield ports["port"]
        haproxy.terminate()


def said(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """What comes back for these bytes: status, headers, body."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(request)
        data = b""
        while more := connection.recv(65_536):
            data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}, body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 503),  # no application yet
        (b"GET /app HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 503),  # nobody behind it
        (b"GET /-/routes HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /%2d/routes HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /%2D%2froutes HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET //-/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        (b"DELETE /app HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
def test_what_haproxy_answers_by_itself_is_an_error_of_the_api(port: int, request_bytes: bytes, status: int) -> None:
    found, headers, body = said(port, request_bytes)
    assert found == status
    assert headers["content-type"] == "application/json"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert ("retry-after" in headers) == (status >= 500)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /app HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"\x00\x01\x02 what\r\n\r\n",
        b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(port: int, request_bytes: bytes) -> None:
    """In HAProxy's own words: it reads no error file for what it could not parse."""
    assert said(port, request_bytes)[0] == 400


def test_a_body_that_does_not_come_is_given_up(port: int) -> None:
    """Its connection held a place for an hour."""
    began = time.monotonic()
    status, _, body = said(port, b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    assert status == 408
    assert json.loads(body)["error"]["code"] == "request_timeout"
    assert 0.5 < time.monotonic() - began < 8


def test_the_configuration_stays_on_loopback_and_an_edge_is_given_once(tmp_path: Path) -> None:
    config = CONFIG.format(folder=tmp_path, port=1, metrics=2, stats=3, nobody=4) + "  bind 0.0.0.0:9000\n"
    once = edged(config, str(tmp_path))
    assert edged(once, str(tmp_path)) == once
    for number in (1, 2, 3, 9000):
        assert f"bind 127.0.0.1:{number}\n" in once
    assert "mode 600 level admin" in once
    assert "3600s" not in once
    assert f"timeout http-request {REQUEST_S}s" in once
    assert once.count("errorfile 503") == 1


def test_what_cannot_be_mended_is_not_served(tmp_path: Path) -> None:
    wrapper = write_haproxy_wrapper(str(tmp_path))
    environ = {**os.environ, "PLINTH_HAPROXY": shutil.which("echo") or "/bin/echo"}
    done = subprocess.run([wrapper, "-f", tmp_path / "none.cfg"], env=environ, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
    kept = subprocess.run([wrapper, "-vv", "a b"], env=environ, capture_output=True, check=True)
    assert kept.stdout == b"-vv a b\n", "every argument is handed on"


def test_replies_are_whole(tmp_path: Path) -> None:
    write_replies(tmp_path)
    for status in ERRORS:
        head, _, body = reply(status).partition("\r\n\r\n")
        assert f"content-length: {len(body)}" in head
        assert (tmp_path / f"{status}.http").read_text().startswith("HTTP/1.1 ")
    assert f"allow: {', '.join(METHODS)}" in reply(405)


class Gateway(BaseHTTPRequestHandler):
    """Answers at once with what room it says there is; a search only when it is let go on."""

    room = share = ""
    go_on = threading.Event()
    searching = threading.Semaphore(0)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/search":
            self.searching.release()
            self.go_on.wait(20)
        self.send_response(200)
        for name, value in ((ROOM, self.room), (SHARE, self.share)):
            if value:
                self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        """Nothing."""


@contextmanager
def edge_before(gateway: type[Gateway], folder: Path) -> Iterator[tuple[int, Path, Callable[[], None]]]:
    """A real HAProxy as Serve starts it, before one gateway: its port, its configuration, and what kills it and starts
    it anew."""
    names = ("port", "metrics", "stats", "nobody")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    server = ThreadingHTTPServer(("127.0.0.1", ports["nobody"]), gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(folder=folder, **ports).replace("path_beg /app", "path_beg /"))
    wrapper, environ = write_haproxy_wrapper(str(folder)), {**os.environ, "PLINTH_HAPROXY": bundled_haproxy()}
    running = []

    def start() -> None:
        while running:
            running[-1].kill()
            running.pop().wait()
        running.append(subprocess.Popen([wrapper, "-db", "-f", config], env=environ))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports["port"])) == 0:
                    return

    start()
    try:
        yield ports["port"], config, start
    finally:
        running[-1].kill()
        running[-1].wait()
        server.shutdown()


def posted(port: int, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    lines = "\r\n".join((f"POST {path} HTTP/1.1", "Host: a", "Connection: close", "Content-Length: 2", *headers))
    return said(port, f"{lines}\r\n\r\n{{}}".encode())


def test_whoever_is_beyond_the_room_of_the_gateways_is_refused_at_the_edge(tmp_path: Path) -> None:
    """Those that are there are answered, the next is refused without the gateway, and let in when there is room."""

    class Full(Gateway):
        room, go_on, searching = str(ALWAYS + 4), threading.Event(), threading.Semaphore(0)

    with edge_before(Full, tmp_path) as (port, _, _), ThreadPoolExecutor(ALWAYS + 4) as pool:
        inside = [pool.submit(posted, port, "/v1/search") for _ in range(ALWAYS + 1)]
        for _ in inside:
            assert Full.searching.acquire(timeout=20), "nobody is refused as long as no reply said anything"
        status, headers, _ = posted(port, "/v1/other")
        assert (status, ROOM in headers) == (200, False)
        inside += [pool.submit(posted, port, "/v1/search") for _ in range(3)]
        for _ in range(3):
            assert Full.searching.acquire(timeout=20)
        began = time.monotonic()
        status, headers, body = posted(port, "/v1/search")
        took = time.monotonic() - began
        assert (status, headers["retry-after"], json.loads(body)["error"]["code"]) == (503, "2", "server_is_overloaded")
        assert took < 1, "it waited for nobody"
        assert posted(port, "/v1/feedback")[0] == 200, "what waits for no turn is let in"
        Full.room = "40"
        Full.go_on.set()
        assert {one.result()[0] for one in inside} == {200}
        assert posted(port, "/v1/search")[0] == 200


def test_a_crowd_of_one_key_shuts_out_nobody_else(tmp_path: Path) -> None:
    """Whose key has hardly anything there comes in beyond the room, as long as such are no crowd themselves; of a
    crowd those beyond its share are refused at the edge, with a key or a session."""

    class Full(Gateway):
        room, share, go_on, searching = str(ALWAYS + 1), "0", threading.Event(), threading.Semaphore(0)

    loud, quiet, tab = "Authorization: Bearer loud", "Authorization: Bearer quiet", "Cookie: plinth_session_1=x"
    with edge_before(Full, tmp_path) as (port, _, _), ThreadPoolExecutor(80) as pool:
        inside: list[Future[tuple[int, dict[str, str], bytes]]] = []

        def comes(*headers: str) -> None:
            inside.append(pool.submit(posted, port, "/v1/search", *headers))
            assert Full.searching.acquire(timeout=20), f"{headers} was not let in"

        def refused(*headers: str) -> None:
            status, _, body = posted(port, "/v1/search", *headers)
            assert (status, json.loads(body)["error"]["code"]) == (503, "server_is_overloaded")

        status, headers, _ = posted(port, "/v1/other")
        assert (status, {ROOM, SHARE} & set(headers)) == (200, set())
        for _ in range(ALWAYS + 1):
            comes(loud)
        refused(loud)
        refused()
        for header in [*[quiet] * FEW, *[tab] * FEW]:
            comes(header)
        refused(quiet)
        refused(tab)
        for n in range(BEYOND - 2 * FEW):
            comes(f"Authorization: Bearer key-{n}")
        refused("Authorization: Bearer another")
        Full.room = "100"
        assert posted(port, "/v1/other")[0] == 200
        comes(loud)
        Full.share = str(ALWAYS + 2)
        assert posted(port, "/v1/other")[0] == 200
        refused(loud)
        comes(quiet)
        comes(tab)
        comes()
        Full.share = "0"
        assert posted(port, "/v1/other")[0] == 200
        comes(loud)
        Full.room, Full.share = str(ALWAYS + 1), "1"
        Full.go_on.set()
        assert {one.result()[0] for one in inside} == {200}
        assert posted(port, "/v1/search", loud)[0] == 200, "where few are there nobody is refused"


def test_a_haproxy_in_the_place_of_a_dead_one_knows_the_gateways_of_before(tmp_path: Path) -> None:
    """Serve starts it without any, and tells it of them a second later."""
    with edge_before(Gateway, tmp_path) as (port, config, start_anew):
        assert posted(port, "/v1/feedback")[0] == 200
        whole = CONFIG.format(folder=tmp_path, port=port, metrics=1, stats=2, nobody=3)
        without = whole.replace("    use_backend app if is_app\n", "").partition("backend app\n")[0]
        config.write_text(without)
        start_anew()
        assert posted(port, "/v1/feedback")[0] == 200
        (tmp_path / KNOWN).unlink()
        config.write_text(without)
        start_anew()
        assert posted(port, "/v1/feedback")[0] == 503


def test_the_edge_refuses_where_requests_wait_and_nowhere_else() -> None:
    """It imports nothing of ours, so it has a list of its own."""
    from serve_apps.api.openai_http import ROUTES

    assert sorted(QUEUED) == sorted(route.path for route in ROUTES if route.waits)
