"""Quality rules: each drops what it names, none drops good short, code-heavy or non-English documents."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest

from data_jobs.filters.quality import REASONS, count_words, judge
from data_jobs.text.normalise import normalise
from tests.conftest import needs

DATA = Path(__file__).parents[3].parent / "shared/data"
RANDOM = random.Random(7)
BAD = {
    "empty": " \n ",
    "too_few_words": "attribute name",
    "garbled": "What \ufffd\ufffd\ufffd\ufffd was \ufffd\ufffd\ufffd this once",
    "placeholder_text": "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.",
    "mostly_symbols": "So it goes: " + "=+#*-|_~ " * 40,
    "long_words": " ".join(base64.b64encode(RANDOM.randbytes(150)).decode() for _ in range(6)),
    "repeated_lines": "A line that is the same every time\n" * 30,
    "repeated_phrases": "buy cheap pills now " * 60,
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_rule_drops_what_it_names(reason: str) -> None:
    assert judge(BAD[reason], min_words=3).reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "Return the sum.",
        "S.find(sub) -> int",
        "这是一个测试文档。",
        "สวัสดีชาวโลก",
        "for i in range(10):\n    print(i, i ** 2)",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "x\n" * 5 + "three more words",
        "This mentions lorem ipsum as a filler text used by typesetters.",
        "\n".join(f"    case {i}: return handle_{i}(request)" for i in range(40)),
    ],
)
def test_good_documents_stay(text: str) -> None:
    assert judge(text, min_words=3).keep


def test_words_of_scripts_without_spaces_are_counted() -> None:
    assert count_words("这是文档 two words") == 6


@pytest.mark.parametrize("name", ["multi_udhr/udhr.jsonl", "pretrain_docs_rustbook/docs.jsonl"])
def test_real_documents_in_many_languages_stay(name: str) -> None:
    path = DATA / name
    needs(path.exists(), f"the data set {path}")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    dropped = [row.get("name") or row["id"] for row in rows if not judge(normalise(row["text"]), 3).keep]
    assert dropped == []
