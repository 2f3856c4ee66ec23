"""The search question of a conversation: what to look for when the last message leans on what went before.

Only user messages count: a system prompt is an instruction to a model, not something to search for, and what an
assistant said earlier would pull the search towards its own answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_jobs.retrieval.wording import is_stop_word

MAX_FOLLOW_UP_WORDS = 12
MAX_FOLLOW_UP_CHARS = 200
_WORD = re.compile(r"\w+(?:['’.]\w+)*")
# How a message starts that continues the one before.
_OPENERS = re.compile(
    r"^\W*(?:and|but|or|so|then|also|ok(?:ay)?|now|what about|how about|what if|same|instead|why|in that case)\b",
    re.IGNORECASE,
)
# Words that point back. "it is" and "is it possible" do not: there is nothing before them to point at.
_POINTERS = re.compile(
    r"\b(?:it|its|this|that|these|those|them|they|one|ones|same|other|another|instead|else|former|latter|previous|above)\b",
    re.IGNORECASE,
)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|does|would|will|can) it (?:possible|ok(?:ay)?|safe|better|best|true|make sense|matter)\b"
    r"|\bit(?:'|’)?s? (?:is |was )?(?:possible|better|best|true)\b"
    r"|\b(?:so|such|now|in order|see|check|know|sure|means?|says?|tell|find|shows?) that\b|\bthat(?:'|’)?s it\b"
    r"|\bthis (?:week|year|month|morning|machine|computer|file|folder)\b|\bone (?:of|by|line|item|element)\b"
    r"|\b(?:which|anyone|someone|no) one\b|\beach other\b",
    re.IGNORECASE,
)
# A fragment: "with gzip?", "recursively?", "for directories"; "what is gzip" and "sort a list" are whole.
_FRAGMENT = re.compile(
    r"^\W*(?:with|without|for|in|on|from|to|as|by|using|via|under|over|after|before|except|\w+ly)\b", re.I
)
_FRAGMENT_WORDS = 5
# A bare dotted name or call (os.path.join, shutil.copytree()) is a question of its own.
_NAME = re.compile(r"\W*[^\W_]+(?:[._]+[^\W_]+)+(?:\(\))?\W*")
_OWN_TOPIC_WORDS = 2
_THANKS = re.compile(
    r"^\W*(?:thanks?|thank you|great|perfect|cheers|hello|hi|hey|good (?:morning|evening|day))\b", re.IGNORECASE
)


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


def leans_on_before(text: str) -> bool:
    """Whether a message needs the one before it to be understood."""
    if len(text) > MAX_FOLLOW_UP_CHARS:
        return False
    words = _WORD.findall(text)
    if len(words) > MAX_FOLLOW_UP_WORDS or _THANKS.match(text):
        return False
    if _OPENERS.match(text):
        return True
    pointer = _POINTERS.search(_EXPLETIVE.sub(" ", text))
    if pointer:
        # "I have a list; how do I sort it": what it points at stands in the message itself.
        before = [word for word in _WORD.findall(text[: pointer.start()]) if not is_stop_word(word)]
        return len(before) < _OWN_TOPIC_WORDS
    if len(words) == 1:
        return not _NAME.fullmatch(text)
    return len(words) <= _FRAGMENT_WORDS and bool(_FRAGMENT.match(text))
