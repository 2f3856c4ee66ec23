"""What of a conversation is looked at: replayed turns without their trimmings, and the newest turns of a long one."""

from __future__ import annotations

from typing import Any

REPLAYED = ("assistant", "tool", "function")  # turns that no person wrote: nothing in them is searched for
# What such turns carry beside their text: calls of tools, refusals, audio. It is left out, whatever it holds.
_TRIMMINGS = {"tool_calls", "function_call", "tool_call_id", "refusal", "audio", "annotations"}

Turns = tuple[tuple[str, str], ...]  # (role, text), oldest first


def text_only(message: dict[str, Any]) -> dict[str, Any]:
    """A replayed turn with its text alone: without trimmings; no content (or null) becomes the empty text, and a part
    that is a refusal becomes a part of text."""
    kept = {key: value for key, value in message.items() if key not in _TRIMMINGS}
    content = kept.get("content")
    if content is None:
        kept["content"] = ""
    elif isinstance(content, list):
        kept["content"] = [_as_text(part) for part in content]
    return kept


def _as_text(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") == "refusal" and set(part) == {"type", "refusal"}:
        return {"type": "text", "text": part["refusal"]}
    return part


def last_question(turns: Turns) -> int | None:
    """The place of the last turn in which a user says something; None without one."""
    return next((at for at in reversed(range(len(turns))) if turns[at][0] == "user" and turns[at][1].strip()), None)


def newest(turns: Turns, most: int, characters: int) -> Turns:
    """The last question and as many of the turns before it, newest first, as are looked at.

    Args:
        turns: with a question among them.
        most: turns that are kept.
        characters: of all kept turns together; the last question is kept whatever its length.
    """
    last = last_question(turns)
    if last is None:
        return turns[:0]
    first, room = last, characters - len(turns[last][1])
    while first > 0 and last - first + 1 < most and len(turns[first - 1][1]) <= room:
        first -= 1
        room -= len(turns[first][1])
    return turns[first : last + 1]
