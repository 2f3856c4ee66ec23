"""Answers from passages that a reader read: whether, from which passage first, and which sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.passage_reader import PassageReader
from data_jobs.retrieval.results import Retrieval, WindowReading
from data_jobs.retrieval.support import CONFIDENCE_MODEL, combined, confidence, log_odds, support_model
from tests.fakes import WordReader
from tests.train_jobs.answering.retrievals import HANDBOOK, passage, retrieval
from train_jobs.answering.abstention import CAREFUL, UNREAD, support, threshold_of
from train_jobs.answering.prompt import lay_out
from train_jobs.answering.quote import answer

SECTION = AnswerSection()
LEAVE = "How many days of paid leave do employees have a year?"


def read(found: Retrieval, *sure: float, at: tuple[int, str] | None = None) -> Retrieval:
    """With one reading a passage; ``at``: the passage and the words that the reader points at."""
    readings = []
    for number, (one, chance) in enumerate(zip(found.passages, sure, strict=False)):
        span = (one.start, one.start)
        if at and at[0] == number:
            place = one.start + one.text.index(at[1])
            span = (place, place + len(at[1]))
        readings.append(WindowReading(number, one.start, one.end, chance, *span, chance))
    return replace(found, reader="read", readings=tuple(readings))


def test_the_reader_decides_whether_the_passages_answer() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    assert support(LEAVE, found).grounded
    refused = support(LEAVE, read(found, 0.01, 0.01))
    assert (refused.grounded, refused.reason) == (False, "low_support")
    sure = support(LEAVE, read(found, 0.99, 0.01))
    assert sure.grounded
    assert refused.probability < 0.2 < 0.8 < sure.probability
    assert confidence(LEAVE, read(found, 0.2, 0.99)).probability == pytest.approx(sure.probability)


def test_more_of_either_evidence_never_means_less_confidence() -> None:
    model = support_model(CONFIDENCE_MODEL)
    assert set(model.features) <= {"reader", "support", "unlike"}
    signs = {"reader": 1, "support": 1, "unlike": -1}
    assert all(c * signs[name] > 0 for name, c in zip(model.features, model.coefficients, strict=True))
    assert model.features[0] == "reader"
    assert log_odds(0.0) == -log_odds(1.0) == -7.0


def test_what_the_reader_points_at_must_be_of_the_kind_asked_for() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    number = read(found, 0.8, at=(0, "28 days"))
    assert combined(LEAVE, number, 0.9)["unlike"] == 0
    name = "Which approval do flights need?"
    elsewhere = read(retrieval(LEAVE, HANDBOOK), 0.0, 0.8, at=(1, "approval of a director"))
    assert combined(LEAVE, replace(elsewhere, readings=elsewhere.readings[1:]), 0.9)["unlike"] == 1
    assert combined(name, replace(elsewhere, readings=elsewhere.readings[1:]), 0.9)["unlike"] == 0
    both = combined(LEAVE, read(found, 0.3, 0.8, at=(1, "approval of a director")), 0.9)
    assert (both["unlike"], both["reader"]) == (0, log_odds(0.3)), "what is of the kind goes before"


def test_the_threshold_is_the_index_s_own_else_careful_else_as_without_a_reader() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    assert threshold_of(found) == UNREAD
    assert threshold_of(replace(found, threshold=0.9)) == UNREAD, "its evidence is of a reader's confidence"
    assert threshold_of(replace(found, reader="failed", threshold=0.9)) == UNREAD
    once = read(found, 0.85, 0.1)
    assert threshold_of(once) == threshold_of(replace(once, threshold=0.1)) == CAREFUL
    assert threshold_of(replace(found, reader="spared", threshold=0.9)) == UNREAD
    sure = confidence(LEAVE, once).probability
    assert support(LEAVE, replace(once, threshold=sure - 0.01)).grounded
    assert not support(LEAVE, replace(once, threshold=sure + 0.01)).grounded
    assert support(LEAVE, replace(once, threshold=sure + 0.01), 0.1).grounded, "a threshold that was set wins"


def test_a_question_that_only_names_a_document_is_answered_and_one_that_asks_more_is_not() -> None:
    pages = [passage("pep-0572.rst", "PEP 572 names results within expressions.", kind="file")]
    for question, grounded in (("What is PEP 572 about?", True), ("Who painted PEP 572 yellow?", False)):
        found = read(retrieval(question, pages), 0.02)
        assert support(question, replace(found, threshold=0.9)).grounded is grounded


def test_what_the_reader_points_at_is_said_first_and_the_search_s_best_behind_it() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    plain = answer(LEAVE, found, SECTION)
    for unsure in (read(found, 0.9, 0.99), read(found, 0.9, 0.0, at=(1, "a director"))):
        said = answer(LEAVE, unsure, SECTION)
        assert (said.text, said.citations) == (plain.text, plain.citations), "it points nowhere, or does not mean it"
    assert plain.text.startswith('Leave policy: "Employees') or plain.text.startswith('"Employees')
    said = answer(LEAVE, read(found, 0.9, 0.1, at=(0, "two weeks before it starts")), SECTION)
    assert said.text.index("two weeks before it starts") < said.text.index("28 days")
    assert said.citations[0].document == "leave.md"
    assert not answer(LEAVE, read(found, 0.02, 0.01), SECTION).grounded


ASIDE = "which is a matter of long custom among those who have worked here since the very first of our offices opened"


def test_a_sentence_is_cut_around_what_the_reader_points_at() -> None:
    text = f"Paid leave of employees, {ASIDE}, and {ASIDE}, is said to be {ASIDE} at most 28 days.\n"
    found = retrieval(LEAVE, [passage("leave.md", text, kind="file", title="Leave")])
    assert "28 days" not in answer(LEAVE, found, SECTION).text
    said = answer(LEAVE, read(found, 0.9, at=(0, "at most 28 days")), SECTION)
    assert "at most 28 days." in said.text
    assert len(said.text.split()) <= SECTION.max_words


def test_the_first_sentence_is_whole_where_an_answer_has_room_for_it() -> None:
    text = f"Paid leave of employees, {ASIDE}, and {ASIDE}, is 28 days.\n"
    assert 40 < len(text.split()) < SECTION.max_words
    said = answer(LEAVE, retrieval(LEAVE, [passage("leave.md", text, kind="file", title="Leave")]), SECTION)
    assert said.text == f'"{text.strip()}" [1]'


def test_whole_answers_with_a_reader() -> None:
    found = PassageReader(WordReader()).read(retrieval(LEAVE, HANDBOOK))
    said = answer(LEAVE, found, SECTION)
    assert said.grounded
    assert said.citations[0].document == "leave.md"
    assert "28 days" in said.text
    missing = "How many days of paid leave do pilots have a year?"
    assert not answer(missing, PassageReader(WordReader()).read(retrieval(missing, HANDBOOK)), SECTION).grounded


def test_a_pointing_model_reads_the_evidence_it_was_taught() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    plain = lay_out(LEAVE, found, SECTION, len, 2000)
    assert lay_out(LEAVE, read(found, 0.01, 0.99, at=(1, "Flights")), SECTION, len, 2000) == plain


def test_passages_that_no_reader_saw_are_judged_as_without_one() -> None:
    found = retrieval(LEAVE, HANDBOOK)
    rest = read(found, 0.99).only([1])
    assert (rest.reader, rest.readings) == ("read", ())
    assert confidence(LEAVE, rest) == confidence(LEAVE, found.only([1]))
    assert threshold_of(rest) == UNREAD
