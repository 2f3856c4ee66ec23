"""Scripts that write words without blanks between them, and what a word is in any script.

Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan and some others do not separate words. Where words are counted or
compared, each of their letters (with the marks that belong to it) stands for a word. Korean separates its words.
"""

from __future__ import annotations

import re

UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ec6\u0edc-\u0edf"  # Thai, Lao
    "\u0f40-\u0fbc\u1000-\u103f\u1050-\u109f\u1780-\u17d3"  # Tibetan, Burmese, Khmer
    "\u1950-\u19df\u1a20-\u1aad\ua9e0-\ua9fe\uaa60-\uaa7f"  # Tai Le, New Tai Lue, Tai Tham, Burmese
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
"""The letters of those scripts, as ranges for a character class of ``re``."""
_MARKS = (
    "\u0e31\u0e33-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb3-\u0ebc\u0ec8-\u0ece\u0f71-\u0f87\u0f8d-\u0fbc\u102b-\u103e"
    "\u1056-\u1059\u105e-\u1060\u17b6-\u17d3\u3099\u309a"
)
WORD = re.compile(rf"[{UNSPACED}][{_MARKS}]*|[^\W{UNSPACED}]+")
"""One word: a letter with its marks in scripts without blanks, else a run of letters, digits and underscores."""
_PLAIN = re.compile(r"\w+")
# Without the last planes: such a class is searched five times faster.
UNSPACED_LETTERS = re.compile(f"[{UNSPACED[:-3]}]")
IDEOGRAPHIC = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Letters of Chinese and Japanese."""
UNPUNCTUATED = re.compile("[\u0e01-\u0e4e\u0e81-\u0edf]")
"""Letters of Thai and Lao, which end sentences with a blank at most."""
HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
"""Letters of Korean: each is a syllable."""


def words(text: str) -> list[str]:
    """The words of a text as ``WORD`` counts them."""
    plain = text.isascii() or not UNSPACED_LETTERS.search(text)  # half of the time of the longer pattern
    return (_PLAIN if plain else WORD).findall(text)
