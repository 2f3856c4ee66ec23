"""HTTP to Plinth's own service and to Ray's dashboard, both on this machine. No ray import."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Reply:
    """What came back, whatever its status."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body's JSON value. Raises ValueError: it is none."""
        return json.loads(self.body)


def get(url: str, timeout_s: float, token: str = "") -> Reply:
    """One GET of a short verb: the standard library's client, as importing httpx takes longer than the call.

    Args:
        token: the cluster's, for what Ray's dashboard tells nobody else.

    Raises:
        OSError: nobody answers in time, or not in HTTP.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path, headers={"Authorization": f"Bearer {token}"} if token else {})
        reply = connection.getresponse()
        return Reply(reply.status, reply.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url}: {error!r}") from error
    finally:
        connection.close()


def client(timeout_s: float) -> httpx.Client:
    """A client for everything else. It takes no proxy or credentials from the environment.

    Without a TLS context of ours httpx would read the machine's certificate authorities, and nothing here is https.
    """
    import httpx

    return httpx.Client(timeout=timeout_s, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
