"""Others than this machine come in through TLS, with a certificate that is checked first; over the real HAProxy."""

from __future__ import annotations

import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.core.config import PlinthConfig, configured
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home
from cluster.haproxy_edge import CLIENT, edge_seal
from cluster.processes import free_ports
from cluster.serve_mode import bundled_haproxy, open_door, write_haproxy_wrapper
from cluster.tls import certificate_path, check_certificate, make_certificate
from tests.cluster.test_haproxy_edge import CONFIG


def test_a_certificate_is_made_for_names_and_addresses(tmp_path: Path) -> None:
    path = make_certificate(Home(tmp_path), ["plinth.example.org", "192.168.1.5", "[::1]"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert check_certificate(path) is not None
    with pytest.raises(UsageError):
        make_certificate(Home(tmp_path), [])


def test_what_is_no_usable_certificate_is_said(tmp_path: Path) -> None:
    path = make_certificate(Home(tmp_path), ["a.example"])
    text = path.read_text()
    other = make_certificate(Home(tmp_path / "other"), ["a.example"]).read_text()
    cut = text.index("-----BEGIN PRIVATE KEY")
    for bad, word in (
        (text[:cut], "PEM"),
        ("", "PEM"),
        (text[:cut] + other[other.index("-----BEGIN PRIVATE") :], "not that"),
    ):
        path.write_text(bad)
        with pytest.raises(EnvironmentFaultError, match=word):
            check_certificate(path)
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(EnvironmentFaultError, match="chmod 600"):
        check_certificate(path)
    path.unlink()
    with pytest.raises(EnvironmentFaultError, match="keys tls"):
        check_certificate(path)


def test_nobody_unknown_is_let_in_from_outside() -> None:
    with pytest.raises(UsageError, match=r"trust\.keys"):
        configured(PlinthConfig(), ["cluster.host=0.0.0.0", "trust.keys=false"])
    with pytest.raises(UsageError, match="address"):
        configured(PlinthConfig(), ["cluster.host=example.org"])
    assert configured(PlinthConfig(), ["cluster.host=0.0.0.0"]).cluster.beyond_loopback
    assert not configured(PlinthConfig(), ["cluster.host=127.0.0.1"]).cluster.beyond_loopback


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was told of the client."""

    def do_GET(self) -> None:
        told = {name: self.headers.get_all(name) for name in ("x-forwarded-proto", "x-forwarded-for", CLIENT)}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """The door on loopback, the one for others (on another address of loopback), and the certificate."""
    behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    names = ("port", "metrics", "stats", "https")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    home = Home(tmp_path / "home")
    certificate = make_certificate(home, ["localhost", "127.0.0.2"])
    overrides = ["cluster.host=0.0.0.0", f"cluster.https_port={ports['https']}"]
    section = configured(PlinthConfig(), overrides).cluster
    assert certificate_path(home, section) == certificate
    (tmp_path / "haproxy.cfg").write_text(CONFIG.format(folder=tmp_path, nobody=behind.server_port, **ports))
    wrapper = write_haproxy_wrapper(str(tmp_path))
    open_door(section, home, str(tmp_path))
    environ = {**os.environ, "PLINTH_HAPROXY": bundled_haproxy()}
    with subprocess.Popen([wrapper, "-db", "-f", tmp_path / "haproxy.cfg"], env=environ) as haproxy:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports["https"])) == 0:
                    break
        yield f"http://127.0.0.1:{ports['port']}/app", f"https://127.0.0.2:{ports['https']}/app", certificate
        haproxy.terminate()
    behind.shutdown()


def test_others_come_in_over_tls_and_cannot_claim_it(doors: tuple[str, str, Path]) -> None:
    inside, outside, certificate = doors
    trusting = ssl.create_default_context(cafile=str(certificate))
    claim = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1", CLIENT: "192.0.2.1"}
    seal = edge_seal(str(certificate.parents[2] / "haproxy-loopback"))
    assert len(seal) == 32
    told = {"x-forwarded-proto": None, "x-forwarded-for": None, CLIENT: [f"{seal}@127.0.0.1"]}
    with httpx.Client(verify=trusting, trust_env=False) as client:
        assert client.get(outside).json() == {**told, "x-forwarded-proto": ["https"]}
        assert client.get(inside, headers=claim).json() == told
    with httpx.Client(trust_env=False) as stranger, pytest.raises(httpx.ConnectError):
        stranger.get(outside)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with httpx.Client(verify=old, trust_env=False) as client, pytest.raises(httpx.ConnectError):
        client.get(outside)
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.HTTPError):
        client.get(outside.replace("https:", "http:")).raise_for_status()
