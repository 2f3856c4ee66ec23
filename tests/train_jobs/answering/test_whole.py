"""Rows and code as answers show them: whole lines, Markdown that renders, limits kept."""

from __future__ import annotations

import pytest

from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.text.units import units
from tests.train_jobs.answering.retrievals import passage, retrieval
from train_jobs.answering.prompt import candidates
from train_jobs.answering.quote import answer
from train_jobs.answering.whole import shown_code, shown_rows, words


@pytest.mark.parametrize(
    ("rows", "header", "shown"),
    [
        (["| 1 | 2 |"], "| a | b |\n|---|---|", "| a | b |\n|---|---|\n| 1 | 2 |"),
        (["1 | 2", "3 | 4"], "a | b", "a | b\n--- | ---\n1 | 2\n3 | 4"),
        (["| 1 | 2 |"], "| a | b |", "| a | b |\n|---|---|\n| 1 | 2 |"),
        (["| 1 |"], "", "| 1 |"),
        (["1  2"], "=  =\na  b\n=  =", "```\n=  =\na  b\n=  =\n1  2\n```"),
        (["name: x\nprice: 3"], "", "name: x\nprice: 3"),
    ],
)
def test_rows(rows: list[str], header: str, shown: str) -> None:
    assert shown_rows(rows, header) == shown


@pytest.mark.parametrize(
    ("code", "header", "indent", "shown"),
    [
        ("```sh\nls\n```", "", 0, "```sh\nls\n```"),
        ("````\n```\n````", "", 0, "````\n```\n````"),
        ("b()\n```", "```py", 0, "```py\nb()\n```"),
        ("if x:\n        y()", "", 4, "```\nif x:\n    y()\n```"),
        (".. code:: py\n   :linenos:\n\n   a = 1", "", 0, "```py\na = 1\n```"),
        ("```\n   ls\n   ```", "", 3, "```\nls\n```"),
        ("a b\nc d\ne f", "", 0, "```\na b\nc d\n…\n```"),
        ("a()\nb(\n  c d e f,\n  g)", "", 0, "```\na()\n…\n```"),  # no call is cut within
        ("a()\nb(\n  c,", "", 0, "```\na()\n…\n```"),  # its passage ended there
        ("b(\n  c,", "", 0, "```\nb(\n  c,\n```"),
        (":(\nb", "", 0, "```\n:(\nb\n```"),
        ("a\nb {\n  c\n  d\n  e\n  f\n}", "", 0, "```\na\nb {\n  c\n  d\n  e\n…\n```"),  # but a long block is
    ],
)
def test_code(code: str, header: str, indent: int, shown: str) -> None:
    assert shown_code(code, header, indent, 5) == shown


def of_units(question: str, text: str) -> Retrieval:
    base = retrieval(question, [passage("a.md", text, kind="file", title="Things")])
    found = tuple(
        ScoredSentence(0, u.start, u.end, text[u.start : u.end], 0.6, 0.5, u.kind, u.header,
                       u.lead[0] if u.led_by == "sentence" else -1)
        for u in units(text)
    )  # fmt: skip
    return Retrieval(question, base.passages, found, base.features)


def test_a_row_that_opens_an_answer_may_be_longer_than_others_but_not_without_end() -> None:
    def made(columns: int) -> str:
        names, cells = (" | ".join(f"{kind}{n}" for n in range(columns)) for kind in ("name", "value"))
        text = f"| {names} |\n|{'---|' * columns}\n| {cells} |"
        return answer("What is value3?", of_units("What is value3?", text), AnswerSection(max_words=20)).text

    assert made(8).endswith("| value0 | value1 | value2 | value3 | value4 | value5 | value6 | value7 |")
    assert made(20).startswith("Things [1]:\n\n| name0 |")
    assert words(made(60)) <= 21  # an excerpt


def test_headings_and_header_fields_are_context() -> None:
    text = "Title: The pump\nStatus: open\n\n# Pump\n\nThe pump moves water."
    found = of_units("What is the pump?", text)
    assert [one.sentence.text for one in candidates(found)] == ["The pump moves water."]
    assert answer("What is the pump?", found, AnswerSection()).text == '"The pump moves water." [1]'
    asked = of_units("What is the status of the pump?", text)
    assert '"Status: open" [1]' in answer(asked.question, asked, AnswerSection()).text
