"""Characters a reader cannot see: what carries hidden instructions, reorders text, or splits a word a filter looks for.

They are removed, not refused: what the reader sees is then exactly what is searched, answered and checked. The rules
are the corpus's own (``data_jobs.text.normalise``), which keep what scripts and emoji need.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cluster.core.records import Verdict
from data_jobs.text.normalise import strip_invisible
from serve_apps.guards.protocol import IN, OUT, InputCheck, OutputCheck

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BREAKS = re.compile("[\x0b\x0c\x85\u2028\u2029]")
# The emoji selector where there is no emoji: it could split an address. Keycaps (1 + selector + U+20E3) keep theirs.
_STRAY_SELECTOR = re.compile("(?<![^\x00-\x7f])\ufe0f(?!\u20e3)|(?<=\ufe0f)\ufe0f")


def visible(text: str) -> str:
    """What a reader sees of ``text``; unusual line ends become newlines."""
    if text.isascii() and text.isprintable():
        return text
    return _STRAY_SELECTOR.sub("", strip_invisible(_BREAKS.sub("\n", text)))


def has_control(text: str) -> bool:
    """Whether ``text`` holds control characters other than tab, newline and carriage return."""
    return _CONTROL.search(text) is not None


def encodable(text: str) -> bool:
    """Whether ``text`` is free of NULs and lone surrogates, and so can be sent at all."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


class CharacterGuard:
    """Refuses what cannot be stored or sent, or is too long, and removes what a reader would not see.

    Args:
        longest: characters of one text that are accepted.
    """

    name = "characters"

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        """The texts as a reader sees them."""
        return [self._check(text) for text in texts]

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        """Text that cannot be encoded is withheld altogether."""
        return [OutputCheck() if encodable(text) else OutputCheck(verdicts=(_unencodable(OUT),)) for text in texts]

    def _check(self, text: str) -> InputCheck:
        if not encodable(text):
            return InputCheck("", (_unencodable(IN),))
        if len(text) > self._longest:
            detail = f"the text has {len(text)} characters; {self._longest} are accepted"
            return InputCheck("", (Verdict(IN, "block", "size", detail),))
        seen = visible(text)
        if has_control(text):
            return InputCheck(seen, (Verdict(IN, "redact", "control_characters", "control characters were removed"),))
        if seen != text:
            verdict = Verdict(IN, "redact", "invisible_characters", "invisible characters were removed")
            return InputCheck(seen, (verdict,))
        return InputCheck(seen)


def _unencodable(stage: str) -> Verdict:
    return Verdict(stage, "block", "encoding", "the text holds a NUL or half a surrogate pair")
