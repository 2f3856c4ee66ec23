"""What Serve's HAProxy configuration lacks at the edge, written into it before HAProxy reads it.

Serve binds HAProxy's metrics and statistics on every interface, makes its admin socket world writable, lists the routes
to anybody, lets a client hold a connection for an hour, and answers in text or HTML where the gateway is not asked.
There is no setting for any of it. So the executable that Serve starts runs this file over the configuration, and then
becomes the bundled HAProxy. It imports the standard library only, as it runs at every reload.

Two things more are done here. A gateway says with each reply how many may be there at once (``ROOM``), and whoever is
beyond that is refused here at once, not after he has waited for the busy gateway to say so. And a HAProxy that Serve
puts up in the place of a dead one begins with the gateways of before: Serve tells it of them only a second later.
"""

from __future__ import annotations

import hmac
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

METHODS = ("GET", "HEAD", "POST", "OPTIONS")
REQUEST_S = 10  # for a whole request of up to 16 KB, and for the head of a larger one
CLIENT_S = 60  # in which a client has to send or take something
RETRY_AFTER_S = 2
MOST_CONNECTIONS = 256  # that one address has open at once; a browser has six, a team behind one router some dozens
DOOR = "door.json"  # beside HAProxy's configuration, or one folder above, as the next
SEAL = "edge.seal"  # the edge's secret, which gateways know too: whoever comes to them past the edge has none
CLIENT = "x-plinth-client"  # SEAL@ADDRESS, as the edge saw the client
ROOM = "x-plinth-room"  # of a gateway's reply: how many requests may be there at once now; no client sees it
SHARE = "x-plinth-share"  # likewise: how many of one key; 0: as many as there is room for
QUEUED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/search")  # wait for a turn
CROWDED = {"message": "too many requests are waiting; try again in a moment", "type": "service_unavailable",
           "param": None, "code": "server_is_overloaded"}  # fmt: skip
ALWAYS = 8  # so many are at the gateways without being asked, so that what is known is never too old to be corrected
FEW, BEYOND = 2, 32  # whose key has no more there is let in beyond the room, as long as these are no crowd themselves
KEYS = "plinth_keys"  # counts what each key has at the gateways: by a hash of what it is sent in
KNOWN = "known.cfg"  # beside the configuration: the last one that knew of gateways

# status: reason phrase, code, what to do. The statuses that HAProxy answers by itself. (What it cannot parse, and heads
# above 15 KB, it refuses with a 400 in HTML, for which it reads no file.)
ERRORS: dict[int, tuple[str, str, str]] = {
    400: ("Bad Request", "bad_request", "this is no HTTP request that can be read"),
    403: ("Forbidden", "forbidden", "this is not allowed here"),
    404: ("Not Found", "not_found", "there is nothing here"),
    405: ("Method Not Allowed", "method_not_allowed", f"use one of {', '.join(METHODS)}"),
    408: ("Request Timeout", "request_timeout", f"the request did not arrive within {REQUEST_S} seconds"),
    500: ("Internal Server Error", "internal_error", "the service failed; try again in a moment"),
    502: ("Bad Gateway", "bad_gateway", "the service ended before it had answered; try again in a moment"),
    503: ("Service Unavailable", "unavailable", "the service is starting or starting again; try again in a moment"),
    504: ("Gateway Timeout", "timeout", "the service did not answer in time; try again in a moment"),
}


def reply(status: int) -> str:
    """The whole HTTP reply that HAProxy gives by itself, in the shape of the API's errors."""
    phrase, _, _ = ERRORS[status]
    body = _body(status)
    headers = [
        f"HTTP/1.1 {status} {phrase}", "content-type: application/json", f"content-length: {len(body)}",
        "cache-control: no-store", "connection: close",
        *([f"retry-after: {RETRY_AFTER_S}"] if status >= 500 else []),
        *([f"allow: {', '.join(METHODS)}"] if status == 405 else []),
    ]  # fmt: skip
    return "\r\n".join(headers) + "\r\n\r\n" + body


