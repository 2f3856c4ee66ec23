"""Request bodies: strict models of the OpenAI routes and of search.

Unknown fields are refused (a field like ``api_base`` must never reach anything), types are not coerced, and a
documented OpenAI option that would change the result but is not offered here is refused by name, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.core.sections.serve import ServeSection
from serve_apps.api.history import REPLAYED, Turns, last_question, text_only
from serve_apps.api.options import (
    MESSAGE_NOT_OFFERED,
    NOT_OFFERED,
    SAMPLING,
    WHY,
    WITHOUT_EFFECT,
    refuse_token_ids,
    without_off_values,
)
from serve_apps.errors import ApiError, bad_request, context_too_long, shown

MAX_TOKENS_LIMIT = 131_072
MAX_EMBEDDING_INPUTS = 2048  # as OpenAI allows
MAX_SEARCH_RESULTS = 50
MAX_TOOLS = 128  # as OpenAI allows
# Of a whole body, so that none takes seconds to be refused: objects and lists in it, and fields of one object.
MAX_PARTS, MAX_FIELDS = 65_536, 1024

Word = Annotated[str, Field(min_length=1, max_length=256)]
Stop = Annotated[str, Field(min_length=1, max_length=100)]


class Body(BaseModel):
    """What request bodies have in common: strict, frozen, unknown fields refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def prepared(cls, body: dict[str, Any]) -> dict[str, Any]:
        """A client's object as it is validated: without what means nothing, refused by name what is not offered.

        Raises:
            ApiError: 400, an option has a value that would change the result and is not offered.
        """
        return without_off_values(body, NOT_OFFERED, "", WHY)

    @property
    def asked(self) -> tuple[str, list[str]]:
        """The field that holds what is asked, and its texts: none may be empty, or longer than is accepted.

        Raises:
            ApiError: 400, nothing is asked.
        """
        return "", []


class TextPart(Body):
    """A piece of a message's content; pieces of other types (images, audio) are refused."""

    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None  # of other vendors' APIs; without effect


class Message(Body):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True)]
    name: Word | None = None

    @property
    def text(self) -> str:
        """The content as one string; parts are joined by line ends."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(Body):
    """What a client may ask of a stream; obfuscation can only be declined."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class PlinthOptions(Body):
    """What a request may say beyond OpenAI's fields: which collection it asks (none: the default one)."""

    collection: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Asking(Body):
    """A body that asks a collection: by ``plinth.collection``, or by a model's name with ``@COLLECTION``."""

    plinth: PlinthOptions | None = None

    @property
    def named(self) -> tuple[str, str]:
        """What stands before and after the first ``@`` of the model's name; an ``@`` with nothing behind it is none."""
        model = str(getattr(self, "model", ""))
        tier, _, collection = model.partition("@")
        return (tier, collection) if collection else (model, "")

    @property
    def tier(self) -> str:
        """The model that is asked for, without a collection."""
        return self.named[0]

    @property
    def collection(self) -> str:
        """The collection that is asked; empty for the default one."""
        return (self.plinth and self.plinth.collection) or self.named[1]

    @property
    def collection_param(self) -> str:
        """The field that names it."""
        return "plinth.collection" if self.plinth and self.plinth.collection else "model"


