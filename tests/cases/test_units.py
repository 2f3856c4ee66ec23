"""Tables and code are units, titles are titles: questions to an index of the cases' files, and of siblings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.records import Document
from cluster.core.sections.answer import AnswerSection
from data_jobs.extractors.protocol import Limits, Origin
from data_jobs.extractors.registry import extract
from data_jobs.retrieval.search import Searcher
from data_jobs.text.normalise import normalise
from tests.data_jobs.retrieval.conftest import publish, searcher  # noqa: F401 (fixtures)
from train_jobs.answering.quote import answer

CASE = Path(__file__).with_name("c14_table_longer_than_a_chunk")
EXPECTED = json.loads((CASE / "expected.json").read_text())["check"]
FILES = {path.name: path.read_text() for path in (CASE / "input").iterdir()} | {
    "steam.md": "# Steam\n\n| Temperature | Density | Heat |\n|---|---|---|\n"
    + "".join(f"| {d} | {900 - d} | 4.{d} |\n" for d in range(100, 400, 10)),
    "trains.txt": "Train | Destination | Platform\n"
    + "".join(f"IC {100 + n} | {town} | {n}\n" for n, town in enumerate(["Bern", "Genf", "Chur", "Thun", "Brig"] * 8)),
    "stock.csv": "sku,product,price,in stock\n" + "".join(f"P-{n},oak shelf {n},{n + 7},{n % 9}\n" for n in range(30)),
    "cables.rst": "Cables\n======\n\n+--------+--------+\n| Cable  | Length |\n+========+========+\n"
    "| K-10   | 12 m   |\n+--------+--------+\n| K-20   | 25 m   |\n+--------+--------+\n",
    "zapper.md": "# Zapper\n\nZapper removes old containers.\n\n## Installation\n\n````bash\n"
    "pip install zapper\n````\n\n"
    "It needs Python 3.11.\n\n## Use\n\nTo prune what is older than a week, run:\n\n    zapper prune --older 7d\n",
    "peps/pep-0572.rst": "PEP: 572\nTitle: Assignment Expressions\nAuthor: Somebody\nStatus: Final\n\n\nAbstract\n"
    "========\n\nThis is a proposal for assigning to variables within an expression.\n",
    "peps/pep-0008.rst": "PEP: 8\nTitle: Style Guide\nAuthor: Somebody\nStatus: Active\n\n\nAbstract\n========\n\n"
    "These are coding conventions. They were discussed with PEP 572.\n",
    "peps/pep-0484.rst": "PEP: 484\nTitle: Type Hints\nAuthor: Somebody\nStatus: Final\n\n\nAbstract\n========\n\n"
    "A provisional module provides standard definitions.\n",
    "tickets/ticket-4711.md": "Title: Printer offline\nStatus: open\n\n## Summary\n\nThe printer does not respond.\n",
}
QUESTIONS = [(case["q"], case["contains"]) for case in EXPECTED["questions"]] + [
    ("What is the density at a temperature of 330?", ["| Temperature | Density | Heat |", "| 330 | 570 | 4.330 |"]),
    ("Where does the train IC 138 go?", ["Train | Destination | Platform", "IC 138 | Thun | 38"]),
    ("What is the price of P-17?", ["sku: P-17\nproduct: oak shelf 17\nprice: 24\nin stock: 8"]),
    ("How long is cable K-20?", ["| Cable  | Length |", "| K-20   | 25 m   |"]),
    ("How do I install Zapper?", ["```bash\npip install zapper\n```"]),
    (
        "How do I prune what is older than a week?",
        ['older than a week, run:" [1]', "```\nzapper prune --older 7d\n```"],
    ),
    ("What is PEP 572 about?", ['"This is a proposal for assigning to variables within an expression." [1]']),
    ("What is ticket #4711 about?", ['"The printer does not respond." [1]']),
    ("What is the status of ticket-4711?", ['"Status: open" [1]']),
]


@pytest.fixture(scope="module")
def found(searcher: Callable[[Sequence[Document]], Searcher]) -> Searcher:  # noqa: F811
    documents = []
    for path, text in FILES.items():
        for record in extract(text.encode(), Origin(path, "cases", "", len(text)), Limits()):
            assert isinstance(record, Document)
            documents.append(replace(record, text=normalise(record.text)))
    return searcher(documents)


@pytest.mark.parametrize(("question", "contained"), QUESTIONS, ids=[question for question, _ in QUESTIONS])
def test_the_answer_shows_the_whole_unit(found: Searcher, question: str, contained: list[str]) -> None:
    made = answer(question, found.search(question), AnswerSection())
    assert made.grounded
    assert [part for part in contained if part not in made.text] == []


def test_every_chunk_of_a_table_holds_its_column_names_and_whole_rows(found: Searcher) -> None:
    table = FILES["prices.md"]
    chunks = [chunk for chunk in found.snapshot.chunks if chunk.document == "prices.md"]
    assert len(chunks) > 2
    for chunk in chunks:
        assert all(name in f"{chunk.context}\n{chunk.text}" for name in EXPECTED["every_chunk"])
        assert chunk.text == table[chunk.start : chunk.end]
        assert set(chunk.text.split("\n")) <= set(table.split("\n"))


@pytest.mark.parametrize(
    "question",
    [
        "How many seats has the Airbus A380?",
        "What does PEP 9999 say?",
        "Who is Napoleon?",
        "What is the favourite colour of plan Willow?",
        "How do I install Plan Willow?",
    ],
)
def test_what_is_in_no_row_and_no_document_stays_unknown(found: Searcher, question: str) -> None:
    assert not answer(question, found.search(question), AnswerSection()).grounded