def _body(status: int) -> str:
    _, code, message = ERRORS[status]
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def edge_seal(executable: str) -> str:
    """The seal of the edge that this executable, which Serve starts for HAProxy, gives it; empty where it has none."""
    path = Path(executable).with_name(SEAL) if executable else None
    return path.read_text().strip() if path and path.exists() else ""


def client_of(given: Sequence[str], seal: str) -> str:
    """The address that the edge wrote into ``CLIENT``; empty where it was not the edge that did.

    Args:
        given: all the values of that header.
    """
    written, _, address = given[0].rpartition("@") if len(given) == 1 else ("", "", "")
    return address if seal and hmac.compare_digest(written.encode(), seal.encode()) else ""


def edged(config: str, folder: str, door: dict[str, str] | None = None, seal: str = "") -> str:
    """The configuration with an edge; one that has it stays as it is.

    Args:
        folder: where the files of ``write_replies`` are.
        seal: by which gateways know what the edge wrote.
        door: where others than this machine come in: ``{"bind": ADDRESS:PORT, "certificate": path}``; None: nowhere.
    """
    swaps = [
        (r"^([ \t]*bind )(\*|0\.0\.0\.0)?:(\d+)", r"\g<1>127.0.0.1:\3"),
        (r"^([ \t]*stats socket .*) mode 666 ", r"\1 mode 600 "),
        (r"^([ \t]*http-request )return status .* if routes$", r"\1deny deny_status 404 if routes"),
        (r"^[ \t]*(timeout (http-request|client)|errorfile) .*\n", ""),
    ]
    for pattern, replacement in swaps:
        config = re.sub(pattern, replacement, config, flags=re.MULTILINE)
    files = "".join(f"    errorfile {status} {folder}/{status}.http\n" for status in ERRORS)
    config = config.replace(
        "\ndefaults\n",
        f"\ndefaults\n    timeout http-request {REQUEST_S}s\n    timeout client {CLIENT_S}s\n{files}", 1,
    )  # fmt: skip
    # Two x-request-id headers come back, the gateway's and one that Serve appends: the first stays. A body is waited
    # for here, where a slow client holds a connection and nothing else.
    front = (
        "\nfrontend http_frontend\n"
        "    http-response set-header x-request-id %[res.fhdr(x-request-id,1)]\n"
        "    option http-buffer-request\n"
        f"    http-request deny deny_status 405 unless {{ method {' '.join(METHODS)} }}\n"
        # Serve answers there itself, in whatever way the path is written, and asks nobody for a key.
        "    http-request deny deny_status 404 if { path,url_dec -m reg ^/+-/ }\n"
        "    http-request del-header x-forwarded-proto\n"
        "    http-request del-header x-forwarded-for\n"
        f"    http-request del-header {CLIENT}\n"
    )
    if seal:
        front += f"    http-request set-header {CLIENT} {seal}@%[src]\n"
    if door is not None:
        front += (
            f"    bind {door['bind']} ssl crt {door['certificate']} ssl-min-ver TLSv1.2 alpn h2,http/1.1\n"
            "    http-request set-header x-forwarded-proto https if { ssl_fc }\n"
            "    stick-table type ipv6 size 100k expire 60s store conn_cur\n"
            "    tcp-request connection track-sc0 src if !{ src 127.0.0.0/8 ::1 }\n"
            f"    tcp-request connection reject if {{ sc0_conn_cur gt {MOST_CONNECTIONS} }}\n"
        )
    if front not in config:
        keys = f"\nbackend {KEYS}\n    stick-table type binary len 20 size 10k expire {CLIENT_S}s store conn_cur\n"
        config = config.replace("\nfrontend http_frontend\n", keys + front, 1)
    for backend in sorted(set(re.findall(r"^[ \t]*use_backend (\S+) if ", config, flags=re.MULTILINE))):
        counted = f"\nbackend {backend}\n{_room(backend)}"
        if counted not in config:
            config = config.replace(f"\nbackend {backend}\n", counted, 1)
    # While Serve knows of no application there is no backend, and any path is one that will be there in a moment.
    return re.sub(
        r"^(backend default_backend\n)[ \t]*http-request return status 404 .*$",
        r"\1    http-request deny deny_status 503", config, flags=re.MULTILINE,
    )  # fmt: skip


