"""Text to index terms, the same for documents and questions: lower case, no accents, stems, split identifiers.

An identifier gives its parts and itself: ``shutil.copytree`` -> ``shutil copytre shutil.copytree``; a question that
says ``copy tree`` finds ``copytree`` through ``joined`` (neighbouring words written as one).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import Stemmer

_TOKEN = re.compile(r"[^\W_]+(?:[._]+[^\W_]+)*")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
MAX_TERM_CHARS = 64

# Words that carry the form of a question or sentence, not its subject. Documents seldom contain "how" or "my", so
# their idf would be high: they are removed, not left to BM25.
_STOP = """
a about am an and any anybody anyone are as at be because been being but by can cant cannot could did do does
doesn doing don done dont for from get gets getting give given go going got had has have having he hello help
her here hey hi him his how i if im in into is isn it its ive just know let lets like ll make may me might
mine my need needs of off ok on one or our out please re s shall she should so some someone something somehow
such t tell than thank thanks that thats the their them then there these they thing things this those to too
try trying us use used using ve very want wants was way ways we were what whats when where whether which while
who whom whose why will with without would wont you your yours
"""
STOPWORDS = frozenset(_STOP.split())


def words(text: str) -> list[str]:
    """Raw tokens in order, dotted and underscored names whole, case kept."""
    return _TOKEN.findall(text)


def terms(text: str) -> list[str]:
    """Index terms of ``text`` in order, stop words removed."""
    found: list[str] = []
    for token in words(text):
        found.extend(expand(token))
    return found


@lru_cache(maxsize=4096)
def term_set(text: str) -> frozenset[str]:
    """The distinct index terms of a text; for passages and sentences, which one question after the other meets."""
    return frozenset(terms(text))


@lru_cache(maxsize=200_000)
def expand(token: str) -> tuple[str, ...]:
    """The terms of one raw token: stems of its parts, and the whole where it has several parts."""
    if len(token) > MAX_TERM_CHARS:
        token = token[:MAX_TERM_CHARS]
    if _CJK.search(token):
        return tuple(token[i : i + 2] for i in range(max(1, len(token) - 1)))
    token = strip_accents(token)
    parts = [token] if token.isascii() and token.islower() and token.isalpha() else _PARTS.findall(token)
    lowered = [fold(part) for part in parts]
    kept = [stem(part) for part in lowered if part not in STOPWORDS]
    if len(parts) > 1:
        kept.append(fold(token))
    return tuple(kept)


def joined(tokens: Iterable[str]) -> list[str]:
    """Neighbouring words written as one, stemmed: ``copy tree`` -> ``copytre``."""
    plain = [fold(token) for token in tokens]
    return [stem(a + b) for a, b in pairwise(plain) if a.isalpha() and b.isalpha()]


def is_identifier(token: str) -> bool:
    """Whether a raw token looks like a name in code: dotted, underscored, or capitals inside (``OrderedDict``)."""
    inner = token.strip("._")
    return ("_" in inner or "." in inner or (any(c.isupper() for c in inner[1:]) and not inner.isupper())) and any(
        c.isalpha() for c in inner
    )


@lru_cache(maxsize=200_000)
def fold(token: str) -> str:
    """Lower case without accents."""
    return strip_accents(token.lower())


def strip_accents(text: str) -> str:
    """Compatibility decomposition without combining marks: ``Café`` -> ``Cafe``."""
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


_stemmer = Stemmer.Stemmer("english", 0)


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """Snowball English (Porter 2) stem."""
    return str(_stemmer.stemWord(word))
