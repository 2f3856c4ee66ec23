"""The HTTP surface: OpenAI-compatible routes, search, probes and the pages, over a Gateway.

Only translation happens here: bytes to a validated request, gateway events to OpenAI's shapes, errors to OpenAI's error
body. Adding a route is a handler and a line in ``ROUTES``. FastAPI's own body parsing is not used (it answers 500 to a
lone surrogate) and its documentation routes are off.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from cluster.core.errors import PlinthError
from cluster.core.identity import NOBODY
from cluster.core.sections.serve import ServeSection
from cluster.core.sections.tiers import AUTO
from serve_apps.api.history import newest
from serve_apps.api.judging import FeedbackRequest, ReviewRequest, page_of
from serve_apps.api.middleware import Limits, note, read_body, record_of, reply, stamp
from serve_apps.api.notes import Notes, noted
from serve_apps.api.response_events import ResponseShape
from serve_apps.api.response_request import ResponseRequest
from serve_apps.api.responses import (
    ReplyShape,
    collection_card,
    embeddings,
    model_card,
    search_results,
    usage_report,
)
from serve_apps.api.routes import ANY_KEY, GET, POST, PUBLIC, Call, Route, RouteTable
from serve_apps.api.schema import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    SearchRequest,
    SessionRequest,
    parse,
)
from serve_apps.api.streaming import EventStream, JsonReply, Watched
from serve_apps.console.page import FILES, page_reply
from serve_apps.errors import (
    ApiError,
    ClientGoneError,
    bad_request,
    collection_not_found,
    model_not_found,
    shown,
)
from serve_apps.gateway.doorkeeper import Doorkeeper
from serve_apps.gateway.exchange import Ask, Done, Event
from serve_apps.gateway.gateway import Gateway
from serve_apps.gateway.protocols import Sampling
from serve_apps.gateway.request_log import CLIENT_GONE, RequestRecord

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MetricsSource = Callable[[], Awaitable[str]]
OpsSource = Callable[[], Awaitable[dict[str, Any]]]


class HttpService:
    """The handlers of all routes, over a gateway.

    Args:
        metrics_source: returns Prometheus text for all replicas together.
        ops_source: returns what goes on (``metrics.operations``).
        doorkeeper: signs browsers in.
    """

    def __init__(
        self,
        gateway: Gateway,
        section: ServeSection,
        metrics_source: MetricsSource,
        ops_source: OpsSource,
        doorkeeper: Doorkeeper,
    ) -> None:
        self._doorkeeper = doorkeeper
        self.gateway = self._gateway = gateway
        self._timeout_s = section.request_timeout_s
        self._metrics_source, self._ops_source = metrics_source, ops_source
        self._most_turns, self._most_chars = section.max_messages, section.max_prompt_chars
        self._created = int(time.time())

    async def answer(self, call: Call) -> Response:
        """Chat and legacy completions, whole or as a stream."""
        body, record = call.body, call.record
        plain = isinstance(body, CompletionRequest)
        shape = ReplyShape(record.request_id, body.model, chat=not plain)
        events = await self._answered(call, plain, keep=plain or body.store is not False)
        if body.stream:
            return EventStream(shape.chunks(events, body.wants_usage), record, self._timeout_s)
        return self._whole(shape.whole, events, record)

    async def respond(self, call: Call) -> Response:
        """The same in the shape of OpenAI's newer API."""
        body, record = call.body, call.record
        shape = ResponseShape(record.request_id, body)
        events = await self._answered(call, plain=False, keep=body.store is not False)
        if body.stream:
            return EventStream(shape.events(events), record, self._timeout_s, shape)
        return self._whole(shape.whole, events, record)

    async def _answered(self, call: Call, plain: bool, keep: bool) -> AsyncGenerator[Event, None]:
        body, record = call.body, call.record
        record.stream = bool(body.stream)
        await self._gateway.collections.choose(body.collection, record, body.collection_param)
        turns = newest(body.turns, self._most_turns, self._most_chars)
        ask = Ask(body.tier, turns, _sampling(body), plain, body.user or "", keep)
        notes = Notes(body.without_effect, body.sampling_options, len(body.turns), len(turns))
        continues = plain and body.tier != AUTO
        return noted(self._gateway.answer(ask, record), notes, self._gateway.tiers, continues, record)

    def _whole(
        self, shaped: Callable[[str, Done], dict[str, Any]], events: AsyncGenerator[Event, None], record: RequestRecord
    ) -> Response:
        async def whole() -> dict[str, Any]:
            parts: list[str] = []
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Done):
                        return shaped("".join(parts), event)
                    parts.append(event.text)
            raise AssertionError("an answer ends in Done or raises")

        return JsonReply(whole, record, self._timeout_s)

    async def embed(self, call: Call) -> Response:
        """Vectors of texts."""
        body = call.body

        async def whole() -> bytes:
            vectors, tokens, plinth = await self._gateway.lookups.embed(body.model, body.texts, call.record)
            if body.dimensions not in (None, len(vectors[0])):
                raise bad_request(f"{body.model} has {len(vectors[0])} dimensions and cannot be cut", "dimensions")
            return await embeddings(vectors, body.model, tokens, body.encoding_format == "base64", plinth)

        return JsonReply(whole, call.record, self._timeout_s)

    async def search(self, call: Call) -> Response:
        """Passages for a query, without an answer."""
        await self._gateway.collections.choose(call.body.collection, call.record, call.body.collection_param)

        async def whole() -> dict[str, Any]:
            return search_results(*await self._gateway.lookups.search(call.body.query, call.body.k, call.record))

        return JsonReply(whole, call.record, self._timeout_s)

    async def examples(self, call: Call) -> Response:
        """A few questions to start with, of the default collection or of the one in the path."""
        await self._gateway.collections.choose(call.path.get("collection", ""), call.record, "collection")
        return JSONResponse(await self._gateway.lookups.examples(call.record))

    async def models(self, call: Call) -> Response:
        """The names that may be asked for."""
        found = await self._gateway.models(call.record.principal)
        cards = [model_card(name, self._created, facts) for name, facts in found.items()]
        return JSONResponse({"object": "list", "data": cards})

    async def model(self, call: Call) -> Response:
        """One of those names."""
        found, name = await self._gateway.models(call.record.principal), call.path["id"]
        if name not in found:
            raise model_not_found(name, tuple(found))
        return JSONResponse(model_card(name, self._created, found[name]))

    async def collections(self, call: Call) -> Response:
        """What can be asked: the collections, and what each is."""
        cards = [collection_card(card) for card in await self._gateway.collections.seen_by(call.record.principal)]
        return JSONResponse({"object": "list", "data": cards})

    async def collection(self, call: Call) -> Response:
        """One of them."""
        cards, name = await self._gateway.collections.seen_by(call.record.principal), call.path["id"]
        found = next((card for card in cards if card["collection"] == name), None)
        if found is None:
            raise collection_not_found(name, [card["collection"] for card in cards], "collection")
        return JSONResponse(collection_card(found))

    async def audit(self, call: Call) -> Response:
        """The newest records of the audit log, or those of one request."""
        rows = await self._gateway.read_audit(call.record, call.path.get("id", ""))
        return JSONResponse({"object": "list", "data": rows})

    async def feedback(self, call: Call) -> Response:
        """Keep what a key says of an answer of its tenant."""
        return JSONResponse(await self._gateway.take_feedback(call.body.said, call.record))

    async def reviews(self, call: Call) -> Response:
        """A page of what is to be reviewed, or was."""
        return JSONResponse(await self._gateway.review.page(call.record, *page_of(call.query)))

    async def decide(self, call: Call) -> Response:
        """Decide about one of them."""
        body, item = call.body, call.path["id"]
        return JSONResponse(await self._gateway.review.decide(call.record, item, body.decision, body.note or ""))

    async def me(self, call: Call) -> Response:
        """Whom the key stands for."""
        return JSONResponse({"keys": not self._doorkeeper.open, **call.record.principal.to_json()})

    async def sign_in(self, call: Call) -> Response:
        """Remember a browser, for a one-time code or a key."""
        session = await self._doorkeeper.sign_in(
            call.body.code or "", call.body.key or "", self._doorkeeper.address(call.headers)
        )
        response = JSONResponse({"signed_in": True})
        self._set(response, session, int(self._doorkeeper.session_s), call.secure)
        return response

    async def sign_out(self, call: Call) -> Response:
        """Forget it again, and end its session."""
        await self._doorkeeper.sign_out(call.headers)
        response = JSONResponse({"signed_in": False})
        self._set(response, "", 0, call.secure)
        return response

    def _set(self, response: Response, session: str, lasts_s: int, secure: bool) -> None:
        name = self._doorkeeper.cookie
        response.set_cookie(name, session, max_age=lasts_s, httponly=True, samesite="strict", secure=secure)

    async def usage(self, call: Call) -> Response:
        """What the key used by day and tier; a tenant's keys for who may see them."""
        if wrong := sorted(set(call.query) - {"since", "until", "tenant"}):
            raise bad_request(f"there is no parameter {shown(wrong[0])}; there are since, until and tenant")
        asked = (call.query.get(name, "") for name in ("since", "until", "tenant"))
        books = self._gateway.budget
        return JSONResponse(usage_report(await books.usage(call.record, *asked) if books else []))

    async def healthz(self, call: Call) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, call: Call) -> Response:
        """Index and guard answer; which index that is, is told to whoever has a key."""
        facts, who = await self._gateway.ready(call.record.principal), call.record.principal
        return JSONResponse({"status": "ready", **(facts if who is not NOBODY else {})})

    async def metrics(self, call: Call) -> Response:
        """Prometheus text."""
        return PlainTextResponse(await self._metrics_source(), media_type=METRICS_TYPE)

    async def ops(self, call: Call) -> Response:
        """What goes on: replicas, queue, latencies, tiers, collections, scale events."""
        return JSONResponse(await self._ops_source())

    async def ops_page(self, call: Call) -> Response:
        """The page that shows it."""
        return page_reply("ops.html")

    async def review_page(self, call: Call) -> Response:
        """The page on which people decide; it holds nothing itself, and says so to whom the queue is not shown."""
        return page_reply("review.html")

    async def page(self, call: Call) -> Response:
        """The chat page, or one of the pages' files."""
        name = call.path.get("name", "index.html")
        if name not in FILES:
            raise HTTPException(404)
        return page_reply(name)


