"""The search question of a conversation: what to look for when the last message leans on what went before.

Only user messages are searched: a system prompt is an instruction to a model, and what an assistant said earlier would
pull the search towards its own answer. Of that only two things count: that it refused (what it does not know is no
subject to go on with), and what its markers number ("the second one").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_jobs.retrieval.asking import form_of
from data_jobs.retrieval.leaning import leans_on_before
from data_jobs.retrieval.wording import is_stop_word
from train_jobs.answering.courtesies import courtesy_of
from train_jobs.answering.forms.refusal import UNKNOWN

_ORDINALS = {
    "first": 1, "former": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "latter": 2, "last": -1,
    "1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5, "erste": 1, "zweite": 2, "dritte": 3, "letzte": -1,
    "premier": 1, "première": 1, "deuxième": 2, "seconde": 2, "troisième": 3, "primero": 1, "segundo": 2, "tercero": 3,
}  # fmt: skip
_POINTS = re.compile(
    rf"\b(?:the|der|die|das|den|dem|le|la|el|los|las)\s+({'|'.join(_ORDINALS)})[nrs]?"
    r"(?:\s+(?:one|function|method|class|option|answer|source|document|result|un|uno|una)\b(?!\s+of\b)|(?=\W*$))"
    r"|(?:\b(?:number|no\.?|option|source|nummer|numéro)\s+|\[)([1-5])\b\]?",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?P<it>its|it|their|they|them)\b(?!\s+(?:possible|ok|okay|safe|better|best|true)\b)", re.I)
_DONE_TO = re.compile(
    r"^how\s+(?:do|can|should|would)\s+(?:i|you|we|one)\s+\w+\s+((?:an?|the|my|our)(?:\s+[\w.-]+){1,3})\W*$", re.I
)
_DO_TO_IT = re.compile(
    r"\bhow\s+(?:do|can|should|would)\s+(?:i|you|we|one)\s+(?!(?:do|use|make|get|have)\b)\w+\s+(?P<it>it|them|one|that)\W*$",
    re.I,
)
# A name is read from its first letter only: tried from each of its letters, a long one would take quadratic time.
_NAMED = re.compile(r'(?<![\w.])([A-Za-z_][\w.]*\w)(?: — "[^"]*")? \[(\d)\]')
_QUOTED = re.compile(r'"([^"]{8,400})" \[(\d)\]')
MAX_QUOTED_WORDS = 14


def standalone_question(messages: Sequence[tuple[str, str]]) -> str:
    """The question to search for, from ``(role, text)`` messages, oldest first.

    It is the last user message; a short one that leans on what went before (it opens with "and" or "what about", points
    back with "it", asks for an example, or is only a few words long) is put after the last user message that stands on
    its own. Messages that were refused, and mere courtesies, are passed over. Returns the empty string when no user
    said anything.
    """
    said = _said(messages)
    if not said:
        return ""
    last, before = said[-1][0], said[:-1]
    subjects = [(text, reply) for text, reply in before if not reply.startswith(UNKNOWN) and not courtesy_of(text)]
    if subjects and (pointed := _pointed(last, subjects[-1][1])):
        return pointed
    if subjects and leans_on_before(last) and (whole := _named_for(last, subjects[-1][0])):
        return whole
    parts = [last]
    for earlier, _ in reversed(subjects):
        if not leans_on_before(parts[0]):
            break
        if len(parts) == 1 or not leans_on_before(earlier):
            parts.insert(0, earlier)
    return " ".join(part for place, part in enumerate(parts) if part not in parts[:place])


def _said(messages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What the user said, each with what was answered to it (empty where nothing was)."""
    found: list[tuple[str, str]] = []
    for role, text in messages:
        if role == "user" and text.strip():
            found.append((text.strip(), ""))
        elif role == "assistant" and found:
            found[-1] = (found[-1][0], (found[-1][1] + "\n" + text).strip())
    return found


def _pointed(text: str, reply: str) -> str:
    """The message with "the second one" replaced by what the answer before numbers so; empty where it points at
    nothing there."""
    match = _POINTS.search(text)
    if match is None or not reply:
        return ""
    named = numbered(reply)
    number = int(match[2]) if match[2] else _ORDINALS[match[1].lower()]
    if number == -1:
        number = max(named, default=0)
    if number not in named:
        return ""
    return f"{text[: match.start()]}{named[number]}{text[match.end() :]}"


def _named_for(text: str, before: str) -> str:
    """A message with its pronoun replaced by what the question before was about, where both are plain: it asks of one
    thing by name ("What is a queue?"), or how to do something to one thing ("How do I create a backup?"), and the
    message asks more of that. Empty where they are not, or the message says nothing of its own."""
    form = form_of(before)
    subject = form.subject if not form.other else ""
    pattern = _PRONOUN
    if not subject and (made := _DONE_TO.match(before.strip())):
        subject, pattern = made[1], _DO_TO_IT
    match = pattern.search(text)
    own = [word for word in re.findall(r"\w+", pattern.sub(" ", text)) if not is_stop_word(word)]
    if not subject or match is None or (pattern is _PRONOUN and not own) or leans_on_before(before):
        return ""
    start, end = match.span("it")
    return f"{text[:start]}{subject}{text[end:]}"


def numbered(reply: str) -> dict[int, str]:
    """What each marker of an answer stands behind: a name of code, else the first words quoted."""
    found: dict[int, str] = {}
    for match in _NAMED.finditer(reply):
        found.setdefault(int(match[2]), match[1])
    for match in _QUOTED.finditer(reply):
        found.setdefault(int(match[2]), " ".join(match[1].split()[:MAX_QUOTED_WORDS]))
    return found
