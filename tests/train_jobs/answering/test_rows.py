"""Which questions a row of a table may answer: 36 that it does, 32 that only name what it is about."""

from __future__ import annotations

import pytest

from data_jobs.retrieval.results import ScoredSentence
from train_jobs.answering.select import answers

TABLES = {
    "pumps": (
        "| Pump | Flow l/min | Head m | Weight kg | Seal |",
        "| Otter 20 | 20 | 14 | 6.5 | ceramic |",
        "| Otter 45 | 45 | 22 | 9 | carbon |",
        "| Heron 80 | 80 | 30 | 17 | ceramic |",
    ),
    "staff": (
        "| Name | Role | Office | Extension | Started |",
        "| Ines Duarte | payroll clerk | B12 | 204 | 2019 |",
        "| Karl Brenner | warehouse lead | W3 | 311 | 2015 |",
        "| Aiko Mori | lawyer | C7 | 118 | 2021 |",
    ),
    "clinic": (
        "| Vaccine | Doses | Interval weeks | Minimum age | Storage |",
        "| Tetavax | 3 | 4 | 2 months | 2-8 C |",
        "| Ravira | 2 | 12 | 12 years | -20 C |",
        "| Polisan | 4 | 8 | 6 weeks | 2-8 C |",
    ),
    "ferries": (
        "| Line | Port | Departs | Arrives | Fare |",
        "| F1 | Esbjerg | 06:10 | 18:40 | 84 euros |",
        "| F2 | Hull | 20:30 | 08:15 | 120 euros |",
        "| F3 | Gdynia | 09:00 | 19:45 | 66 euros |",
    ),
    "flags": (
        "| Option | Default | Meaning |",
        "| --retries | 3 | how often a failed upload is tried again |",
        "| --depth | 5 | levels of folders that are listed |",
        "| --mute | off | print no progress |",
    ),
}
# Table, row, question.
ANSWERED = [
    ("pumps", 1, "What is the flow of the Otter 20?"),
    ("pumps", 2, "How heavy is the Otter 45?"),
    ("pumps", 3, "Which seal does the Heron 80 have?"),
    ("pumps", 2, "How many litres a minute does the Otter 45 move?"),
    ("pumps", 3, "What head does the Heron 80 reach?"),
    ("pumps", 1, "How much does the pump Otter 20 weigh?"),
    ("pumps", 3, "What is the Heron 80's weight?"),
    ("staff", 1, "What is the extension of Ines Duarte?"),
    ("staff", 2, "In which office is Karl Brenner?"),
    ("staff", 3, "When did Aiko Mori start?"),
    ("staff", 3, "What does Aiko Mori do?"),
    ("staff", 2, "What role does Karl Brenner have?"),
    ("staff", 1, "Who is the payroll clerk?"),
    ("staff", 2, "How do I reach Karl Brenner?"),
    ("staff", 1, "How can I call Ines Duarte?"),
    ("clinic", 1, "How many doses of Tetavax are needed?"),
    ("clinic", 2, "From what age is Ravira given?"),
    ("clinic", 3, "How is Polisan stored?"),
    ("clinic", 2, "What is the interval of Ravira?"),
    ("clinic", 1, "How should I store Tetavax?"),
    ("clinic", 2, "At what temperature is Ravira kept?"),
    ("clinic", 3, "How long do I wait between doses of Polisan?"),
    ("ferries", 1, "When does the ferry to Esbjerg leave?"),
    ("ferries", 2, "What is the fare to Hull?"),
    ("ferries", 3, "When does line F3 arrive?"),
    ("ferries", 2, "How much does the ferry to Hull cost?"),
    ("ferries", 1, "Which line goes to Esbjerg?"),
    ("ferries", 3, "When does the boat to Gdynia depart?"),
    ("ferries", 1, "What time does F1 arrive?"),
    ("flags", 1, "What does --retries mean?"),
    ("flags", 2, "What is the default of --depth?"),
    ("flags", 3, "How do I print no progress?"),
    ("flags", 1, "How often is a failed upload tried again?"),
    ("flags", 2, "How do I list more levels of folders?"),
    ("flags", 3, "What does the option --mute do?"),
    ("flags", 2, "How many levels of folders are listed?"),
]
MISSED = [
    ("pumps", 1, "How do I install the Otter 20?"),
    ("pumps", 2, "How can I clean the Otter 45?"),
    ("pumps", 3, "Who makes the Heron 80?"),
    ("pumps", 3, "Why does the Heron 80 leak?"),
    ("pumps", 1, "Where can I buy the Otter 20?"),
    ("pumps", 2, "What colour is the Otter 45?"),
    ("pumps", 1, "How to winterise the pump Otter 20?"),
    ("pumps", 3, "What does the Heron 80 cost?"),
    ("staff", 1, "How do I replace Ines Duarte?"),
    ("staff", 2, "What is the salary of Karl Brenner?"),
    ("staff", 3, "Who does Aiko Mori report to?"),
    ("staff", 1, "Why was Ines Duarte promoted?"),
    ("staff", 2, "Where was Karl Brenner born?"),
    ("staff", 3, "What did Aiko Mori study?"),
    ("clinic", 1, "How do I dilute Tetavax?"),
    ("clinic", 2, "Why is Ravira recommended?"),
    ("clinic", 3, "Who developed Polisan?"),
    ("clinic", 1, "What are the side effects of Tetavax?"),
    ("clinic", 2, "How can I thaw Ravira?"),
    ("clinic", 3, "Is Polisan safe during pregnancy?"),
    ("clinic", 2, "How do you inject Ravira?"),
    ("ferries", 1, "How do I cancel the ferry to Esbjerg?"),
    ("ferries", 2, "Why was the ferry to Hull late?"),
    ("ferries", 3, "Who operates line F3?"),
    ("ferries", 2, "How can I board a bicycle on the Hull line?"),
    ("ferries", 1, "Where does the ferry Esbjerg dock?"),
    ("ferries", 3, "How do I change a booking for Gdynia?"),
    ("flags", 1, "How do I uninstall --retries?"),
    ("flags", 2, "Who wrote --depth?"),
    ("flags", 3, "Why was --mute deprecated?"),
    ("flags", 2, "How do I debug --depth?"),
    ("flags", 1, "When was --retries added?"),
]


