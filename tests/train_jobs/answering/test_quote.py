"""The quote tier: nothing invented, nothing over its limits, and it says when it does not know."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.records import Answer, Citation, Passage
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval
from tests.train_jobs.answering.retrievals import COPYING, HANDBOOK, passage, retrieval
from train_jobs.answering.abstention import UNREAD
from train_jobs.answering.conversation import leans_on_before, standalone_question
from train_jobs.answering.quote import UNKNOWN, answer

SECTION = AnswerSection()
COPY_QUESTION = "How do I copy a directory tree?"
LEAVE_QUESTION = "How many days of paid leave do employees have?"


def joined(text: str) -> str:
    return " ".join(text.split())


def markers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r" \[(\d+)\]", text)]


def assert_citations_hold(made: Answer, found: Retrieval) -> None:
    by_chunk = {one.chunk: one for one in found.passages}
    for citation in made.citations:
        body = by_chunk[citation.chunk]
        start, end = citation.span
        assert body.start <= start < end <= body.start + len(body.text)
        assert body.text[start - body.start : end - body.start] == citation.text


def assert_quotes_are_verbatim(made: Answer, found: Retrieval) -> None:
    """Between quotation marks stands what the cited span holds, white space joined, ellipses at the ends aside."""
    for shown, number in re.findall(r'"(.*?)" \[(\d+)\]', made.text):
        core = shown.removeprefix("… ").removesuffix(" …")
        body = next(one for one in found.passages if one.chunk == made.citations[int(number) - 1].chunk)
        assert core in joined(body.text)


def test_names_the_best_function_first_with_its_summary() -> None:
    made = answer(COPY_QUESTION, retrieval(COPY_QUESTION, COPYING), SECTION)
    assert made.grounded
    assert made.reason == "supported"
    lead = 'shutil.copytree — "Recursively copy a directory tree and return the destination directory." [1]'
    assert made.text.startswith(lead)
    assert "See also shutil.copy2" in made.text
    assert made.citations[0].document == "shutil.copytree"
    assert len(made.citations) == 5


def test_markers_are_the_places_of_the_citations() -> None:
    made = answer(COPY_QUESTION, retrieval(COPY_QUESTION, COPYING), SECTION)
    named = re.findall(r"(shutil\.\w+|os\.\w+)[^\[]*\[(\d+)\]", made.text)
    assert len(named) >= 2
    for name, number in named:
        assert made.citations[int(number) - 1].document == name


def test_citation_spans_are_offsets_in_the_document() -> None:
    found = retrieval(COPY_QUESTION, COPYING)
    made = answer(COPY_QUESTION, found, SECTION)
    assert_citations_hold(made, found)
    third = next(citation for citation in made.citations if citation.document == "shutil.copy")
    assert third.span[0] >= 40  # its passage begins there


def test_quotes_prose_without_names() -> None:
    found = retrieval(LEAVE_QUESTION, HANDBOOK)
    made = answer(LEAVE_QUESTION, found, SECTION)
    assert made.grounded
    assert '"Employees have 28 days of paid leave a year." [1]' in made.text
    assert_quotes_are_verbatim(made, found)
    assert_citations_hold(made, found)
    assert "# Leave" not in made.text


def test_a_leaning_sentence_comes_with_its_title() -> None:
    text = "It must be requested two weeks before it starts."
    found = retrieval("When must leave be requested?", [passage("leave.md", text, kind="file", title="Leave policy")])
    made = answer("When must leave be requested?", found, SECTION)
    assert made.text == f'Leave policy: "{text}" [1]'


def test_a_number_in_brackets_that_is_quoted_is_no_marker() -> None:
    text = "It costs a firm 500 crowns [2] a year [12, 14]."
    bodies = [passage("fees.md", text, kind="file", title="Fees [3]"), passage("b.md", "Boats.", 0.2, kind="file")]
    found = retrieval("What does it cost a firm a year?", bodies)
    made = answer("What does it cost a firm a year?", found, SECTION)
    assert markers(made.text) == [1]
    assert "crowns ［2］ a year ［12, 14］." in made.text
    assert made.text.startswith("Fees ［3］: ")
    assert_quotes_are_verbatim(replace(made, text=unicodedata.normalize("NFKC", made.text)), found)
    assert made.citations[0].text == text, "the passage is as it is"


def test_what_a_thing_is_is_answered_by_the_sentence_that_defines_it() -> None:
    text = "If not provided, the span kind is internal. A span is a unit of work. Span attributes are metadata."
    found = retrieval("What is a span?", [passage("spans.md", text, kind="file")])
    assert answer("What is a span?", found, SECTION).text.startswith('"A span is a unit of work." [1]')


def test_list_marks_are_not_quoted() -> None:
    found = retrieval(
        "Who approves flights?", [passage("t.md", "- Flights need the approval of a director.", kind="file")]
    )
    assert answer("Who approves flights?", found, SECTION).text == '"Flights need the approval of a director." [1]'


def test_abstains_without_passages() -> None:
    made = answer("Anything?", Retrieval("Anything?"), SECTION)
    assert (made.grounded, made.reason, made.citations, made.confidence) == (False, "no_passages", (), 0.0)
    assert made.text == UNKNOWN


def test_abstains_from_what_the_passages_do_not_support() -> None:
    weak = dict.fromkeys(("top_dense", "mean_dense", "top_sentence", "coverage_1", "coverage_3"), 0.1)
    question = "How long should I boil an egg?"
    made = answer(question, retrieval(question, COPYING, dense=0.1, features=weak), SECTION)
    assert (made.grounded, made.reason, made.citations) == (False, "low_support", ())
    assert made.confidence < UNREAD
    assert "do not know" in made.text


def test_an_unknown_name_is_the_reason() -> None:
    question = "How do I copy a directory tree with shutil.copytree_async?"
    strange = {"unknown_identifiers": 2.0, "unknown": 0.6, "strange_words": 2.0, "coverage_1": 0.3}
    made = answer(question, retrieval(question, COPYING, dense=0.4, features=strange), SECTION)
    assert (made.grounded, made.reason) == (False, "unknown_terms")


def test_the_threshold_decides() -> None:
    found = retrieval(COPY_QUESTION, COPYING)
    sure = answer(COPY_QUESTION, found, SECTION)
    assert 0.5 < sure.confidence < 1
    assert not answer(COPY_QUESTION, found, AnswerSection(min_confidence=1.0)).grounded
    assert answer(COPY_QUESTION, found, AnswerSection(min_confidence=0.0)).grounded


def test_over_long_prompts_drop_the_lowest_passages_and_say_so() -> None:
    padding = "word " * SECTION.prompt_tokens
    question = f"{COPY_QUESTION} {padding}"
    made = answer(question, retrieval(COPY_QUESTION, COPYING), SECTION)
    assert made.dropped_passages == len(COPYING) - 1
    assert {citation.document for citation in made.citations} <= {COPYING[0].document}
    assert "5 lower-ranked passages left out: prompt too long." in made.text
    assert answer(COPY_QUESTION, retrieval(COPY_QUESTION, COPYING), SECTION).dropped_passages == 0


def test_a_quotation_full_of_names_does_not_exceed_the_names() -> None:
    text = "Like os.path.join(), os.path.split() and os.path.splitext(), it copies a directory tree."
    found = retrieval(COPY_QUESTION, [passage("shutil.copytree", text), *COPYING[1:]])
    made = answer(COPY_QUESTION, found, AnswerSection(max_names=2))
    assert made.text.startswith("shutil.copytree [1]")
    assert "os.path" not in made.text


def test_no_marker_without_a_citation() -> None:
    for limit in (1, 2, 3):
        made = answer(COPY_QUESTION, retrieval(COPY_QUESTION, COPYING), AnswerSection(max_citations=limit))
        assert markers(made.text) == list(range(1, len(markers(made.text)) + 1))
        assert len(markers(made.text)) <= len(made.citations) == limit


def test_answer_is_plain_json() -> None:
    made = answer(COPY_QUESTION, retrieval(COPY_QUESTION, COPYING), SECTION)
    row = json.loads(json.dumps(made.to_dict()))
    lists = {name: tuple(row[name]) for name in ("closest", "not_found")}
    back = Answer(**{**row, **lists, "citations": tuple(map(Citation.from_dict, row["citations"]))})
    assert back == made


@pytest.mark.parametrize(
    "piece",
    [" ", ".", "a_", "in x", "Aa ", "what is a ", "C# ", '"', "é", "json.loads ", "_", "in x. ", "A\n", "1'"],
)
def test_long_questions_cost_little(piece: str) -> None:
    question = (f"How do I copy {piece * 32_000}"[:32_000] + "!b") + " in x y"
    found = retrieval(question, COPYING)
    began = time.process_time()
    standalone_question([("user", COPY_QUESTION), ("user", question)])
    leans_on_before((piece * 200)[:190] + "'b")
    answer(question, found, SECTION)
    assert (
        time.process_time() - began < 3.0
    )  # of this process, whose threads may be at other work; quadratic cost takes minutes


WORDS = st.lists(
    st.sampled_from(
        ["copy", "tree", "directory", "a", "the", "os.path.join()", "json.loads", "file", "returns", '"quoted"', "[2]",
         "über", "ディレクトリ", "\n\n", "- ", "#", "x.y.z", "e.g.", "foo_bar", "word,", "end.", "why?", "`code`"]
    ),
    min_size=1,
    max_size=120,
)  # fmt: skip
NAMES = st.from_regex(r"[a-z]{2,8}(\.[a-zA-Z_]{2,12}){0,3}", fullmatch=True)


@st.composite
def searches(draw: st.DrawFn) -> Retrieval:
    kinds = st.sampled_from(["function", "method", "module", "file", "record"])
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    found: list[Passage] = []
    for place, name in enumerate(names):
        text = " ".join(draw(WORDS))
        found.append(passage(name, text, 1 - 0.1 * place, draw(kinds), draw(st.integers(0, 500)), title=draw(NAMES)))
    return retrieval("copy a directory tree", found, dense=draw(st.floats(-0.2, 1.0)))


@settings(max_examples=50, deadline=None)
@given(searches(), st.integers(10, 60), st.integers(1, 3), st.integers(1, 5), st.integers(64, 2000))
def test_limits_hold_whatever_was_found(found: Retrieval, words: int, names: int, citations: int, tokens: int) -> None:
    section = AnswerSection(
        max_words=words, max_names=names, max_citations=citations, prompt_tokens=tokens, min_confidence=0.0
    )
    made = answer("copy a directory tree", found, section)
    assert len(made.text.split()) <= max(words, len(UNKNOWN.split()))
    assert len(made.citations) <= citations
    assert_citations_hold(made, found)
    if made.grounded:
        named = [
            one.document
            for one in found.passages
            if re.search(rf"(?<![\w.]){re.escape(one.document)} (?:—|\[)", made.text)
        ]
        assert len(named) <= names
        assert made.citations
        assert len({citation.chunk for citation in made.citations}) == len(made.citations)
