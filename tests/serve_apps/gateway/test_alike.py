"""An answer to a question in other words: alike, told the same by the documents, not doubted, and nothing less."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.records import Answer, Passage
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.serve import ServeSection
from data_jobs.retrieval.results import Retrieval, Understood, WindowReading
from serve_apps.errors import UnavailableError
from serve_apps.gateway.alike import SURE, AlikeQuestions, AskedQuestion, Told, Wording
from serve_apps.gateway.protocols import Band, TierState
from serve_apps.guards.policy import Policies, parse_policies
from serve_apps.routing.rules import Features
from tests.fakes import CITATION, PASSAGE, FixedRetriever, RealGuard, ScriptedTier
from tests.serve_apps.service import Service

ASKED, SAME, OTHER = "When was the mill built?", "In which year was the mill built?", "Where was the mill built?"
TOLD = Told(PASSAGE.chunk, "In 1843. [1]")


def unit(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


class ReadingRetriever(FixedRetriever):
    """Finds the same passages for everything; how sure a reader is of which, what the documents say to a question, and
    how it lies in the space of the embedder (degrees), is the test's to say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sure = {SAME: SURE}
        self.said = {OTHER: "At Ulm. [1]"}
        self.best = 0  # place of the passage that the reader is surest of
        self.quoted: dict[str, Any] = {}  # of an answer that quotes, what is otherwise for SAME
        self.degrees = {ASKED: 0.0, SAME: 10.0, OTHER: 5.0}
        self.reader: Any = "read"
        self.language = ""
        self.no_embedder = False

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        found = await super().search(question, k, collection)
        other = Passage("b#0", "b", "b", "b", "text", 0, 4, 0.5)
        readings = (
            WindowReading(1 - self.best, 0, 71, 0.2, 0, 5, 0.0),
            WindowReading(self.best, 0, 71, self.sure.get(question, 0.97), 10, 20, 1.0),
        )
        return replace(
            found, passages=(found.passages[0], other), readings=readings if self.reader == "read" else (),
            reader=self.reader, understood=Understood(f"corrected {question}", language=self.language),
        )  # fmt: skip

    def quote(self, question: str, found: Retrieval) -> Answer:
        made = Answer(self.said.get(question, TOLD.text), (CITATION,), True, "supported")
        return replace(made, **self.quoted) if question == SAME else made

    async def embed_questions(self, texts: list[str]) -> tuple[str, list[list[float]]]:
        if self.no_embedder:
            raise UnavailableError("no embedder")
        return "minilm", [unit(self.degrees.get(text, 0.0)) for text in texts]


def serving(alike: float = 0.98, **parts: Any) -> Service:
    section = ServeSection(cache=CacheSection(on=True, alike=alike))
    retriever = ReadingRetriever()
    made = {"section": section, "retriever": retriever, "guard": RealGuard(), "quote_of": retriever.quote}
    return Service(**{**made, **parts})


def asked(client: Any, question: str, *before: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "system", "content": text} for text in before] + [{"role": "user", "content": question}]
    reply = client.post("/v1/chat/completions", json={"model": "auto", "messages": turns, **more})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-plinth-cache"] == reply.json()["plinth"]["cache"]
    return dict(reply.json()["plinth"])


def test_what_is_searched_for_in_its_place_passes_the_guard() -> None:
    rules = parse_policies(f"version: '1'\npolicies: [{{name: default, forbidden: ['corrected {SAME}']}}]")
    client = serving(policies=Policies(rules)).client()
    first, second = asked(client, ASKED), asked(client, SAME)
    assert (first["searched_for"], second["cache"], second["searched_for"]) == (f"corrected {ASKED}", "hit", "")


