"""The HTTP service as an OpenAPI 3.1 document, made from its own table of routes and its request models.

The service serves none: clients have OpenAI's. What replies look like is written down here, closed (no field that is
not named), so that a reply of any other shape is noticed.
"""

from __future__ import annotations

from typing import Any

from cluster.core.identity import SCOPES
from serve_apps.api.openai_http import ROUTES
from serve_apps.api.routes import Route
from tests.serve_apps.service import EMBEDDER, FOUND

Schema = dict[str, Any]

TEXT, COUNT, REAL, TRUTH = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "number"},
    {"type": "boolean"},
)
ANYTHING: Schema = {"type": "object"}


def obj(optional: tuple[str, ...] = (), **fields: Schema) -> Schema:
    """An object of exactly these fields."""
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def some(schema: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": schema, **more}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def word(*values: str) -> Schema:
    return {"enum": list(values)}


def listed(schema: Schema, **more: Schema) -> Schema:
    return obj(object=word("list"), data=some(schema), **more)


ERROR = obj(error=obj(message={"type": "string", "minLength": 1}, type=TEXT, param=or_null(TEXT), code=or_null(TEXT)))
VERDICT = obj(
    stage=word("guard_in", "guard_out", "guard_passages"), action=word("allow", "flag", "redact", "block", "review"),
    rule=TEXT, detail=TEXT, guard=TEXT, version=TEXT, score=REAL, policy=TEXT,
)  # fmt: skip
VERDICTS, TIMINGS = some(VERDICT), {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
COPY = obj(document=TEXT, title=TEXT, source=TEXT)
CITED: dict[str, Schema] = {
    "document": TEXT, "title": TEXT, "source": TEXT, "chunk": TEXT, "span": some(COUNT, minItems=2, maxItems=2),
    "text": TEXT, "score": REAL, "also": some(COPY, maxItems=5),
}  # fmt: skip
ANSWER = obj(
    answer_id={"type": "string", "pattern": "^ans_[0-9a-f]{24}$"}, tier=TEXT, model_version=TEXT, route=ANYTHING,
    citations=some(obj(**CITED), maxItems=5), grounded=TRUTH, reason=TEXT, form=TEXT, searched_for=TEXT,
    closest=some(ANYTHING), not_found=some(TEXT), confidence=or_null(REAL), collection=TEXT, index_version=TEXT,
    index_as_of=TEXT, knowledge_cutoff=TEXT, degraded=TRUTH, external=TRUTH, reader=TEXT, dropped_passages=COUNT,
    cache=word("off", "hit", "miss", "bypass"), verdicts=VERDICTS, timings_ms=TIMINGS, ignored=some(TEXT),
    messages=obj(sent=COUNT, looked_at=COUNT),
)  # fmt: skip
FINISH = word("stop", "length", "content_filter")
USAGE = obj(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
MODEL = obj(id=TEXT, object=word("model"), created=COUNT, owned_by=word("plinth"), plinth=ANYTHING)
COLLECTION = obj(
    id=TEXT, object=word("collection"), created=COUNT, model=TEXT, index_version=TEXT, index_as_of=TEXT,
    documents=COUNT, chunks=or_null(COUNT), threshold=or_null(REAL), default=TRUTH, loaded=TRUTH, forgotten=COUNT,
)  # fmt: skip
EXAMPLES = listed(
    obj(object=word("example"), question=TEXT), plinth=obj(("collection",), collection=TEXT, index_version=TEXT)
)
AMOUNTS = {"requests": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT, "money": REAL}
AUDIT = listed({"type": "object", "required": ["n", "at", "kind"], "properties": {"n": COUNT, "at": TEXT}})
LIMITS = obj(**{n: or_null(REAL) for n in ("requests_per_minute", "tokens_per_minute", "tokens_per_day")},
             money_per_month=or_null(REAL))  # fmt: skip
REVIEW = obj(
    object=word("review"), score=REAL, number=COUNT, times=COUNT, at=TEXT, decided_at=or_null(TEXT),
    **{name: TEXT for name in ("tenant", "collection", "guard", "rule", "version", "policy", "reason", "text", "id",
                               "decision", "by", "note")},
)  # fmt: skip
PASSAGES = obj(
    collection=TEXT, index_version=TEXT, index_as_of=TEXT, searched_for=TEXT, verdicts=VERDICTS, timings_ms=TIMINGS
)


def generated(kind: str, **choice: Schema) -> Schema:
    closed = obj(index={"const": 0}, logprobs={"type": "null"}, finish_reason=FINISH, **choice)
    return obj(id=TEXT, object=word(kind), created=COUNT, model=TEXT, choices=some(closed, minItems=1, maxItems=1),
               usage=USAGE, system_fingerprint={"type": "null"}, plinth=ANSWER)  # fmt: skip


CHAT = generated(
    "chat.completion", message=obj(role=word("assistant"), content=TEXT, refusal={"type": "null"})
)  # fmt: skip
RESPONSE = {
    "type": "object",
    "required": ["id", "object", "created_at", "status", "error", "incomplete_details", "model", "output", "usage",
                 "metadata", "parallel_tool_calls", "tool_choice", "tools", "plinth"],
    "properties": {"object": word("response"), "status": word("completed", "incomplete"), "error": {"type": "null"},
                   "output": some(ANYTHING, minItems=1, maxItems=1), "plinth": ANSWER},
}  # fmt: skip
OK: dict[str, Schema] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": generated("text_completion", text=TEXT),
    "/v1/responses": RESPONSE,
    "/v1/embeddings": listed(
        obj(object=word("embedding"), index=COUNT, embedding={"anyOf": [some(REAL, minItems=1), TEXT]}),
        model=TEXT, usage=obj(prompt_tokens=COUNT, total_tokens=COUNT),
        plinth=obj(verdicts=VERDICTS, timings_ms=TIMINGS),
    ),
    "/v1/models": listed(MODEL),
    "/v1/models/{id}": MODEL,
    "/v1/search": listed(obj(object=word("search.result"), **CITED), plinth=PASSAGES),
    "/v1/plinth/examples": EXAMPLES,
    "/v1/plinth/examples/{collection}": EXAMPLES,
    "/v1/collections": listed(COLLECTION),
    "/v1/collections/{id}": COLLECTION,
    "/v1/usage": listed(
        obj(object=word("usage"), day=TEXT, key_id=TEXT, tenant=TEXT, tier=TEXT, **AMOUNTS), total=obj(**AMOUNTS)
    ),
    "/v1/plinth/me": obj(
        keys=TRUTH, key_id=TEXT, tenant=TEXT, groups=some(TEXT), scopes=some(word(*SCOPES)), models=some(TEXT),
        collections=some(TEXT), limits=LIMITS, streams=or_null(COUNT),
    ),
    "/v1/plinth/audit": AUDIT,
    "/v1/plinth/audit/{id}": AUDIT,
    "/v1/plinth/session": obj(signed_in={"const": True}),
    "/v1/plinth/session/end": obj(signed_in={"const": False}),
    "/v1/feedback": obj(
        object=word("feedback"), answer_id=TEXT, rating=word("up", "down", "none"), consent=TRUTH,
    ),
    "/v1/review": listed(REVIEW, has_more=TRUTH, last=COUNT),
    "/v1/review/{id}": REVIEW,
    "/healthz": obj(status={"const": "ok"}),
    "/readyz": {
        "type": "object", "required": ["status"], "properties": {"status": {"const": "ready"}},
    },
    "/v1/plinth/ops": obj(
        object=word("plinth.ops"), at=REAL, supervisor=or_null(ANYTHING), deployments=some(ANYTHING, maxItems=50),
        scale_events=or_null(some(ANYTHING, maxItems=50)), queue=ANYTHING, tiers=or_null(some(ANYTHING)),
        collections=or_null(some(ANYTHING)), left_out=COUNT, requests=or_null(ANYTHING),
    ),
}  # fmt: skip
STREAMS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
OTHER_TYPES = {
    "/metrics": "text/plain", "/": "text/html", "/ops": "text/html", "/review": "text/html", "/console/{name}": "*/*",
}  # fmt: skip
DAY: Schema = {"type": "string", "format": "date"}
PARAMETERS: dict[str, Schema] = {
    "/v1/usage": {"since": DAY, "until": DAY, "tenant": {"type": "string", "maxLength": 64}},
    "/v1/review": {
        "state": word("open", "decided", "all"), "after": COUNT | {"maximum": 2**31 - 1},
        "limit": COUNT | {"minimum": 1, "maximum": 200},
    },
}  # fmt: skip
HEADERS: dict[str, Schema] = {
    "x-request-id": {"type": "string", "maxLength": 128},
    "cache-control": word("no-cache", "no-store", "max-age=0"),
    "traceparent": word("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
}
# Names that are there in the service of ``tests.serve_apps.whole``; a document of a service of one's own has its own.
MODELS = word("auto", "quote", "auto@main", EMBEDDER)
NAMED: dict[str, Schema] = {
    "/v1/models/{id}": MODELS,
    "/v1/plinth/examples/{collection}": word("main", "acme-docs"),
    "/v1/collections/{id}": word("main", "acme-docs"),
    "/v1/plinth/audit/{id}": {"type": "string", "pattern": "^req_[0-9a-f]{24}$"},
    "/v1/review/{id}": word(FOUND.named.id),
    "/console/{name}": word("page.js", "style.css", "signin.js"),
}
# What each route may refuse with: 429 where work is budgeted, 413 where a body is read.
ALWAYS, WITH_BODY, WITH_WORK = (400, 401, 403, 404, 405, 431, 503, 504), (408, 413), (429,)


def operation(route: Route, components: dict[str, Schema]) -> Schema:
    """One route as OpenAPI has it; the models of its body are added to ``components``."""
    works = route.scope in ("chat", "search") or route.label in (
        "/v1/plinth/examples",
        "/v1/plinth/examples/{collection}",
    )
    statuses = (*ALWAYS, *(WITH_BODY if route.body else ()), *(WITH_WORK if works else ()))
    failed = {"description": "refused", "content": {"application/json": {"schema": ERROR}}}
    if route.label in OTHER_TYPES:
        content: dict[str, Schema] = {OTHER_TYPES[route.label]: {"schema": {}}}
    else:
        content = {"application/json": {"schema": OK[route.label]}}
    if route.label in STREAMS:
        content["text/event-stream"] = {"schema": {}}
    responses = {"200": {"description": "answered", "content": content}, **{str(code): failed for code in statuses}}
    if route.page:
        responses["401"] = {"description": "the page where one signs in", "content": {"text/html": {"schema": {}}}}
    made: Schema = {"operationId": route.label, "responses": responses, "parameters": []}
    if route.body is not None:
        schema = route.body.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(schema.pop("$defs", {}))
        components[route.body.__name__] = schema
        body = {"schema": {"$ref": f"#/components/schemas/{route.body.__name__}"}}
        made["requestBody"] = {"required": True, "content": {"application/json": body}}
        if "model" in schema["properties"]:
            components[route.body.__name__]["properties"]["model"] = MODELS
    if route.label in NAMED:
        name = route.label.partition("{")[2].rstrip("}")
        made["parameters"].append({"name": name, "in": "path", "required": True, "schema": NAMED[route.label]})
    for place, those in (("query", PARAMETERS.get(route.label, {})), ("header", HEADERS)):
        made["parameters"] += [{"name": name, "in": place, "schema": schema} for name, schema in those.items()]
    return made


def document() -> Schema:
    """All of it."""
    components: dict[str, Schema] = {}
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths[route.label] = {route.methods[0].lower(): operation(route, components)}  # HEAD is GET without a body
    return {
        "openapi": "3.1.0",
        "info": {"title": "Plinth", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }
