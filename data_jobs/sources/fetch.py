"""Download one https URL without being led astray (server-side request forgery, THREATS T18).

A name is resolved once, every address it has is judged by the policy, and the connection goes to an address that was
judged: what a second look-up would say does not matter. The certificate and the Host header are those of the name.
Redirects go through the same checks. Proxies and credentials of the environment are not used.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from cluster.core.errors import BadInputError, EnvironmentFaultError, PolicyRefusedError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# Why an address may not be connected to, or None where it may: ``policy(host, port, address)``.
AddressPolicy = Callable[[str, int, IPAddress], str | None]
# ``is_global`` is true for these, and yet they lead to other networks: translated, tunnelled, site-local addresses.
_EMBEDDING = tuple(
    ipaddress.ip_network(net)
    for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10")
)
_PIECE = 1 << 16
HTTPS_PORT = 443


@dataclass(frozen=True)
class FetchLimits:
    """Most bytes of a body, seconds for all of it, redirects followed."""

    bytes: int = 2 << 30
    seconds: float = 600.0
    connect_s: float = 10.0
    redirects: int = 3


@dataclass(frozen=True)
class Fetched:
    """What was downloaded: the URL it came from in the end, its type as declared, size and sha256."""

    url: str
    content_type: str
    bytes: int
    sha256: str


def public_only(host: str, port: int, address: IPAddress) -> str | None:
    """The default policy: public unicast addresses, port 443."""
    if port != HTTPS_PORT:
        return f"port {port} is not {HTTPS_PORT}"
    return not_public(address)


def not_public(address: IPAddress) -> str | None:
    """Why an address is not a public unicast one; None where it is."""
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return not_public(mapped)
    if any(address in net for net in _EMBEDDING if net.version == address.version):
        return f"{address} stands for an address of another network"
    if address.is_multicast:
        return f"{address} is a multicast address"
    if not address.is_global or address.is_reserved or address.is_unspecified:
        return f"{address} is not a public address"
    return None


def allowing(hosts: Collection[str]) -> AddressPolicy:
    """The default policy with exceptions: ``HOST:PORT`` as written in the URL, wherever it leads."""
    exceptions = frozenset(host.lower() for host in hosts)

    def policy(host: str, port: int, address: IPAddress) -> str | None:
        return None if f"{host}:{port}" in exceptions else public_only(host, port, address)

    return policy


def fetch(
    url: str,
    target: Path,
    policy: AddressPolicy = public_only,
    limits: FetchLimits | None = None,
    context: ssl.SSLContext | None = None,
) -> Fetched:
    """Download ``url`` into the file ``target``; nothing is left of it when that fails.

    Raises:
        PolicyRefusedError: the URL, an address of its host, or what it redirects to is not allowed.
        BadInputError: it is too large, too slow, incomplete, or the server answers with an error.
        EnvironmentFaultError: the host cannot be resolved or reached, or its certificate is not trusted.
    """
    limits = limits or FetchLimits()
    context = context or ssl.create_default_context()
    deadline = time.monotonic() + limits.seconds
    for _ in range(limits.redirects + 1):
        answer = _get(url, target, policy, limits, context, deadline)
        if isinstance(answer, Fetched):
            return answer
        url = urljoin(url, answer)
    raise BadInputError(f"{url}: more than {limits.redirects} redirects", url=url)


def check_url(url: str) -> tuple[SplitResult, str, int]:
    """Parts, host (ASCII, lower case) and port of an https URL.

    Raises:
        PolicyRefusedError: another scheme, credentials, control characters, no host, a bad port.
    """
    problem = ""
    if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in url) or "\\" in url:
        problem = "it has spaces, control characters or backslashes"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or HTTPS_PORT
        host = host if ":" in host else host.encode("idna").decode("ascii").lower() if host else ""
    except (ValueError, UnicodeError) as error:
        raise refused(url, str(error)) from None
    if parts.scheme != "https":
        problem = problem or f"only https is fetched, not {parts.scheme or 'a path'}"
    if "@" in parts.netloc:
        problem = problem or "it has credentials in it"
    if not host or host.endswith("..") or "%" in host:
        problem = problem or "it has no usable host"
    if problem:
        raise refused(url, problem)
    return parts, host, port


def refused(url: str, why: str) -> PolicyRefusedError:
    """The error for an address that may not be fetched; a password in the URL is not shown."""
    shown = url.split("@")[-1] if "@" in url else url
    return PolicyRefusedError(
        f"policy `address-allowed` refuses {shown[:200]!r}: {why}", policy="address-allowed", url=shown[:500]
    )


def resolve(url: str, host: str, port: int, policy: AddressPolicy) -> Sequence[IPAddress]:
    """The addresses of a host, all of them allowed: one that is not refuses the name.

    Raises:
        PolicyRefusedError: an address is not allowed.
        EnvironmentFaultError: the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise EnvironmentFaultError(f"cannot resolve {host}: {error}", host=host) from None
    addresses = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
    for address in addresses:
        why = policy(host, port, address)
        if why is not None:
            raise refused(url, why)
    return addresses


