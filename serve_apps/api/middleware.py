"""What every request passes before any route sees it, and every reply carries: the outermost middleware.

The platform's edge sets no limits of its own, so they live here: header size, host names (DNS rebinding), what pages of
other sites ask, whose key it is, and a body that is counted as it arrives. Every reply gets a request id made by the
server and security headers; every request ends in ``settle``, whatever broke.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.core.errors import PlinthError
from cluster.core.identity import NOBODY
from cluster.core.sections.serve import ServeSection
from cluster.core.telemetry import new_request_id
from cluster.core.trace import CURRENT, Trace
from cluster.haproxy_edge import ROOM, SHARE
from serve_apps.api.routes import ANY_KEY, Route, RouteTable
from serve_apps.api.strict_json import read_json
from serve_apps.console.page import sign_in_page
from serve_apps.errors import (
    ApiError,
    ClientGoneError,
    UnavailableError,
    bad_request,
    shown,
    to_api_error,
    too_large,
)
from serve_apps.gateway.admission import Admission
from serve_apps.gateway.doorkeeper import Doorkeeper, admitted
from serve_apps.gateway.request_log import CLIENT_GONE, OFF, RequestRecord

RECORD = "plinth.record"  # key in the ASGI scope
BODY_READ = "plinth.body_read"  # set once the last piece of the body came in
DRAIN_BYTES, DRAIN_S = 8_000_000, 2.0
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]{1,5})?")
ANEW = frozenset({"no-store", "no-cache"})  # of cache-control: who sends it wants no kept answer
READ_ONLY = frozenset({"GET", "HEAD"})
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def record_of(scope: Scope) -> RequestRecord:
    """The record this middleware put into the scope."""
    record: RequestRecord = scope[RECORD]
    return record


class Limits:
    """ASGI middleware; see the module.

    Args:
        routes: the paths that exist; the record of a request gets the route's label and whether it is logged.
        settle: called with the record once the reply has ended or broken.
        doorkeeper: recognises who asks.
        admission: knows how many wait.
    """

    def __init__(
        self,
        app: ASGIApp,
        section: ServeSection,
        routes: RouteTable,
        settle: Callable[[RequestRecord], None],
        doorkeeper: Doorkeeper,
        admission: Admission,
    ) -> None:
        self._app, self._section, self._routes, self._settle = app, section, routes, settle
        self._doorkeeper, self._admission, self._here = doorkeeper, admission, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
                return
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        route, path = self._routes.find(scope["path"])
        if path != scope["path"]:
            scope = {**scope, "path": path}
        parents = headers.getlist("traceparent")  # one that came twice is none
        trace = Trace.taken_over(parents[0] if len(parents) == 1 else "")
        CURRENT.set(trace)
        record = RequestRecord(new_request_id(), method=scope["method"][:16], trace=trace, principal=NOBODY)
        if route is not None:
            record.route, record.logged = route.label, route.logged
        record.anew = _wants_anew(headers)
        record.client_request_id = (headers.get("x-request-id") or "")[:128] or None
        scope[RECORD] = record

        guest = self._guest(headers)

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                stamp(message, record)
                self._tell_edge(message)
                if guest:
                    let_read(message, guest)
            await send(message)

        self._here += 1
        try:
            refusal = self._refusal(scope, headers, route)
            if refusal is None and guest and scope["method"] == "OPTIONS":
                await _preflight()(scope, receive, stamped)
                return
            if refusal is None:
                refusal = await self._unknown(headers, route, record, browser=not guest)
            works = refusal is None and route is not None and route.logged
            with self._doorkeeper.counted(record.principal if works else NOBODY) as crowded:
                refusal = refusal or crowded or self._turned_away(route, record)
                if refusal is not None:
                    record.code = refusal.extras.get("code")
                    page = route is not None and route.page and refusal.status == 401
                    await (sign_in_page(refusal.headers) if page else reply(refusal))(scope, receive, stamped)
                else:
                    await self._app(scope, receive, stamped)
        finally:
            self._here -= 1
            failure = sys.exception()
            if isinstance(failure, asyncio.CancelledError):
                record.status = CLIENT_GONE
            elif failure is not None:
                note(failure, record)
            record.status = record.status or 500
            if record.place is not None:
                record.place.leave(served=False)  # who had his turn has left before
            self._settle(record)

    def _tell_edge(self, message: Message) -> None:
        """Say how many may be here at once, and how many of one key; the edge takes it off."""
        headers, share = MutableHeaders(scope=message), self._admission.share
        headers[ROOM] = str(self._here + self._admission.room)
        # The edge counts those too whose turn came, and does not know of which key they are.
        headers[SHARE] = str(share and share + self._here - self._admission.inside)

    def _guest(self, headers: Headers) -> str:
        """The other site that a page of asks, where it is one that may; else empty."""
        origin = headers.get("origin", "")
        return origin if origin in self._section.allowed_origins else ""

    async def _unknown(
        self, headers: Headers, route: Route | None, record: RequestRecord, browser: bool
    ) -> ApiError | None:
        """Why whoever asks may not, or None. What is at no route of ours is nobody's without a key either."""
        scope = ANY_KEY if route is None else route.scope
        open_to_all = scope is None
        if open_to_all and (route is None or not route.tells_more):
            return None
        nobody = open_to_all or (route is not None and route.page)
        try:
            record.principal = await self._doorkeeper.recognise(headers, browser, nobody)
        except PlinthError as error:
            refusal = note(error, record)
            record.logged = record.logged and refusal.status != 429  # a flood is counted, and written down nowhere
            return None if open_to_all else refusal
        return admitted(record.principal, scope)

    def _turned_away(self, route: Route | None, record: RequestRecord) -> ApiError | None:
        """Why a request that would have to wait may not, or None; before a byte of its body is read."""
        if route is None or not route.waits:
            return None
        try:
            self._admission.ask(record.principal.key_id)
        except UnavailableError as error:
            record.turned_away = True
            return to_api_error(error)
        return None

    def _refusal(self, scope: Scope, headers: Headers, route: Route | None) -> ApiError | None:
        """Why a request gets no further, whoever sends it, or None. Probes may come without a host name."""
        size = sum(len(name) + len(value) + 4 for name, value in scope["headers"]) + len(scope.get("raw_path") or b"")
        if size > self._section.max_header_bytes:
            limit = self._section.max_header_bytes
            return ApiError(
                f"the request's headers are larger than {limit} bytes", status=431, code="headers_too_large"
            )
        host = headers.get("host", "")
        if not self._allowed(host) and not (not host and route is not None and route.probe):
            message = f"this service does not answer to the host name {shown(host)}"
            return ApiError(message, status=403, kind="permission", code="host_not_allowed")
        visit = route is not None and route.page and scope["method"] in READ_ONLY
        asks = route is None or route.scope is not None or route.probe  # signing in is for this site's own pages
        if not visit and not (asks and self._guest(headers)) and _cross_site(headers, host):
            message = "requests from pages of other sites are not accepted"
            return ApiError(message, status=403, kind="permission", code="cross_site_request")
        return None

    def _allowed(self, host: str) -> bool:
        return (found := _HOST.fullmatch(host)) is not None and found[1].lower() in self._section.allowed_hosts


