"""The prompt budget: question and passages within a number of tokens, the lowest passages left out first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from cluster.core.records import Passage

_PIECE = re.compile(r"[A-Za-z]{1,6}|\d{1,3}|[^\sA-Za-z\d]")


def estimated_tokens(text: str) -> int:
    """Tokens of a text without a tokenizer: at most six letters or three digits a token, every other character its own.
    On the safe side for English (about 1.3 x WordPiece) and for scripts without spaces."""
    return len(_PIECE.findall(text))


def fit(
    question: str,
    passages: Sequence[Passage],
    prompt_tokens: int,
    count_tokens: Callable[[str], int] = estimated_tokens,
) -> int:
    """How many of the passages, best first, fit into the budget beside the question.

    The best passage always stays: an answer from one passage is worth more than none. Passages are taken in order
    and the first that does not fit ends it, so what is left out is always the lowest.
    """
    used = count_tokens(question)
    for number, passage in enumerate(passages):
        used += count_tokens(passage.context) + count_tokens(passage.text)
        if used > prompt_tokens and number:
            return number
    return len(passages)
