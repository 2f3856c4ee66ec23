"""Nodes of a cluster know each other by certificates of its own authority; over two real raylets that speak TLS."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home
from cluster.node_tls import AUTHORITY, make_authority, node_environment, own_addresses
from tests.live.private_cluster import NAMESPACES, loopback_up


@pytest.fixture
def home(tmp_path: Path) -> Home:
    make_authority(tmp_path / AUTHORITY)
    return Home(tmp_path)


def test_a_node_signs_for_its_addresses_and_nobody_else_reads_its_key(home: Home) -> None:
    found = node_environment(home)
    assert found["RAY_USE_TLS"] == "1"
    own = x509.load_pem_x509_certificate(Path(found["RAY_TLS_SERVER_CERT"]).read_bytes())
    authority = x509.load_pem_x509_certificate(Path(found["RAY_TLS_CA_CERT"]).read_bytes())
    own.verify_directly_issued_by(authority)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(one) for one in names.get_values_for_type(x509.IPAddress)} == set(own_addresses())
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert {Path(path).stat().st_mode & 0o777 for name, path in found.items() if name != "RAY_USE_TLS"} == {0o600}
    assert "PRIVATE" not in Path(found["RAY_TLS_CA_CERT"]).read_text(), "the authority's key goes to no other file"


def test_a_node_without_authority_speaks_no_tls(tmp_path: Path) -> None:
    assert node_environment(Home(tmp_path)) == {}


def test_what_is_no_authority_is_said(home: Home, tmp_path: Path) -> None:
    path = home.root / AUTHORITY
    text = path.read_text()
    cut = text.index("-----BEGIN PRIVATE")
    other = make_authority(tmp_path / "other.pem").read_text()
    for bad, word in (
        (text[:cut], "PEM"),
        ("", "PEM"),
        (text[:cut] + other[other.index("-----BEGIN PRI") :], "not that"),
    ):
        path.write_text(bad)
        with pytest.raises(EnvironmentFaultError, match=word):
            node_environment(home)


def test_an_authority_is_not_made_twice(home: Home) -> None:
    assert (home.root / AUTHORITY).stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="there already"):
        make_authority(home.root / AUTHORITY)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nt", dir="/tmp") as folder:  # short, for sockets
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.live
def test_two_nodes_talk_and_a_stranger_is_refused(place: Path) -> None:
    (place / "token").write_text("0123456789abcdef" * 4)
    for name, address in (("head", "127.0.0.1"), ("worker", "127.0.0.2"), ("stranger", "127.0.0.1")):
        home = Home(place / name)
        home.root.mkdir()
        if name == "worker":
            shutil.copy(place / "head" / AUTHORITY, home.root / AUTHORITY)
        else:
            make_authority(home.root / AUTHORITY)
        (place / f"{name}.json").write_text(json.dumps(node_environment(home, [address])))
    run = [*NAMESPACES, sys.executable, "-m", "tests.cluster.test_node_tls", str(place)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    said = json.loads((place / "said.json").read_text())
    assert said["head"] == ["127.0.0.1", "127.0.0.2", 5_000_000], "a task on the other node got its five megabytes"
    assert said["member"] > 0, "Ray's head answers who has a certificate of its authority"
    assert said["stranger"] == 0, "and nobody with one of another authority"
    assert said["nobody"] == 0, "or none"
    assert said["plain"] == 0, "or no TLS at all"


ASK = """
import json, ray
ray.init(address="127.0.0.1:6379", log_to_driver=False, logging_level="ERROR")
there = ray.remote(resources={"worker": 1})(lambda given: len(given))
print(json.dumps([*sorted(n["NodeManagerAddress"] for n in ray.nodes()), ray.get(there.remote(b"x" * 5_000_000))]))
"""


def greeted(environ: dict[str, str] | None, certificate: bool) -> int:
    """How many bytes Ray's head answers to an HTTP/2 greeting: with a node's environment through TLS."""
    greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + b"\x00" * 5
    try:
        with socket.create_connection(("127.0.0.1", 6379), timeout=20) as plain:
            if environ is None:
                plain.sendall(greeting)
                return len(plain.recv(9))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is the server that must refuse
            context.set_alpn_protocols(["h2"])
            if certificate:
                context.load_cert_chain(environ["RAY_TLS_SERVER_CERT"], environ["RAY_TLS_SERVER_KEY"])
            with context.wrap_socket(plain) as wrapped:
                wrapped.sendall(greeting)
                return len(wrapped.recv(9))
    except (ssl.SSLError, ConnectionError):
        return 0


def scenario(place: Path) -> None:
    """As process 1 of namespaces of its own: a head, a second node, and who asks them."""
    loopback_up()
    ray = str(Path(sys.executable).with_name("ray"))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PLINTH_"))}
    clean |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place / "token"), "HOME": str(place)}

    def run(name: str, command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        own = clean | json.loads((place / f"{name}.json").read_text())
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=seconds, check=False)

    start = ["start", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    head = [
        "--head",
        "--node-ip-address=127.0.0.1",
        "--port=6379",
        "--include-dashboard=false",
        f"--temp-dir={place}/r",
    ]
    for name, more in (
        ("head", head),
        ("worker", ["--address=127.0.0.1:6379", "--node-ip-address=127.0.0.2", '--resources={"worker": 1}']),
    ):
        done = run(name, [ray, *start, *more], 120)
        assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, object] = {}
    done = run("head", [sys.executable, "-c", ASK], 120)
    said["head"] = json.loads(done.stdout) if done.returncode == 0 else done.stderr[-1000:]
    said |= {name: greeted(json.loads((place / f"{own}.json").read_text()) if own else None, certificate)
             for name, own, certificate in (("member", "worker", True), ("stranger", "stranger", True),
                                            ("nobody", "worker", False), ("plain", "", False))}  # fmt: skip
    (place / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    scenario(Path(sys.argv[1]))
