"""Characters a reader cannot see: what carries hidden instructions, reorders text, or splits a word a filter looks for.

They are removed, not refused: what the reader sees is then exactly what is searched, answered and checked. Joiners and
variation selectors stay where scripts and emoji need them: alone, between characters that are not ASCII.
"""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_JOINERS, _SELECTORS = "\u200c\u200d", "\ufe00-\ufe0f"
_INVISIBLE = re.compile(
    # Soft hyphen, grapheme joiner, fillers, Mongolian selectors, zero width space, bidi marks, embeddings and isolates,
    # word joiner and invisible operators, byte order mark, interlinear annotation, musical formatting, tags and
    # supplementary selectors (they spell hidden ASCII).
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    f"|(?<![^\x00-\x7f])[{_JOINERS}{_SELECTORS}]"
    f"|(?<=[{_JOINERS}])[{_JOINERS}{_SELECTORS}]"
    f"|(?<=[{_SELECTORS}])[{_SELECTORS}]"
    f"|[{_JOINERS}](?![^\x00-\x7f])"
)


def without_control(text: str) -> str:
    """Without control characters, except tab, newline and carriage return."""
    return text if text.isprintable() else _CONTROL.sub("", text)


def without_invisible(text: str) -> str:
    """Without invisible characters; line and paragraph separators become newlines."""
    if text.isascii():
        return text
    return _INVISIBLE.sub(lambda found: "\n" if found[0] in "\u2028\u2029" else "", text)


def visible(text: str) -> str:
    """What a reader sees of ``text``."""
    return without_invisible(without_control(text))


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