ROUTES = (
    Route("/v1/chat/completions", POST, "chat", HttpService.answer, ChatRequest, waits=True),
    Route("/v1/completions", POST, "chat", HttpService.answer, CompletionRequest, waits=True),
    Route("/v1/responses", POST, "chat", HttpService.respond, ResponseRequest, waits=True),
    Route("/v1/embeddings", POST, "search", HttpService.embed, EmbeddingRequest, waits=True),
    Route("/v1/models", GET, ANY_KEY, HttpService.models),
    Route("/v1/models/{id:path}", GET, ANY_KEY, HttpService.model),
    Route("/v1/search", POST, "search", HttpService.search, SearchRequest, waits=True),
    Route("/v1/plinth/examples", GET, ANY_KEY, HttpService.examples),
    Route("/v1/plinth/examples/{collection}", GET, ANY_KEY, HttpService.examples),
    Route("/v1/collections", GET, ANY_KEY, HttpService.collections),
    Route("/v1/collections/{id}", GET, ANY_KEY, HttpService.collection),
    Route("/v1/feedback", POST, "feedback", HttpService.feedback, FeedbackRequest),
    Route("/v1/review", GET, "admin", HttpService.reviews),
    Route("/v1/review/{id}", POST, "admin", HttpService.decide, ReviewRequest),
    Route("/v1/usage", GET, ANY_KEY, HttpService.usage),
    Route("/v1/plinth/me", GET, ANY_KEY, HttpService.me),
    Route("/v1/plinth/audit", GET, "audit", HttpService.audit),
    Route("/v1/plinth/audit/{id}", GET, "audit", HttpService.audit),
    Route("/v1/plinth/session", POST, PUBLIC, HttpService.sign_in, SessionRequest),
    Route("/v1/plinth/session/end", POST, PUBLIC, HttpService.sign_out),
    Route("/healthz", GET, PUBLIC, HttpService.healthz, logged=False, probe=True),
    Route("/readyz", GET, PUBLIC, HttpService.readyz, logged=False, probe=True, tells_more=True),
    Route("/metrics", GET, "metrics", HttpService.metrics, logged=False),
    Route("/", GET, "chat", HttpService.page, logged=False, page=True),
    Route("/ops", GET, "metrics", HttpService.ops_page, logged=False, page=True),
    Route("/review", GET, ANY_KEY, HttpService.review_page, logged=False, page=True),
    Route("/v1/plinth/ops", GET, "metrics", HttpService.ops, logged=False),
    Route("/console/{name:path}", GET, PUBLIC, HttpService.page, logged=False),
)