def answered(table: str, row: int, question: str) -> bool:
    header, text = TABLES[table][0], TABLES[table][row]
    rule = "|" + "---|" * (header.count("|") - 1)
    return answers(ScoredSentence(0, 0, len(text), text, 0.5, 0.5, "row", f"{header}\n{rule}"), question)


def test_rows_answer_what_their_columns_say() -> None:
    """The five that are refused use other words than the table (cost, move, leave, reach)."""
    assert sum(answered(*one) for one in ANSWERED) >= 31


def test_rows_do_not_answer_whatever_names_them() -> None:
    """Those that remain ask who, when, where, or for a column that is not there. Before: 26 of 32."""
    assert sum(answered(*one) for one in MISSED) <= 12
    asked = [one for one in MISSED if one[2].startswith(("How do", "How can", "How to", "Why"))]
    assert not any(answered(*one) for one in asked)


@pytest.mark.parametrize(
    ("header", "row", "question", "right"),
    [
        ("| Order | State | Reason |", "| A-17 | refused | no stock |", "Why was order A-17 refused?", True),
        ("| Order | State |", "| A-17 | refused |", "Why was order A-17 refused?", False),
        ("| Command | Use |", "| ls -a | list hidden files |", "How do I list hidden files?", True),
        ("| Tarif | Preis |", "| Fuchs | 5 Euro |", "Wie installiere ich den Tarif Fuchs?", False),
    ],
)
def test_how_and_why_need_a_word_for_it(header: str, row: str, question: str, right: bool) -> None:
    assert answers(ScoredSentence(0, 0, len(row), row, 0.5, 0.5, "row", header), question) is right
