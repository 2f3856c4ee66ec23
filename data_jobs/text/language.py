"""Which language a text is in: py3langid (Lui and Baldwin 2012, langid.py), honest where a text does not tell."""

from __future__ import annotations

import functools
from typing import Any

UNDETERMINED = "und"
MIN_LETTERS = 10  # Of a shorter text, such as "Return it.", the language cannot be told.
MIN_PROBABILITY = 0.5
SAMPLE_CHARS = 600  # from the beginning and from the middle: a licence in English may stand before a text that is not
_NO_LANGUAGE = "zxx"


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def known_languages() -> frozenset[str]:
    """Codes that can be told apart: ISO 639-1, three letters where that has none."""
    return frozenset(_identifier().labels) - {_NO_LANGUAGE}


def detect(text: str) -> tuple[str, float]:
    """(language, its probability); ``und`` with the best guess's probability where that is below MIN_PROBABILITY.

    Texts of fewer than MIN_LETTERS letters are ``und`` with probability 0. Norwegian is ``no``, whichever its form.
    """
    sample = text if len(text) <= 2 * SAMPLE_CHARS else text[:SAMPLE_CHARS] + " " + _middle(text)
    if sum(c.isalpha() for c in sample) < MIN_LETTERS:
        return UNDETERMINED, 0.0
    code, probability = _identifier().classify(sample)
    if probability < MIN_PROBABILITY or code == _NO_LANGUAGE:
        return UNDETERMINED, float(probability)
    return ("no" if code == "nn" else str(code)), float(probability)


def _middle(text: str) -> str:
    return text[len(text) // 2 : len(text) // 2 + SAMPLE_CHARS]
