"""The HTTP surface: OpenAI-compatible routes, search, probes and the chat page, over a Gateway.

Only translation happens here: bytes to a validated request, gateway events to OpenAI's shapes, errors to OpenAI's error
body. FastAPI's own body parsing is not used (it answers 500 to a lone surrogate) and its documentation routes are off.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from cluster.core.errors import PlinthError
from cluster.core.sections.serve import ServeSection
from serve_apps.api.middleware import Limits, note, read_body, record_of, reply, stamp
from serve_apps.api.responses import ReplyShape, embeddings, model_card, search_results
from serve_apps.api.schema import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    SearchRequest,
    parse,
)
from serve_apps.api.streaming import EventStream, JsonReply
from serve_apps.console.page import FILES, page_reply
from serve_apps.errors import ApiError, ClientGoneError, bad_request, model_not_found
from serve_apps.gateway.exchange import Ask, Delta, Done
from serve_apps.gateway.gateway import Gateway
from serve_apps.gateway.protocols import Sampling
from serve_apps.gateway.request_log import CLIENT_GONE

ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/models/{id}",
    "/v1/search",
    "/v1/plinth/examples",
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MetricsSource = Callable[[], Awaitable[str]]


def build_http(gateway: Gateway, section: ServeSection, metrics_source: MetricsSource) -> FastAPI:
    """The ASGI application. ``metrics_source`` returns Prometheus text for all replicas together."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(Limits, section=section, routes=ROUTES, settle=gateway.settle)
    _add_error_handlers(app)
    _add_openai_routes(app, gateway, section)
    _add_other_routes(app, gateway, section, metrics_source)
    return app


def _add_openai_routes(app: FastAPI, gateway: Gateway, section: ServeSection) -> None:
    created = int(time.time())

    async def answered(request: Request, model: type[ChatRequest] | type[CompletionRequest]) -> Response:
        record = record_of(request.scope)
        body: ChatRequest | CompletionRequest = parse(model, await read_body(request, section), section)
        record.stream = bool(body.stream)
        shape = ReplyShape(record.request_id, body.model, chat=isinstance(body, ChatRequest))
        plain = isinstance(body, CompletionRequest)
        events = gateway.answer(Ask(body.model, body.turns, _sampling(body), plain), record)
        if body.stream:
            return EventStream(shape.chunks(events, body.wants_usage), record, section.request_timeout_s)

        async def whole() -> dict[str, Any]:
            parts: list[str] = []
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Done):
                        return shape.whole("".join(parts), event)
                    parts.append(event.text)
            raise AssertionError("an answer ends in Done or raises")

        return JsonReply(whole, record, section.request_timeout_s)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await answered(request, ChatRequest)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await answered(request, CompletionRequest)

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        record = record_of(request.scope)
        body = parse(EmbeddingRequest, await read_body(request, section), section)

        async def whole() -> dict[str, Any]:
            vectors, tokens, plinth = await gateway.embed(body.model, body.texts, record)
            if body.dimensions not in (None, len(vectors[0])):
                raise bad_request(f"{body.model} has {len(vectors[0])} dimensions and cannot be cut", "dimensions")
            return embeddings(vectors, body.model, tokens, body.encoding_format == "base64", plinth)

        return JsonReply(whole, record, section.request_timeout_s)

    @app.get("/v1/models")
    async def models() -> Response:
        await gateway.refresh()
        names = (*gateway.models, gateway.embedding_model)
        return JSONResponse({"object": "list", "data": [model_card(n, created, gateway.facts(n)) for n in names]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        await gateway.refresh()
        names = (*gateway.models, gateway.embedding_model)
        if name not in names:
            raise model_not_found(name, names)
        return JSONResponse(model_card(name, created, gateway.facts(name)))


def _add_other_routes(app: FastAPI, gateway: Gateway, section: ServeSection, metrics_source: MetricsSource) -> None:
    @app.post("/v1/search")
    async def search(request: Request) -> Response:
        record = record_of(request.scope)
        body = parse(SearchRequest, await read_body(request, section), section)

        async def whole() -> dict[str, Any]:
            return search_results(*await gateway.search(body.query, body.k, record))

        return JsonReply(whole, record, section.request_timeout_s)

    @app.get("/v1/plinth/examples")
    async def examples(request: Request) -> Response:
        return JSONResponse(await gateway.examples(record_of(request.scope)))

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> Response:
        return JSONResponse({"status": "ready", **await gateway.ready()})

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(await metrics_source(), media_type=METRICS_TYPE)

    @app.api_route("/", methods=["GET", "HEAD"])
    async def page() -> Response:
        return page_reply("index.html")

    @app.api_route("/console/{name:path}", methods=["GET", "HEAD"])
    async def page_file(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404)
        return page_reply(name)


def _sampling(body: ChatRequest | CompletionRequest) -> Sampling:
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
        record, path = record_of(request.scope), request.url.path[:200]
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


__all__ = ["ROUTES", "Delta", "build_http"]