def _room(backend: str) -> str:
    """Lines that refuse whoever is beyond what the gateways of a backend have room for, as the last reply said it, and
    of a key what is beyond its share.

    Those that a busy gateway has not even seen count, too: they are at the backend. Nobody is refused until a gateway
    has said anything.
    """
    body = json.dumps({"error": CROWDED})
    refuse = (
        f"    http-request return status 503 content-type application/json string '{body}' hdr cache-control no-store"
        f" hdr retry-after {RETRY_AFTER_S} if METH_POST plinth_waits {{ be_conn({backend}) gt {ALWAYS} }}"
    )
    sent = "".join(
        f"    http-request set-var(txn.key) req.fhdr({header}),sha1 if METH_POST plinth_waits"
        f" !{{ var(txn.key) -m found }} {{ req.fhdr({header}) -m found }}\n"
        for header in ("authorization", "cookie")
    )
    told = "".join(
        f"    http-response set-var(proc.{name}) res.hdr({header}),mul(txn.gateways)"
        f" if {{ res.hdr({header}) -m found }}\n"
        f"    http-response del-header {header}\n"
        for name, header in (("most", ROOM), ("share", SHARE))
    )
    return (
        f"    acl plinth_waits path {' '.join(QUEUED)}\n"
        f"{sent}"
        f"    http-request track-sc1 var(txn.key) table {KEYS} if {{ var(txn.key) -m found }}\n"
        f"    http-request set-var(txn.beyond) be_conn({backend}),sub(proc.most)\n"
        f"    http-request set-var(txn.over) sc1_conn_cur,sub(proc.share) if {{ var(proc.share) -m int gt 0 }}\n"
        f"{refuse} {{ var(txn.beyond) -m int gt 0 }} !{{ sc1_conn_cur le {FEW} }}\n"
        f"{refuse} {{ var(txn.beyond) -m int gt {BEYOND} }}\n"
        f"{refuse} {{ var(txn.over) -m int gt 0 }}\n"
        f"    http-response set-var(txn.gateways) nbsrv({backend})\n"
        f"{told}"
    )


def with_known(config: str, known: Path) -> str:
    """The configuration, or where it knows of no gateway the last one that did; one that does is kept."""
    if re.search(r"^[ \t]*use_backend ", config, flags=re.MULTILINE):
        known.write_text(config)
    elif known.exists():
        return known.read_text()
    return config


def write_replies(folder: Path) -> None:
    """The files that ``edged`` names."""
    for status in ERRORS:
        (folder / f"{status}.http").write_bytes(reply(status).encode())


def mend(words: list[str]) -> None:
    """Give the file behind ``-f`` of HAProxy's command line an edge; without one there is nothing to do."""
    if "-f" in words[:-1]:
        path = Path(words[words.index("-f") + 1])
        write_replies(path.parent)
        door, seal = _beside(path, DOOR), _beside(path, SEAL)
        if seal:
            path.chmod(0o600)
        config = with_known(path.read_text(), path.with_name(KNOWN))
        path.write_text(edged(config, str(path.parent), json.loads(door) if door else None, seal.strip()))


def _beside(path: Path, name: str) -> str:
    """What a file says that the head wrote: Serve keeps ``path`` in a folder of its own below the one of the head."""
    found = next((one for one in (path.with_name(name), path.parent.with_name(name)) if one.exists()), None)
    return found.read_text() if found else ""


if __name__ == "__main__":
    mend(sys.argv[1:])
