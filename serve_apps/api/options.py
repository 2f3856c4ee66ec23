"""Options of OpenAI's API that are not offered: those that would change the result are refused by name, never ignored;
the others are accepted, and the answer names them."""

from __future__ import annotations

from typing import Any

from serve_apps.errors import bad_request

# Options of OpenAI's API that change the result and are not offered: only these values (and null) mean "off".
NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "moderation": (),
}
# With these, tools that are sent along are not to be called: they are accepted, and noted as ignored.
_CALLS_NOTHING = {"tools": "tool_choice", "functions": "function_call"}
WHY = dict.fromkeys(
    ("tools", "functions", "tool_choice", "function_call"),
    'no tier here calls tools, answers come from the documents: leave it out, or send "tool_choice": "none"',
)
# Options that are accepted and shape nothing: an answer says under ``plinth.ignored`` which of them it was sent.
WITHOUT_EFFECT = (
    "tools", "functions", "parallel_tool_calls", "metadata", "reasoning_effort", "verbosity", "service_tier",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
)  # fmt: skip
SAMPLING = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")  # with effect where a tier samples
# The same for a message that a person wrote; of replayed ones ``history.text_only`` keeps the text.
MESSAGE_NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "tool_calls": ([],),
    "function_call": (),
    "tool_call_id": (),
    "refusal": ("",),
    "audio": (),
    "annotations": ([],),
}


def without_off_values(
    body: dict[str, Any], table: dict[str, tuple[Any, ...]], where: str, why: dict[str, str] | None = None
) -> dict[str, Any]:
    """The object without the options of ``table`` that are off.

    Args:
        where: what stands before the option's name in a message.
        why: what to do instead, for options where that is more than leaving it out.

    Raises:
        ApiError: 400, one of them is on.
    """
    kept = {}
    for key, value in body.items():
        if key not in table or (not where and value and body.get(_CALLS_NOTHING.get(key, "")) == "none"):
            kept[key] = value
        elif value is not None and not any(value == off and type(value) is type(off) for off in table[key]):
            instead = (why or {}).get(key, "leave it out")
            raise bad_request(f"{where}{key} is not supported here with this value: {instead}", f"{where}{key}")
    return kept


def refuse_token_ids(body: dict[str, Any]) -> None:
    """Some clients turn texts into numbers with the tokenizer of one of OpenAI's models, which means nothing here.

    Raises:
        ApiError: 400, the body holds such numbers instead of a text.
    """
    for name in ("input", "prompt"):
        value = body.get(name)
        first = value[0] if isinstance(value, list) and value else None
        if type(first) is int or (isinstance(first, list) and first and type(first[0]) is int):
            message = (
                f"{name}: token ids are not accepted here, as they are numbers of another model's vocabulary: send the "
                "text itself (in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
            )
            raise bad_request(message, name, "token_ids_not_supported")
