"""Quotations: trimmed at word boundaries, at their place in the document; the prompt budget."""

from __future__ import annotations

from cluster.core.records import Passage
from tests.train_jobs.answering.retrievals import passage
from train_jobs.answering.budget import estimated_tokens, fit
from train_jobs.answering.citations import cite, quotation, unmarked

TEXT = "  - one two  three\n four five six seven eight nine ten."
BODY = passage("d", TEXT, start=100)


def shown(max_words: int, keep: dict[int, float] | None = None) -> tuple[str, str]:
    found = quotation([BODY], 0, 100, 100 + len(TEXT), max_words, keep)
    assert found is not None
    assert found.raw([BODY]) == TEXT[found.start - 100 : found.end - 100]
    return found.shown([BODY]), found.raw([BODY])


def test_nothing_of_a_document_looks_like_a_marker_but_in_code_between_fences() -> None:
    assert unmarked("so [1] and [2, 13][3], in [note 4] of [2024] [1](x)") == (
        "so ［1］ and ［2, 13］［3］, in [note 4] of [2024] ［1］(x)"
    )
    code = "  ```python\n  a[1] = b[2]\n  ```"
    assert unmarked(f"- see [1]\n{code}\n- and [2]") == f"- see ［1］\n{code}\n- and ［2］"
    assert unmarked("```\nnever closed [1]") == "```\nnever closed ［1］"


def test_a_citation_is_the_whole_passage() -> None:
    made = cite(BODY)
    assert (made.document, made.chunk, made.span, made.text) == ("d", "d#c0", (100, 100 + len(TEXT)), TEXT)


def test_markup_is_left_out_and_white_space_joined() -> None:
    text, raw = shown(20)
    assert text == "one two three four five six seven eight nine ten."
    assert raw == "one two  three\n four five six seven eight nine ten."


def test_long_sentences_keep_their_beginning() -> None:
    text, _ = shown(6)
    assert text == "one two three four …"
    assert len(text.split()) <= 6


def test_or_the_window_that_matters() -> None:
    text, _ = shown(6, keep={7: 1, 8: 1})
    assert text == "… six seven eight nine …"
    assert shown(6, keep={0: 1, 1: 1, 8: 3})[0] == "… six seven eight nine …", "what counts more"


def test_nothing_is_quoted_from_outside_the_passage() -> None:
    found = quotation([BODY], 0, 0, 10_000, 50)
    assert found is not None
    assert (found.start, found.end) == (100 + TEXT.index("one"), 100 + len(TEXT))
    assert quotation([BODY], 0, 0, 50, 50) is None
    assert quotation([passage("e", " \n ")], 0, 0, 3, 50) is None


def passages(count: int) -> list[Passage]:
    return [passage(f"d{i}", "word " * 10, context="") for i in range(count)]


def test_the_lowest_passages_are_dropped_first() -> None:
    def words(text: str) -> int:
        return len(text.split())

    assert fit("four words in this", passages(5), 54, words) == 5
    assert fit("four words in this", passages(5), 53, words) == 4
    assert fit("four words in this", passages(5), 20, words) == 1
    assert fit("a question far over the budget", passages(5), 1, words) == 1
    assert fit("anything", [], 64, words) == 0


def test_estimate_is_on_the_safe_side() -> None:
    assert estimated_tokens("") == 0
    assert estimated_tokens("Copy data and mode bits.") == 6
    assert estimated_tokens("internationalisation") == 4
    assert estimated_tokens("日本語") == 3
