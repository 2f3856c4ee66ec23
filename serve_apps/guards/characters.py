"""Characters a reader cannot see: what carries hidden instructions, reorders text, or splits a word a filter looks for.

They are removed, not refused: what the reader sees is then exactly what is searched, answered and checked. The rules
are the corpus's own (``data_jobs.text.normalise``), which keep what scripts and emoji need.
"""

from __future__ import annotations

import re
import unicodedata

from data_jobs.text.normalise import strip_invisible

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


def folded(text: str) -> tuple[str, list[int] | None]:
    """``text`` in compatibility form (full-width digits become digits), and each result character's place in ``text``.

    The places are None when nothing changed. Normalised character by character, so that places stay exact.
    """
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return text, None
    parts, places = [], []
    for place, character in enumerate(text):
        form = unicodedata.normalize("NFKC", character)
        parts.append(form)
        places.extend([place] * len(form))
    return "".join(parts), places
