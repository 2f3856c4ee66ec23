"""Fetching by https: every spelling of a forbidden address, rebinding, redirects, caps; against real sockets."""

from __future__ import annotations

import hashlib
import http.server
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError, EnvironmentFaultError, ExitCode, PolicyRefusedError
from data_jobs.sources.fetch import FetchLimits, allowing, check_url, fetch, not_public
from tests.data_jobs.sources.https_server import https_server, listener

pytestmark = pytest.mark.process
LOOPBACK = [
    "127.0.0.1", "2130706433", "0x7f.1", "127.1", "017700000001", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0",
    "0.0.0.0",     "localhost",
    "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "１２７.0.0.1", "127。0。0。1",
]  # fmt: skip
OTHERS = [
    "169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]", "[fe80::1]", "[fec0::1]", "[fd00::1]", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1",
    "224.0.0.1", "[ff02::1]", "255.255.255.255", "240.0.0.1", "[::7f00:1]", "198.18.0.1", "[2001:0:7f00:1::]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # whoever used it would fail


@pytest.mark.parametrize("host", LOOPBACK)
def test_no_spelling_of_loopback_is_connected_to(tmp_path: Path, host: str) -> None:
    with listener() as (port, connections):
        for url in (f"https://{host}:{port}/x.md", f"https://{host}/x.md"):
            # Some systems cannot even resolve the oddest spellings.
            with pytest.raises((PolicyRefusedError, EnvironmentFaultError)):
                fetch(url, tmp_path / "x", policy=lambda h, p, address: not_public(address))
        assert connections() == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", OTHERS)
def test_addresses_that_are_not_public_are_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(PolicyRefusedError, match="address-allowed") as caught:
        fetch(f"https://{host}/x.md", tmp_path / "x")
    assert caught.value.exit_code == ExitCode.REFUSED
    assert caught.value.extras["policy"] == "address-allowed"


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert not_public(ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    "url",
    ["http://example.org/x.md", "ftp://example.org/x", "file:///etc/passwd", "//example.org/x", "https:///x", "x.md",
     "https://user:secret@example.org/x", "https://example.org@127.0.0.1/x", "https://example.org/a b",
     "https://example.org/x\r\nHost: y", "https://example.org\\@127.0.0.1/", "https://example.org:99999/x",
     "https://[::1/x", "https://example.org:8443/x", "gopher://127.0.0.1:6379/_x"],
)  # fmt: skip
def test_urls_that_are_refused_before_anything_is_resolved_or_for_their_port(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("93.184.216.34", 443))])
    with pytest.raises(PolicyRefusedError) as caught:
        fetch(url, tmp_path / "x")
    assert "secret" not in caught.value.message
    assert "secret" not in str(caught.value.extras)


def test_a_name_with_one_forbidden_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("127.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: both)
    with pytest.raises(PolicyRefusedError):
        fetch("https://rebound.example/x", tmp_path / "x")


def test_rebinding_does_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up once; a second answer that leads to loopback is never asked for."""
    asked: list[str] = []
    tried: list[Any] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34" if len(asked) == 1 else "127.0.0.1", 443))]

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError("test")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(EnvironmentFaultError):
        fetch("https://rebound.example/x", tmp_path / "x")
    assert asked == ["rebound.example"]
    assert tried == [("93.184.216.34", 443)]


def send(handler: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in ({"Content-Length": str(len(body)), "Content-Type": "text/html"} | given).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def test_one_allowed_host_and_port_is_fetched(tmp_path: Path) -> None:
    with https_server(tmp_path, lambda h: send(h, b"hello")) as (port, trust, seen):
        policy = allowing([f"localhost:{port}"])
        got = fetch(f"https://localhost:{port}/a/ü.md?q=1", tmp_path / "x.md", policy, context=trust)
        assert (tmp_path / "x.md").read_bytes() == b"hello"
        assert (got.content_type, got.bytes, got.sha256) == ("text/html", 5, hashlib.sha256(b"hello").hexdigest())
        assert seen == [("/a/%C3%BC.md?q=1", f"localhost:{port}")]
        with pytest.raises(PolicyRefusedError):  # the same address by another name
            fetch(f"https://127.0.0.1:{port}/", tmp_path / "y", policy, context=trust)
        with pytest.raises(EnvironmentFaultError, match="TLS"):  # nobody vouches for the certificate
            fetch(f"https://localhost:{port}/", tmp_path / "y", policy)
        assert len(seen) == 1


def test_redirects_are_judged_again(tmp_path: Path) -> None:
    with listener() as (closed, connections):
        where = {
            "/up": f"https://127.0.0.1:{closed}/", "/plain": f"http://localhost:{closed}/", "/file": "file:///etc/passwd",
            "/loop": "/loop", "/good": "/end", "/meta": "https://169.254.169.254/latest",
        }  # fmt: skip

        def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
            if handler.path == "/end":
                send(handler, b"the end")
            else:
                send(handler, b"", 302, Location=where[handler.path])

        with https_server(tmp_path, respond) as (port, trust, _):
            policy = allowing([f"localhost:{port}"])
            got = fetch(f"https://localhost:{port}/good", tmp_path / "x", policy, context=trust)
            assert got.url == f"https://localhost:{port}/end"
            for path in ("/up", "/plain", "/file", "/meta"):
                with pytest.raises(PolicyRefusedError):
                    fetch(f"https://localhost:{port}{path}", tmp_path / "y", policy, context=trust)
            with pytest.raises(BadInputError, match="redirects"):
                fetch(f"https://localhost:{port}/loop", tmp_path / "y", policy, context=trust)
        assert connections() == 0
    assert not (tmp_path / "y").exists()


def test_caps_on_size_and_time_and_bodies_that_are_cut_off(tmp_path: Path) -> None:
    def respond(handler: http.server.BaseHTTPRequestHandler) -> None:
        if handler.path == "/declared":
            send(handler, b"", Content_Length=str(10**12))
        elif handler.path == "/endless":
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(b"x" * 65536)
            except OSError:
                return
        elif handler.path == "/slow":  # headers that never end, a byte at a time
            try:
                while True:
                    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" if not handler.close_connection else b"X")
                    handler.wfile.flush()
                    handler.close_connection = True
                    handler.connection.settimeout(0.05)
                    try:
                        handler.connection.recv(1)
                        return
                    except TimeoutError:
                        continue
            except (OSError, ssl.SSLError):
                return
        elif handler.path == "/short":
            send(handler, b"abc", Content_Length="10")
        elif handler.path == "/gzip":
            send(handler, b"\x1f\x8b", Content_Encoding="gzip")
        else:
            send(handler, b"", 500)

    limits = FetchLimits(bytes=1 << 20, seconds=1.0)
    with https_server(tmp_path, respond) as (port, trust, _):
        policy = allowing([f"localhost:{port}"])
        for path, says in (("/declared", "limit"), ("/endless", "limit"), ("/slow", "took over"),
                           ("/short", "came|cut"), ("/gzip", "encoded"), ("/error", "500")):  # fmt: skip
            with pytest.raises((BadInputError, EnvironmentFaultError), match=f"{says}|IncompleteRead"):
                fetch(f"https://localhost:{port}{path}", tmp_path / "y", policy, limits, trust)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cert.pem", "key.pem"]


def test_hosts_are_compared_in_ascii_and_lower_case() -> None:
    assert check_url("https://EXAMPLE.org/x")[1:] == ("example.org", 443)
    assert check_url("https://bücher.example/x")[1] == "xn--bcher-kva.example"