def build_http(
    gateway: Gateway,
    section: ServeSection,
    metrics_source: MetricsSource,
    ops_source: OpsSource,
    doorkeeper: Doorkeeper,
) -> FastAPI:
    """The ASGI application over a gateway; the rest as ``HttpService`` takes it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(
        Limits, section=section, routes=RouteTable(ROUTES), settle=gateway.settle, doorkeeper=doorkeeper,
        admission=gateway.admission,
    )  # fmt: skip
    _add_error_handlers(app)
    service = HttpService(gateway, section, metrics_source, ops_source, doorkeeper)
    for route in ROUTES:
        app.add_api_route(route.path, _endpoint(route, service, section), methods=list(route.methods))
    return app


def _endpoint(route: Route, service: HttpService, section: ServeSection) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if record_of(request.scope).route != route.label:  # the router takes a line end behind a path, the table none
            raise HTTPException(404)
        body = None
        if route.body is not None:
            body = parse(route.body, await read_body(request, section), section)
        record, secure = record_of(request.scope), request.headers.get("x-forwarded-proto") == "https"
        if route.waits:  # who sends a body slowly keeps no place from others
            record.place = service.gateway.admission.come(record.principal.key_id)
        if route.logged:
            service.gateway.begin(record)
        call = Call(record, body, request.path_params, request.query_params, secure, request.headers)
        response = await route.handler(service, call)
        if not isinstance(response, Watched):  # those wait right before their first byte
            await record.admitted()
        return response

    return endpoint


def _sampling(body: ChatRequest | CompletionRequest | ResponseRequest) -> Sampling:
    return Sampling(
        max_tokens=body.limit,
        stops=body.stops,
        temperature=body.temperature,
        top_p=body.top_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        seed=body.seed,
    )


def _add_error_handlers(app: FastAPI) -> None:
    async def known(request: Request, error: Exception) -> Response:
        return reply(note(error, record_of(request.scope)))

    async def unhandled(request: Request, error: Exception) -> Response:
        # Runs outside every middleware: put on the id and the headers here.
        record = record_of(request.scope)
        response = reply(note(error, record))
        message: dict[str, Any] = {"type": "http.response.start", "headers": response.raw_headers}
        stamp(message, record)
        response.raw_headers = message["headers"]
        return response

    async def no_route(request: Request, error: Exception) -> Response:
        record, path = record_of(request.scope), request.url.path[:80]
        status = error.status_code if isinstance(error, HTTPException) else 404
        headers = dict(getattr(error, "headers", None) or {})
        if status == 405:
            message, code = f"{path} does not take {record.method}", "method_not_allowed"
        else:
            message, code = f"there is nothing at {path}", "not_found"
        record.code = code
        return reply(ApiError(message, status=status, code=code, headers=headers))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)  # nobody reads it; the log shows it

    for family in (PlinthError, ConnectionError, TimeoutError):
        app.add_exception_handler(family, known)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(ClientGoneError, gone)
    app.add_exception_handler(Exception, unhandled)