# -- over HTTP ---------------------------------------------------------------------------------------------------------
def test_the_answer_to_an_alike_question_is_given_and_said_to_be_that() -> None:
    service = serving()
    client = service.client()
    first, second, again = asked(client, ASKED), asked(client, SAME), asked(client, ASKED)
    assert [plinth["cache"] for plinth in (first, second, again)] == ["miss", "hit", "hit"]
    assert second["alike"] == pytest.approx(math.cos(math.radians(10)), abs=1e-4)
    assert "alike" not in first
    assert "alike" not in again
    assert second["citations"] == first["citations"]
    assert second["searched_for"] == f"corrected {SAME}", "what somebody else asked is nobody's affair"
    assert service.tier.questions == [ASKED]
    counted = [
        labels["outcome"] for name, _, labels in service.recorder.values if name == "plinth_cache_requests_total"
    ]
    assert counted == ["miss", "alike", "hit"]
    assert [line["alike"] for line in service.log] == [None, second["alike"], None]


def test_it_is_off_unless_wanted() -> None:
    assert CacheSection().alike == 0
    service = serving(alike=0.0)
    client = service.client()
    assert [asked(client, question)["cache"] for question in (ASKED, SAME)] == ["miss", "miss"]
    assert service.tier.questions == [ASKED, SAME]


def test_a_question_that_is_alike_but_told_something_else_is_answered_itself() -> None:
    service = serving()
    client = service.client()
    assert [asked(client, question)["cache"] for question in (ASKED, OTHER)] == ["miss", "miss"]
    assert service.tier.questions == [ASKED, OTHER]


def test_what_the_reader_had_no_need_to_read_it_does_not_doubt() -> None:
    service = serving()
    service.retriever.reader = "spared"
    client = service.client()
    assert [asked(client, question)["cache"] for question in (ASKED, SAME)] == ["miss", "hit"]


def quoted(**otherwise: Any) -> Callable[[Any], None]:
    return lambda service: service.retriever.quoted.update(otherwise)


UNLIKE: dict[str, Any] = {
    "not alike enough": lambda service: service.retriever.degrees.update({SAME: 20.0}),
    "the reader doubts it": lambda service: service.retriever.sure.update({SAME: SURE - 0.01}),
    "the reader finds it elsewhere": lambda service: setattr(service.retriever, "best", 1),
    "the documents say something else": quoted(text="In 1844. [1]"),
    "the documents say nothing": quoted(grounded=False),
    "the documents say a part": quoted(reason="partly_supported"),
    "nothing is cited": quoted(citations=()),
    "another passage says it": quoted(citations=(replace(CITATION, chunk="b#0"),)),
    "a language that the embedder was not made for": lambda service: setattr(service.retriever, "language", "de"),
    "a new index": lambda service: service.retriever.versions.update(main="v2"),
    "a document was forgotten": lambda service: setattr(service.retriever, "forgotten", 1),
    "another model": lambda service: setattr(service.tier, "state", replace(service.tier.state, model_version="2")),
    "nobody embeds": lambda service: setattr(service.retriever, "no_embedder", True),
}


@pytest.mark.parametrize("why", UNLIKE)
def test_nothing_less_will_do(why: str) -> None:
    service = serving()
    client = service.client()
    asked(client, ASKED)
    UNLIKE[why](service)
    assert asked(client, SAME)["cache"] == "miss"
    assert len(service.tier.questions) == 2


@pytest.mark.parametrize("more", [{"max_tokens": 300}, {"seed": 3}, {"model": "quote"}])
def test_everything_but_the_words_has_to_be_the_same(more: dict[str, Any]) -> None:
    client = serving().client()
    asked(client, ASKED)
    assert asked(client, SAME, **more)["cache"] == "miss"


def test_a_conversation_is_no_single_question() -> None:
    client = serving().client()
    asked(client, ASKED, "Be brief.")
    assert asked(client, SAME, "Be brief.")["cache"] == "miss"
    assert asked(client, SAME)["cache"] == "miss"


def test_another_form_of_question_wants_another_form_of_answer() -> None:
    service = serving()
    client = service.client()
    asked(client, ASKED)
    assert asked(client, "Was the mill built in 1900?")["cache"] == "miss"


def test_another_number_is_another_question() -> None:
    service = serving()
    client = service.client()
    asked(client, "When was mill 3 built?")
    assert asked(client, "When was mill 4 built?")["cache"] == "miss"
    assert asked(client, "When was the mill 3 built?")["cache"] == "hit"