class _Generation(Asking):
    """What chat and completions share."""

    model: Word
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4, fail_fast=True)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_LIMIT)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: int | None = None
    user: Annotated[str, Field(max_length=256)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that were sent and shape no answer, whichever tier gives it."""
        return tuple(name for name in WITHOUT_EFFECT if getattr(self, name, None) is not None)

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """Options of sampling that were sent."""
        return tuple(name for name in SAMPLING if getattr(self, name) is not None)


class ChatRequest(_Generation):
    """``POST /v1/chat/completions``. What of it is without effect is in ``WITHOUT_EFFECT``."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_LIMIT)] | None = None
    metadata: dict[str, str] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    functions: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    reasoning_effort: Word | None = None
    verbosity: Word | None = None
    service_tier: Word | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Word | None = None
    safety_identifier: Annotated[str, Field(max_length=256)] | None = None

    @classmethod
    def prepared(cls, body: dict[str, Any]) -> dict[str, Any]:
        """See ``Body``; of messages that are replayed the text is kept."""
        body = without_off_values(body, NOT_OFFERED, "", WHY)
        messages = body.get("messages")
        if isinstance(messages, list):
            body["messages"] = [_prepared(item, f"messages[{place}].") for place, item in enumerate(messages)]
        return body

    @property
    def turns(self) -> Turns:
        """(role, text) of every message, in their order."""
        return tuple((message.role, message.text) for message in self.messages)

    @property
    def asked(self) -> tuple[str, list[str]]:
        """The last question."""
        return "messages", [last_text(self.turns, "messages")]

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer; the newer of the two fields wins. None: the client sets no limit."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(_Generation):
    """``POST /v1/completions``: one prompt of text."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1, fail_fast=True)]

    @property
    def turns(self) -> Turns:
        """The prompt as the only turn of a user, so that it takes the same path as a chat."""
        return (("user", self.prompt if isinstance(self.prompt, str) else self.prompt[0]),)

    @property
    def asked(self) -> tuple[str, list[str]]:
        """The prompt."""
        return "prompt", [self.turns[0][1]]

    @property
    def limit(self) -> int | None:
        """Most tokens of the continuation; None: the client sets no limit."""
        return self.max_tokens


class EmbeddingRequest(Body):
    """``POST /v1/embeddings``: texts only, no token ids."""

    model: Word
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_EMBEDDING_INPUTS, fail_fast=True)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """What is to be embedded, in the order of the vectors of the reply."""
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)

    @property
    def asked(self) -> tuple[str, list[str]]:
        """Every text."""
        return "input", list(self.texts)


class SessionRequest(Body):
    """``POST /v1/plinth/session``: signs a browser in, with the code of a link (`plinth open`) or with a key."""

    code: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.code is None) == (self.key is None):
            raise ValueError("send code or key")
        return self


class SearchRequest(Asking):
    """``POST /v1/search``: passages for a query, without an answer."""

    query: str
    k: Annotated[int, Field(ge=1, le=MAX_SEARCH_RESULTS)] | None = None

    @property
    def asked(self) -> tuple[str, list[str]]:
        """The query."""
        return "query", [self.query]


Model = TypeVar("Model", bound=Body)


def parse(model: type[Model], body: dict[str, Any], section: ServeSection) -> Model:
    """Validate a JSON object.

    Raises:
        ApiError: 400 naming the first field that is wrong; ``context_length_exceeded`` for an over-long prompt.
    """
    _check_size(body)
    refuse_token_ids(body)
    try:
        request = model.model_validate(model.prepared(body))
    except ValidationError as error:
        raise _first_problem(error) from None
    _check_collection(request)
    _check_length(request, section.max_prompt_chars)
    return request


def _check_size(body: dict[str, Any]) -> None:
    """Refuse what would take long to look at: a megabyte holds half a million empty objects, each with its own error.

    Raises:
        ApiError: 400, the body has too many parts, or an object in it too many fields.
    """
    waiting: list[Any] = [body]
    parts = 0
    while waiting:
        part = waiting.pop()
        parts += 1
        if isinstance(part, dict) and len(part) > MAX_FIELDS:
            raise bad_request(f"an object in the body has {len(part):,} fields, more than {MAX_FIELDS:,}")
        inner = [one for one in (part.values() if isinstance(part, dict) else part) if isinstance(one, dict | list)]
        if parts + len(waiting) + len(inner) > MAX_PARTS:
            raise bad_request(f"there are more than {MAX_PARTS:,} objects and lists in the body")
        waiting += inner


def _prepared(message: Any, where: str) -> Any:
    if not isinstance(message, dict):
        return message
    if message.get("role") in REPLAYED:
        return text_only(message)
    return without_off_values(message, MESSAGE_NOT_OFFERED, where)


def last_text(turns: Turns, param: str) -> str:
    """What a user said last.

    Raises:
        ApiError: 400, no user said anything; ``param`` is the field of the conversation.
    """
    last = last_question(turns)
    if last is None:
        raise bad_request("there is no user message with text in it", param)
    return turns[last][1]


def _check_collection(request: Body) -> None:
    if isinstance(request, Asking) and request.named[1] not in ("", request.collection):
        raise bad_request(
            f"model names the collection {shown(request.named[1])} and plinth.collection "
            f"{shown(request.collection)}: name one",
            "plinth.collection",
        )


def _check_length(request: Body, limit: int) -> None:
    param, texts = request.asked
    for text in texts:
        if not text.strip():
            raise bad_request(f"{param} is empty", param)
        if len(text) > limit:
            raise context_too_long(len(text), limit, param)


_BRANCHES = {"str", "int", "bool", "float"}  # how pydantic names the branches of a union


def _first_problem(error: ValidationError) -> ApiError:
    """One of pydantic's errors as one sentence: the deepest, as a union reports every branch that does not fit, and
    among those what is wrong with a value of the right type (a list that is too long, say)."""
    problem = max(
        error.errors(include_url=False, include_input=False),
        key=lambda found: (len(found["loc"]), not found["type"].endswith("_type")),
    )
    where, last, unknown = "", len(problem["loc"]) - 1, problem["type"] == "extra_forbidden"
    for place, part in enumerate(problem["loc"]):
        if isinstance(part, int):
            where += f"[{part}]"
        elif (part.isidentifier() and part not in _BRANCHES) or (unknown and place == last):
            where += f".{part}" if where else part
    name = where if len(where) <= 120 and where.isprintable() else shown(where)
    if unknown:
        return bad_request(f"unknown field {name}", name)
    if problem["type"] == "missing":
        return bad_request(f"{name} is missing", name)
    return bad_request(f"{name}: {problem['msg']}", name)
