"""Chunks: exact offsets, nothing lost, budgets kept, structure respected."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.records import Chunk, Document
from data_jobs.text.chunks import ROW_BUDGETS, chunk, embedded_text, prior, readable_name


def count_tokens(text: str) -> int:
    """Words and signs, long words in pieces of 4: a tokenizer's behaviour without its 2 s of loading."""
    return sum(-(-len(piece) // 4) for piece in re.findall(r"\w+|[^\w\s]", text))


def document(text: str, **fields: str) -> Document:
    return Document(**{"id": "guide.md", "title": "Guide", "text": text, "source": "guide.md", **fields})


def cut(text: str, budget: int = 40, **fields: str) -> list[Chunk]:
    return chunk(document(text, **fields), count_tokens, budget)


TEXTS = st.lists(
    st.sampled_from(
        ["A plain sentence.", "# Heading", "```\ncode here\n\nmore\n```", "- item one\n- item two", "Title\n=====",
         "word " * 60, "x" * 500, "| a | b |\n" * 20, "", "  \n", "日本語の文章です。", ">>> f(1)\n1", "~~~", "```py"]
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=60)
@given(TEXTS, st.sampled_from(["\n", "\n\n", " "]), st.integers(32, 80))
def test_offsets_are_exact_and_nothing_is_lost(parts: list[str], separator: str, budget: int) -> None:
    text = separator.join(parts)
    chunks = cut(text, budget)
    assert all(c.text == text[c.start : c.end] == c.text.strip() for c in chunks)
    assert all(a.end <= b.start for a, b in pairwise(chunks))
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(text.split())
    # A row of a table stays whole.
    assert all(count_tokens(embedded_text(c)) <= budget * (ROW_BUDGETS if "|" in c.text else 1) for c in chunks)
    assert len({c.id for c in chunks}) == len(chunks)


def test_a_chunk_knows_the_headings_above_it() -> None:
    text = "# Install\n\nIntro words here.\n\n## On Linux\n\n" + "Use the package. " * 8 + "\n\n## On Mac\n\nUse brew."
    last = cut(text)[-1]
    assert "Use brew." in last.text
    assert last.context == "Guide\nInstall"  # its own heading opens the text, so it is not repeated


def test_underlined_headings_count_too() -> None:
    text = "Install\n=======\n\n" + "Some words of text. " * 10 + "\n\nUpgrade\n-------\n\n" + "Other words. " * 20
    assert cut(text)[-1].context == "Guide\nInstall > Upgrade"


def test_code_stays_together_where_it_fits() -> None:
    code = "```python\nfor x in range(3):\n\n    print(x)\n```"
    text = "Some introduction. " * 6 + "\n\n" + code + "\n\n" + "Some more text. " * 6
    assert sum(code in c.text for c in cut(text)) == 1


def test_a_short_document_is_one_chunk_with_a_readable_name() -> None:
    (piece,) = chunk(
        document("Move it.", id="pkg.OrderedDict.move_to_end", title="pkg.OrderedDict.move_to_end(key)", kind="method"),
        count_tokens,
        80,
        "Dictionary that remembers insertion order.",
    )
    assert piece.context.splitlines() == [
        "pkg.OrderedDict.move_to_end(key)",
        "pkg ordered dict move to end",
        "Dictionary that remembers insertion order.",
    ]
    assert piece.text == "Move it."


def test_a_long_context_leaves_room_for_the_text() -> None:
    pieces = cut("Short text here.", 40, title="word " * 200)
    assert [p.text for p in pieces] == ["Short text here."]
    assert count_tokens(pieces[0].context) <= 20


def test_no_text_no_chunk() -> None:
    assert cut(" \n\t\n") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("json.loads", "json loads"),
        ("http.server.HTTPServer", "http server http server"),
        ("a.parseURL2Path", "a parse url 2 path"),
    ],
)
def test_readable_names(name: str, words: str) -> None:
    assert readable_name(name) == words


def test_static_rank_prefers_what_is_used_and_explained_and_is_zero_for_files() -> None:
    plain = document("Do it.", kind="function")
    used = Document(**{**plain.to_dict(), "references": 20})
    old = Document(**{**plain.to_dict(), "text": "Deprecated: do it."})
    assert prior(document("x" * 5000)) == 0.0
    assert prior(used) > prior(plain) > prior(old)
    assert prior(Document(**{**plain.to_dict(), "kind": "method"})) < prior(plain)


def test_one_endless_word_does_not_take_for_ever() -> None:
    chunks = cut("x" * 200_000, 64)
    assert "".join(c.text for c in chunks) == "x" * 200_000
