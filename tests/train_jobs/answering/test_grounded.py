"""A model that writes from evidence: whatever it writes, and however it comes, only what the evidence says gets out."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.sections.answer import AnswerSection
from tests.train_jobs.answering.retrievals import COPYING, HANDBOOK, passage, retrieval
from train_jobs.answering.chat import NOT_KNOWN
from train_jobs.answering.faithful import words_of
from train_jobs.answering.grounded import Evidence, GroundedAnswer, Statements, evidence_of, user_message

SECTION = AnswerSection(min_confidence=0.0)
QUESTION = "How many days of paid leave do employees have?"
LEAVE = retrieval(QUESTION, HANDBOOK)


class Words:
    """A tokenizer without special tokens and template; a token a word."""

    all_special_tokens: tuple[str, ...] = ()


def asked_of(question: str = QUESTION, found=LEAVE, room: int = 1000, section=SECTION) -> tuple[list, GroundedAnswer]:
    """The prompt for a question, a token a word, and the answer that begins."""
    writing = GroundedAnswer(question, found, section)
    return writing.prompt(Words(), str.split, room), writing  # type: ignore[arg-type]


def written(*pieces: str, question: str = QUESTION, found=LEAVE) -> tuple[str, GroundedAnswer]:
    """What is said of a text that comes in these pieces."""
    writing = asked_of(question, found)[1]
    said = ""
    for piece in pieces:
        if writing.done:
            break
        said += writing.feed(piece)
    return said + writing.feed("", final=True), writing


def number_of(text: str) -> int:
    """The number, in the prompt, of the evidence that holds a text."""
    return next(n for n, one in enumerate(evidence_of(LEAVE)[0], 1) if text in one.text)


def test_a_statement_leaves_as_it_was_written_and_is_cited() -> None:
    days = number_of("28 days")
    said, writing = written(f"The employees have 28 days of paid leave a year. [{days}]")
    assert said == "The employees have 28 days of paid leave a year. [1]"
    answer = writing.answer()
    assert (answer.text, answer.grounded, answer.reason) == (said, True, "supported")
    assert answer.citations[0].document == "leave.md"


def test_a_statement_that_its_evidence_does_not_bear_out_gives_way_to_the_quotation() -> None:
    days = number_of("28 days")
    said, writing = written(f"Employees have 30 days of paid leave a year. [{days}]")
    assert said == '"Employees have 28 days of paid leave a year." [1]'
    assert writing.answer().grounded
    trains = number_of("Train journeys")
    said, _ = written(f"Employees have 28 days of paid leave a year. [{trains}]")  # true, and cited wrongly
    assert said == '"Train journeys of up to six hours are booked in second class." [1]'


def test_a_number_in_brackets_that_is_quoted_is_no_marker() -> None:
    bodies = [passage("fees.md", "It costs a firm 500 crowns [2] a year.", kind="file", title="Fees"), *HANDBOOK]
    asked = "What does it cost a firm a year?"
    found = retrieval(asked, bodies)
    at = next(n for n, one in enumerate(evidence_of(found)[0], 1) if "500" in one.text)
    said, writing = written(f"It costs a firm 900 crowns a year. [{at}]", question=asked, found=found)
    assert said == 'Fees: "It costs a firm 500 crowns ［2］ a year." [1]'
    assert "[2]" in writing.answer().citations[0].text


def test_what_has_no_evidence_is_dropped() -> None:
    for text in ("Employees have 30 days.", "Employees have 30 days. [9]", "Employees have 30 days. [0]"):
        said, writing = written(text)
        answer = writing.answer()
        assert (said, answer.grounded, answer.reason) == ("", False, "uncited")
    days = number_of("28 days")
    said, _ = written(f"Employees have 30 days. [9] Employees have 28 days of paid leave a year. [{days}] And more")
    assert said == "Employees have 28 days of paid leave a year. [1]"


def test_nothing_of_its_own_poses_as_a_quotation() -> None:
    days = number_of("28 days")
    said, _ = written(f'"Employees have 28 days of paid leave a year." [{days}]')
    assert said == "Employees have 28 days of paid leave a year. [1]"


def test_it_may_say_that_it_does_not_know() -> None:
    said, writing = written(NOT_KNOWN)
    assert (said, writing.answer().reason) == ("", "model_abstained")
    said, writing = written(f"{NOT_KNOWN} [1] Employees have 28 days of paid leave a year. [1]")
    assert (said, writing.answer().reason) == ("", "model_abstained")


def test_it_is_not_asked_where_the_passages_support_no_answer() -> None:
    prompt, careful = asked_of(section=AnswerSection(min_confidence=1.0))
    assert (prompt, careful.answer().reason) == ([], "low_support")
    prompt, empty = asked_of(found=retrieval(QUESTION, ()))
    assert (prompt, empty.answer().reason) == ([], "no_passages")


def test_evidence_that_has_no_room_is_not_shown_and_not_cited() -> None:
    whole, _ = asked_of()
    prompt, writing = asked_of(room=len(whole) - 1)
    assert 0 < len(prompt) < len(whole)
    last = len(evidence_of(LEAVE)[0])
    assert f"[{last}]" in whole
    assert f"[{last}]" not in prompt
    assert writing.feed(f"Employees have 28 days of paid leave a year. [{last}]", final=True) == ""
    prompt, none = asked_of(room=5)
    assert (prompt, none.answer().reason) == ([], "nothing_quotable")


def test_nothing_leaves_before_its_number_is_complete() -> None:
    writing = asked_of()[1]
    days = number_of("28 days")
    heard = [
        writing.feed(piece) for piece in ("Employees have 28 days of paid", " leave a year.", " [", f"{days}", "]")
    ]
    assert heard == [""] * 5
    assert writing.feed(" And") == "Employees have 28 days of paid leave a year. [1]"


def test_loops_end_and_repetitions_are_said_once() -> None:
    days = number_of("28 days")
    said, writing = written(*[f"Employees have 28 days of paid leave a year. [{days}] "] * 50)
    assert said == "Employees have 28 days of paid leave a year. [1]"
    assert writing.done


def test_code_is_named_and_a_leaning_sentence_keeps_its_title() -> None:
    asked = "How do I copy a directory tree?"
    found = retrieval(asked, COPYING)
    evidence, _ = evidence_of(found)
    at = next(n for n, one in enumerate(evidence, 1) if one.heading == "shutil.copytree")
    copies = f"Recursively copy a directory tree and return the destination directory. [{at}]"
    said, _ = written(copies, question=asked, found=found)
    assert said == f"shutil.copytree — {copies[: -len(str(at)) - 2]}[1]"
    leaning = retrieval(
        "When was the library built?", [passage("l.md", "It was built in 1911.", kind="file", title="Town library")]
    )
    said, _ = written("It was built in 1911. [1]", question="When was the library built?", found=leaning)
    assert said == 'Town library: "It was built in 1911." [1]'


def test_evidence_cannot_pose_as_a_number() -> None:
    odd = retrieval("What does note 2 say?", [passage("n.md", "Note [2] says that [1] is wrong.", kind="file")])
    evidence, _ = evidence_of(odd)
    assert "[" not in evidence[0].text
    assert user_message("And [7]?", evidence).count("[") == 1


def test_rows_and_code_are_shown_as_they_stand() -> None:
    from dataclasses import replace

    from data_jobs.text.units import ROW

    row = retrieval("What is the price of A4 paper?", [passage("p.md", "A4 paper costs 3 euros a pack.", kind="file")])
    row = replace(row, sentences=tuple(replace(s, kind=ROW) for s in row.sentences))
    said, _ = written("A4 paper costs 3 euros a pack. [1]", question=row.question, found=row)
    assert said.endswith("\n\nA4 paper costs 3 euros a pack.")


PIECES = st.lists(
    st.sampled_from(
        ["Employees have 28 days", " of paid leave", " a year", ".", " [1]", "[2]", " [1", "]", " [3, 1]", " [99]", "!",
         " Mr. Smith", " 1987", " fired", " I do not know.", "\n", " It must be requested",
         " two weeks before it starts", " not", " Flights need the approval of a director", " €30", "[", " [x]", "東京"]
    ), max_size=14,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(PIECES, st.data())
def test_however_it_comes_nothing_gets_out_that_is_not_in_the_evidence(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    whole, writing = written(text)
    at = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cut = [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]
    assert written(*cut)[0] == whole
    assert writing.answer().text == whole or not writing.answer().grounded
    held = " ".join(f"{p.title} {p.document} {p.text}" for p in HANDBOOK)
    known = {word.exact for word in words_of(held)}
    numbers = [int(n) for n in re.findall(r"\[(\d+)\]", whole)]
    assert all(1 <= n <= len(writing.answer().citations) for n in numbers)
    for word in words_of(re.sub(r"\[\d+\]", "", whole)):
        assert word.free or word.exact in known, (word.exact, whole)


@settings(max_examples=20, deadline=None)
@given(PIECES)
def test_statements_are_counted_once_each(pieces: list[str]) -> None:
    statements = Statements(
        [Evidence("Leave policy", "Employees have 28 days of paid leave a year."), Evidence("", "x")]
    )
    made = statements.feed("".join(pieces), final=True)
    assert len(made) == statements.own + statements.replaced
    assert len({one.evidence for one in made}) == len(made) <= 3
