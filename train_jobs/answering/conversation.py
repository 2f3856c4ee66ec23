"""The search question of a conversation: what to look for when the last message leans on what went before.

Only user messages count: a system prompt is an instruction to a model, not something to search for, and what an
assistant said earlier would pull the search towards its own answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_jobs.retrieval.leaning import leans_on_before

def standalone_question(messages: Sequence[tuple[str, str]]) -> str:
    """The question to search for, from ``(role, text)`` messages, oldest first.

    It is the last user message; a short one that leans on what went before (it opens with "and" or "what about", points
    back with "it", or is only a few words long) is put after the last user message that stands on its own.
    Returns the empty string when no user said anything.
    """
    said = [text.strip() for role, text in messages if role == "user" and text.strip()]
    if not said:
        return ""
    parts = [said[-1]]
    for earlier in reversed(said[:-1]):
        if not leans_on_before(parts[0]):
            break
        if len(parts) == 1 or not leans_on_before(earlier):
            parts.insert(0, earlier)
    return " ".join(part for place, part in enumerate(parts) if part not in parts[:place])
