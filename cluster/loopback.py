"""HTTP to Plinth's own service and to Ray's dashboard, both on this machine. No ray import."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster.core.home import Home

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
        token: sent as a bearer token: the cluster's for what Ray's dashboard tells nobody else, or ``api_key()``.

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


def api_key() -> str:
    """The key that this machine's user asks the service with: PLINTH_API_KEY, else that of PLINTH_HOME; empty: none."""
    return os.environ.get("PLINTH_API_KEY", "").strip() or Home.from_env().api_key()


def bearer() -> dict[str, str]:
    """The header that says so; none where there is no key."""
    return {"Authorization": f"Bearer {key}"} if (key := api_key()) else {}


def client(timeout_s: float) -> httpx.Client:
    """A client of the service, with the local key. It takes no proxy or other credentials from the environment.

    Without a TLS context of ours httpx would read the machine's certificate authorities, and nothing here is https.
    """
    import httpx

    nothing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.Client(timeout=timeout_s, trust_env=False, verify=nothing, headers=bearer())