def _wants_anew(headers: Headers) -> bool:
    said = ",".join(headers.getlist("cache-control")).lower().split(",")
    return not ANEW.isdisjoint(directive.strip() for directive in said)


def _cross_site(headers: Headers, host: str) -> bool:
    """A browser says where a request comes from; other clients send neither header."""
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    return origin is not None and origin.lower() not in {f"http://{host.lower()}", f"https://{host.lower()}"}


def stamp(message: Message, record: RequestRecord) -> None:
    """Put the request id and the security headers on a reply (a route's own policy stays)."""
    headers = MutableHeaders(scope=message)
    headers["x-request-id"] = record.request_id
    headers["traceresponse"] = record.trace.header
    if record.degraded:
        headers["x-plinth-degraded"] = record.degraded
    headers.setdefault("cache-control", "no-store")
    if record.cache != OFF:
        headers["x-plinth-cache"] = record.cache
    for name, value in record.rate_limits.items():
        headers[name] = value
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


def let_read(message: Message, origin: str) -> None:
    """Put on a reply that pages of this origin may read it; they send a key, never a session."""
    headers = MutableHeaders(scope=message)
    headers["access-control-allow-origin"] = origin
    headers["access-control-expose-headers"] = "x-request-id, retry-after, x-plinth-cache, x-plinth-degraded"
    headers["cross-origin-resource-policy"] = "cross-origin"
    headers.add_vary_header("origin")


def _preflight() -> Response:
    return Response(
        status_code=204,
        headers={
            "access-control-allow-methods": "GET, HEAD, POST",
            "access-control-allow-headers": "authorization, content-type, x-request-id, cache-control, traceparent",
            "access-control-max-age": "600",
        },
    )


class _DrainingReply(JSONResponse):
    """Answers at once, then reads on for a while: a client that is still sending would lose the reply to a reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while drained < DRAIN_BYTES and not scope.get(BODY_READ):
                    message = await receive()
                    drained += len(message.get("body", b""))
                    scope[BODY_READ] = not message.get("more_body")
        except TimeoutError:
            drained = DRAIN_BYTES
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def reply(error: ApiError) -> JSONResponse:
    """An error as a reply in OpenAI's shape."""
    kind = _DrainingReply if error.status in {408, 413} else JSONResponse
    return kind(error.body(), status_code=error.status, headers=error.headers)


async def read_body(request: Request, section: ServeSection) -> dict[str, Any]:
    """The request's JSON object, refused while it is still arriving when it is too large.

    Raises:
        ApiError: 413, 408, or 400 with what is wrong.
        ClientGoneError: the client left before the end of the body.
    """
    limit = section.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:12]) > limit:
        raise too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(section.body_timeout_s):
            while not request.scope.get(BODY_READ):
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += message.get("body", b"")
                request.scope[BODY_READ] = not message.get("more_body")
                if len(body) > limit:
                    raise too_large(limit)
    except TimeoutError:
        late = f"the request body did not arrive within {section.body_timeout_s:g} s"
        raise ApiError(late, status=408, code="timeout", headers={"connection": "close"}) from None
    content_type = request.headers.get("content-type", "application/json")
    kind, _, parameters = content_type.partition(";")
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if kind.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise bad_request(f"send content-type application/json, not {shown(content_type)}")
    return read_json(bytes(body))


def note(error: BaseException, record: RequestRecord) -> ApiError:
    """Turn an error into what the client gets, and keep for the log what it really was."""
    shape = to_api_error(error)
    record.code, record.unrecognised = shape.extras.get("code"), shape.extras.get("why", "")
    if shape.status >= 500:
        cause = error.__cause__
        record.error = f"{type(error).__name__}: {error}" + (
            f" (from {type(cause).__name__}: {cause})" if cause else ""
        )
    return shape
