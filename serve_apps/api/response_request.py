"""``POST /v1/responses``: OpenAI's newer request for an answer, read as the conversation that it is.

What would need a memory on our side (an earlier response, a stored conversation, work in the background) is refused by
name: the client sends the whole conversation.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from serve_apps.api.history import text_only
from serve_apps.api.options import SAMPLING, without_off_values
from serve_apps.api.schema import (
    MAX_TOKENS_LIMIT,
    MAX_TOOLS,
    Asking,
    Body,
    Message,
    StreamOptions,
    Turns,
    Word,
    last_text,
)
from serve_apps.errors import bad_request

_NOT_KEPT = "responses are not kept here: send the whole conversation in input"
_NO_TOOLS = 'no tier here calls tools, answers come from the documents: leave it out, or send "tool_choice": "none"'
# Only these values (and null) mean "off"; what to do instead where more is to say than "leave it out".
NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "previous_response_id": (),
    "conversation": (),
    "prompt": (),
    "background": (False,),
    "background_options": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "max_tool_calls": (),
    "top_logprobs": (0,),
    "moderation": (),
    "context_management": (),
    "image": (),
    "access_programs": (),
}
TEXT_NOT_OFFERED: dict[str, tuple[Any, ...]] = {"format": ({"type": "text"},)}
WHY = {
    "previous_response_id": _NOT_KEPT,
    "conversation": _NOT_KEPT,
    "prompt": "no templates are kept here: send the text itself in input",
    "background": "responses are not kept here: wait for the answer, or stream it",
    "tools": _NO_TOOLS,
    "tool_choice": _NO_TOOLS,
}
WITHOUT_EFFECT = (
    "tools", "parallel_tool_calls", "metadata", "reasoning", "truncation", "service_tier", "include",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
)  # fmt: skip
_LOGPROBS = "message.output_text.logprobs"
# Items of a replayed response that hold no text of a conversation: what a model thought, which tools it called.
_SILENT = ("reasoning", "function_call", "custom_tool_call", "compaction")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TEXTS = ("input_text", "output_text", "text")


class TextOptions(Body):
    """``text``: its form is text; how much is said is the tier's affair."""

    verbosity: Word | None = None


class ResponseRequest(Asking):
    """One request, its ``input`` a text or the items of a conversation."""

    model: Word
    input: str | Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_LIMIT)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    include: Annotated[list[Word], Field(fail_fast=True)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: Annotated[str, Field(max_length=256)] | None = None
    service_tier: Word | None = None
    prompt_cache_key: Annotated[str, Field(max_length=256)] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Word | None = None

    # Options of chats that this request does not have.
    stops: ClassVar[tuple[str, ...]] = ()
    seed: ClassVar[None] = None
    presence_penalty: ClassVar[None] = None
    frequency_penalty: ClassVar[None] = None

    @classmethod
    def prepared(cls, body: dict[str, Any]) -> dict[str, Any]:
        """See ``Body``; the items of ``input`` become messages."""
        body = without_off_values(body, NOT_OFFERED, "", WHY)
        if isinstance(included := body.get("include"), list) and _LOGPROBS in included:
            raise bad_request(f"include: {_LOGPROBS} is not supported here: leave it out", "include")
        if isinstance(body.get("text"), dict):
            body["text"] = without_off_values(body["text"], TEXT_NOT_OFFERED, "text.")
        if isinstance(body.get("input"), list):
            found = [_message(item, f"input[{place}]") for place, item in enumerate(body["input"])]
            body["input"] = [message for message in found if message is not None]
        return body

    @property
    def turns(self) -> Turns:
        """(role, text) of the instructions and of every message, in their order."""
        head = (("system", self.instructions),) if self.instructions else ()
        if isinstance(self.input, str):
            return (*head, ("user", self.input))
        return (*head, *((message.role, message.text) for message in self.input))

    @property
    def asked(self) -> tuple[str, list[str]]:
        """The last question."""
        return "input", [last_text(self.turns, "input")]

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer; None: the client sets no limit."""
        return self.max_output_tokens

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that were sent and shape no answer, whichever tier gives it; ``store``: nothing is kept to be got."""
        verbose = ("text.verbosity",) if self.text and self.text.verbosity else ()
        sent = tuple(name for name in WITHOUT_EFFECT if getattr(self, name) is not None)
        return (*sent, *verbose, *(("store",) if self.store else ()))

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """Options of sampling that were sent."""
        return tuple(name for name in SAMPLING if getattr(self, name) is not None)


def _message(item: Any, where: str) -> Any:
    """An item of ``input`` as a message of a chat; None for one that says nothing.

    Raises:
        ApiError: 400, an item of a kind that is not offered.
    """
    if not isinstance(item, dict):
        return item
    kind = item.get("type", "message")
    if kind in _SILENT:
        return None
    if kind in _OUTPUTS:
        return text_only({"role": "tool", "content": _texts(item.get("output"))})
    if kind != "message":
        raise bad_request(f"{where}.type: there are messages and replayed tool calls here, no {kind!r:.80}", where)
    kept = {key: value for key, value in item.items() if key not in ("type", "id", "status", "phase")}
    kept["content"] = _texts(kept.get("content"))
    return text_only(kept) if kept.get("role") == "assistant" else kept


def _texts(content: Any) -> Any:
    """Content with its parts of text as a chat has them; others stay, for the model to refuse."""
    return [_text(part) for part in content] if isinstance(content, list) else content


def _text(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") in _TEXTS:
        return {"type": "text", "text": part.get("text")}
    return part