def test_an_answer_that_was_not_worth_keeping_is_given_to_nobody() -> None:
    client = serving(tier=ScriptedTier(grounded=False, citations=())).client()
    assert [asked(client, question)["cache"] for question in (ASKED, SAME)] == ["miss", "miss"]


def test_an_answer_that_does_not_cite_what_the_documents_say_is_given_to_nobody() -> None:
    client = serving(tier=ScriptedTier(citations=(replace(CITATION, chunk="elsewhere#3"),))).client()
    assert [asked(client, question)["cache"] for question in (ASKED, SAME)] == ["miss", "miss"]


def test_a_question_that_another_tier_is_to_answer_gets_no_answer_of_this_one() -> None:
    small = ScriptedTier(state=TierState("small", model_version="m1", bands=(Band(0.0, 1.0, 40, 0.9, 0.5),)))
    service = serving(models={"small": small})
    client = service.client()
    assert asked(client, ASKED)["tier"] == "small"
    service.features = Features(supported=False)
    found = asked(client, SAME)
    assert (found["cache"], found["tier"], found["route"]["reason"]) == ("miss", "quote", "unsupported")


# -- what is remembered ------------------------------------------------------------------------------------------------
def one(degrees: float, group: str = "g", told: Told = TOLD, question: str = ASKED) -> AskedQuestion:
    return AskedQuestion(group, told, Wording.of(question), array("f", unit(degrees)))


def test_the_most_alike_comes_first_of_those_that_ask_the_same() -> None:
    alike = AlikeQuestions(0.9)
    for key, degrees in (("far", 20.0), ("near", 2.0), ("too far", 40.0)):
        alike.note(key, one(degrees))
    alike.note("other group", one(0, group="h"))
    alike.note("other text", one(0, told=replace(TOLD, text="In 1844. [1]")))
    alike.note("other chunk", one(0, told=replace(TOLD, chunk="b#0")))
    alike.note("other words", one(0, question="When was the mill not built?"))
    alike.note("other size", replace(one(0), vector=array("f", [1.0, 0.0, 0.0])))
    assert [key for _, key in alike.like(one(0))] == ["near", "far"]
    assert [round(cosine, 3) for cosine, _ in alike.like(one(0))] == [0.999, 0.94]


def test_the_last_ones_are_remembered() -> None:
    alike = AlikeQuestions(0.9, most=2)
    for key in ("a", "b", "a", "c"):
        alike.note(key, one(0))
    assert {key for _, key in alike.like(one(0))} == {"a", "c"}


# -- the words that decide ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("question", "other", "agree"),
    [
        ("When does the pool open?", "At what time does the swimming pool open?", True),
        ("Where can I park at the NASA hangar?", "Where is there parking near the hangar of nasa?", True),
        ("When does the pool open on Monday?", "When does the pool open on Sunday?", False),
        ("When does the pool open on monday?", "When does the pool open on sunday?", False),
        ("When does the pool open?", "When does the pool not open?", False),
        ("When doesn't the pool open?", "When is the pool not open?", True),
        ("What do I do when the card isnt accepted?", "What do I do when the card is accepted?", False),
        ("What do I take before the operation?", "What do I take after the operation?", False),
        ("What does a ticket for 2 cost?", "What does a ticket for 3 cost?", False),
        ("What does it cost in the first year?", "What does it cost in the last year?", False),
        ("Where does Anna Berg work?", "Where does Otto Berg work?", False),
        ("Where does Anna Berg work?", "Where is anna berg working?", True),
        ("What does copy_all return?", "What does copy_one return?", False),
        ("How do I open the gate?", "What are the steps to open the gate?", True),
        ("May I bring a dog?", "May I bring a dog, please?", True),
        ("May I bring a dog?", "May I bring a cat?", False),
        ("May I bring a dog?", "Where may I bring a dog?", False),
        ("What is the difference between a loan and a credit?", "What is the difference between a loan and a gift?",
         False),
    ],
)  # fmt: skip
def test_nothing_that_decides_is_in_one_of_them_alone(question: str, other: str, agree: bool) -> None:
    assert Wording.of(question).agrees(Wording.of(other)) is agree
    assert Wording.of(other).agrees(Wording.of(question)) is agree
