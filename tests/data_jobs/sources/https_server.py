"""A real HTTPS server on loopback with a certificate of its own authority, and a listener that counts connections."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


def certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate (its own authority) and key for localhost and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@contextmanager
def https_server(folder: Path, respond: Respond) -> Iterator[tuple[int, ssl.SSLContext, list[tuple[str, str]]]]:
    """Port, a context that trusts the server, and ``(path, Host)`` of every request it got."""
    seen: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Host"]))
            respond(self)

        def log_message(self, *_: object) -> None:
            return

    cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], ssl.create_default_context(cafile=str(cert)), seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def listener() -> Iterator[tuple[int, Callable[[], int]]]:
    """A port on loopback, and how many connections came to it so far (IPv4 and, where there is one, IPv6)."""
    sockets = [socket.create_server(("127.0.0.1", 0))]
    port = sockets[0].getsockname()[1]
    if socket.has_dualstack_ipv6():
        with suppress(OSError):  # no IPv6 on this machine
            sockets.append(socket.create_server(("::1", port), family=socket.AF_INET6))

    def count() -> int:
        came = 0
        for sock in sockets:
            sock.setblocking(False)
            while True:
                try:
                    sock.accept()[0].close()
                    came += 1
                except BlockingIOError:
                    break
        return came

    try:
        yield port, count
    finally:
        for sock in sockets:
            sock.close()