class _Connection(http.client.HTTPSConnection):
    """Connects to one of the checked addresses; name and certificate stay those of the host."""

    def __init__(
        self, host: str, port: int, addresses: Sequence[IPAddress], context: ssl.SSLContext, timeout: float
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self.addresses, self.tls = addresses, context

    def connect(self) -> None:
        plain = self._connected()
        try:
            self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)
        except (OSError, ValueError):
            plain.close()
            raise

    def _connected(self) -> socket.socket:
        last: OSError | None = None
        for address in self.addresses:
            try:
                return socket.create_connection((str(address), self.port), self.timeout)
            except OSError as error:
                last = error
        raise last or OSError("no address")


def _get(
    url: str, target: Path, policy: AddressPolicy, limits: FetchLimits, context: ssl.SSLContext, deadline: float
) -> Fetched | str:
    """What one URL answers with: a body, written to ``target``, or where it redirects to."""
    parts, host, port = check_url(url)
    addresses = resolve(url, host, port, policy)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    connection = _Connection(
        host, port, addresses, context, min(limits.connect_s, max(0.1, deadline - time.monotonic()))
    )
    watch: threading.Timer | None = None
    try:
        connection.connect()
        # A server that sends a byte now and then never runs into a timeout of the socket: the deadline closes it.
        sock = connection.sock
        watch = threading.Timer(max(0.1, deadline - time.monotonic()), _shut, (sock,))
        watch.daemon = True
        watch.start()
        sock.settimeout(max(0.1, deadline - time.monotonic()))
        connection.request(
            "GET", f"{path}?{query}" if query else path,
            headers={"Accept-Encoding": "identity", "User-Agent": "plinth", "Connection": "close"},
        )  # fmt: skip
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308):
            where = response.getheader("Location")
            if not where:
                raise BadInputError(f"{url} answers {response.status} without a Location", url=url)
            return where
        if response.status != 200:
            raise BadInputError(f"{url} answers {response.status}", url=url, status=response.status)
        return _stored(url, response, target, limits, deadline)
    except ssl.SSLError as error:
        _check_deadline(url, deadline, limits)
        raise EnvironmentFaultError(f"{url}: TLS failed: {error.reason or error}", url=url) from None
    except (OSError, http.client.HTTPException) as error:
        _check_deadline(url, deadline, limits)
        raise EnvironmentFaultError(f"{url}: {type(error).__name__}: {error}", url=url) from None
    finally:
        if watch is not None:
            watch.cancel()
        connection.close()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        return


def _stored(
    url: str, response: http.client.HTTPResponse, target: Path, limits: FetchLimits, deadline: float
) -> Fetched:
    encoding = (response.getheader("Content-Encoding") or "identity").lower()
    if encoding != "identity":
        raise BadInputError(f"{url} is sent {encoding}-encoded although that was not asked for", url=url)
    declared = response.getheader("Content-Length")
    if declared is not None and (not declared.isdigit() or int(declared) > limits.bytes):
        raise BadInputError(f"{url} has {declared} bytes; the limit is {limits.bytes}", url=url, limit=limits.bytes)
    digest, size = hashlib.sha256(), 0
    part = target.with_name(f"{target.name}.part")
    try:
        with open(part, "wb") as handle:
            while piece := response.read(_PIECE):
                size += len(piece)
                if size > limits.bytes:
                    raise BadInputError(f"{url} has over {limits.bytes} bytes, the limit", url=url, limit=limits.bytes)
                _check_deadline(url, deadline, limits)
                digest.update(piece)
                handle.write(piece)
        _check_deadline(url, deadline, limits)
        if declared is not None and size != int(declared):
            raise BadInputError(f"{url}: {size} of {declared} bytes came", url=url)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return Fetched(url, (response.getheader("Content-Type") or "").partition(";")[0].strip(), size, digest.hexdigest())


def _check_deadline(url: str, deadline: float, limits: FetchLimits) -> None:
    if time.monotonic() >= deadline:
        raise BadInputError(f"{url} took over {limits.seconds:g} s, the limit", url=url, seconds=limits.seconds)
