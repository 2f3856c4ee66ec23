"""Which documents are worth keeping: pure rules, each a small function with its source, in two profiles.

``web`` takes the published filters with their thresholds (``web_quality``): for text corpora of whole pages.
``documentation``, the default, is what follows. From Gopher (Rae et al. 2021, arXiv:2112.11446, table A1) come the
symbol, word and repetition rules, from C4 (Raffel et al. 2020, arXiv:1910.10683) the placeholder rule. They were made
for web pages. Here documents are often one sentence or mostly code, in any language, so shares are only taken of texts
long enough to have one, thresholds are loose, and rules that ask for English stop words, final punctuation or long
lines (C4; FineWeb, Penedo et al. 2024, arXiv:2406.17557) are left out on purpose.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from data_jobs.filters.web_quality import web_reason

Profile = Literal["documentation", "web"]

# A word is a run of letters and digits; in scripts written without spaces every character counts as one.
_WORD = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W_]+"
)

LONG_ENOUGH_WORDS = 50  # Below Gopher's own lower limit for a document, a share says nothing.
LONG_ENOUGH_LINES = 10


@dataclass(frozen=True)
class Judgement:
    """Keep it, or drop it for a ``reason``: the name of the rule it broke."""

    keep: bool
    reason: str = ""


def count_words(text: str) -> int:
    """How many words a text has; in scripts without spaces every character is one."""
    return sum(1 for _ in _WORD.finditer(text))


def judge(text: str, min_words: int, profile: Profile = "documentation", language: str = "") -> Judgement:
    """Judge a normalised text. Deterministic, and independent of every other document.

    Args:
        language: ISO 639-1 code; the rule of ``web`` that asks for English stop words leaves other languages alone.
    """
    if not text.strip():
        return Judgement(False, "empty")
    words = count_words(text)
    if words < min_words:
        return Judgement(False, "too_few_words")
    if text.count("\ufffd") > max(1, 0.02 * len(text)):
        return Judgement(False, "garbled")
    if profile == "web":
        reason = web_reason(text, language)
        return Judgement(not reason, reason)
    reason = next((rule.__name__ for rule in RULES if rule(text)), "")
    return Judgement(not reason, reason)


def mostly_symbols(text: str) -> bool:
    """Fewer than a third of the visible characters are letters or digits (Gopher's alphabetic rule, for code too)."""
    visible = [c for c in text if not c.isspace()]
    return len(visible) >= 100 and sum(c.isalnum() or _is_mark(c) for c in visible) < len(visible) / 3


def _is_mark(char: str) -> bool:
    return char > "\u0300" and not char.isalnum() and char.isprintable() and not ("\u2000" <= char <= "\u2fff")


def long_words(text: str) -> bool:
    """Encoded or minified data: the average token is longer than 40 characters (Gopher: mean word length 3 to 10)."""
    tokens = [token for token in text.split() if token.isascii()]  # other scripts separate words in their own ways
    size = sum(map(len, tokens))
    return size > 400 and size > 40 * len(tokens) and size > 0.8 * len(text)


def repeated_lines(text: str) -> bool:
    """More than 60 % of the characters are in lines that stand there already (Gopher: 20 %; tables in documentation
    repeat more than prose)."""
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if len(line) > 3]
    if len(lines) < LONG_ENOUGH_LINES:
        return False
    total = sum(map(len, lines))
    return total - sum(map(len, set(lines))) > 0.6 * total


def repeated_phrases(text: str) -> bool:
    """One run of four words, over ten times, makes up half of the text (Gopher: 16 %; doctests repeat themselves)."""
    words = _WORD.findall(text)
    if len(words) < LONG_ENOUGH_WORDS:
        return False
    phrase, times = Counter(zip(words, words[1:], words[2:], words[3:], strict=False)).most_common(1)[0]
    return times > 10 and times * sum(map(len, phrase)) > 0.5 * sum(map(len, words))


def placeholder_text(text: str) -> bool:
    """Typesetter's filler (C4 drops every page with "lorem ipsum"; a mention in a sentence is fine here)."""
    lowered = text[:20_000].lower()
    found = lowered.count("lorem ipsum dolor")
    return found > 0 and (lowered.lstrip("# *>\n").startswith("lorem ipsum") or found * 60 > count_words(text))


RULES: tuple[Callable[[str], bool], ...] = (
    placeholder_text, mostly_symbols, long_words, repeated_lines, repeated_phrases,
)  # fmt: skip
"""Of the profile ``documentation``, in the order they are asked: whether a text breaks the rule, by its name."""
REASONS = ("empty", "too_few_words", "garbled", *(rule.__name__ for rule in RULES))
"""Of the profile ``documentation``; ``web`` knows the first three and the names of ``web_quality.RULES``."""
