"""Questions of a corpus: which passage they ask for, which side they are on, and what is left out."""

from __future__ import annotations

import random

from cluster.core.records import Chunk, Document
from cluster.core.sections.adapt import AdaptSection
from data_jobs.retrieval.wording import text_stems
from data_jobs.text.chunks import chunk
from train_jobs.adaptation.asking import (
    HELD_BACK,
    JUDGE,
    LEARN,
    SIDES,
    TUNE,
    AskedOf,
    Trip,
    questions_of,
    shortened,
    side_of,
)

PLACES = ("harbour", "library", "orchard", "tannery", "foundry", "granary", "observatory", "monastery")
MAKERS = ("masons", "carpenters", "sailors", "weavers", "glaziers", "farmers")


def corpus(count: int = 40) -> list[Document]:
    """Pages that each tell something of a place of their own."""
    made = []
    for number in range(count):
        rng = random.Random(number)
        place, maker, year = rng.choice(PLACES), rng.choice(MAKERS), 1500 + number
        text = (
            f"The {place} number {number} is a stone building from {year}. Local {maker} repaired its northern roof "
            f"after the flood of {year + 40}. To enter the {place} number {number}, visitors must cross a narrow "
            f"wooden bridge. Large bells in the tower of {place} {number} announce the arrival of merchants."
        )
        made.append(Document(f"town/{number}.md", f"{place.title()} {number}", text, f"{number}.md"))
    return made


def chunks_of(documents: list[Document]) -> list[Chunk]:
    return [piece for document in documents for piece in chunk(document, lambda text: len(text.split()), 40)]


def test_documents_keep_their_side_and_a_larger_share_holds_out_more() -> None:
    names = [f"d{n}" for n in range(2000)]
    sides = {name: side_of(name, 0.3) for name in names}
    shares = {side: sum(found == side for found in sides.values()) / len(names) for side in SIDES}
    assert abs(shares[JUDGE] - 0.3) < 0.04
    assert abs(shares[TUNE] - 0.07) < 0.02
    assert all(side_of(name, 0.5) == JUDGE for name in names if sides[name] == JUDGE)


def test_every_question_belongs_to_the_passage_that_holds_its_sentence() -> None:
    documents = corpus()
    chunks = chunks_of(documents)
    asked, counted = questions_of(documents, chunks, AdaptSection(), "")
    assert len(asked) > len(documents)
    for one in asked:
        held = chunks[one.passage]
        assert held.document == one.document
        assert held.start <= one.start < one.end <= held.end
    assert counted["passages"] == len(chunks) > len(documents)
    assert counted["passages_unasked"] == len(chunks) - len({one.passage for one in asked})
    assert questions_of(documents, chunks, AdaptSection(), "") == (asked, counted), "the same every time"
    assert questions_of(documents, chunks, AdaptSection(seed=1), "")[0] != asked


def test_the_manner_held_back_only_judges() -> None:
    documents = corpus(120)
    asked, _ = questions_of(documents, chunks_of(documents), AdaptSection(), "")
    sides = {side_of(one.document, AdaptSection().held_out) for one in asked if one.manner == HELD_BACK}
    assert sides == {JUDGE}
    assert {one.manner for one in asked if side_of(one.document, 0.3) == LEARN}


def test_with_little_time_every_passage_has_one_before_any_has_two() -> None:
    documents = corpus()
    chunks = chunks_of(documents)
    every, _ = questions_of(documents, chunks, AdaptSection(), "")
    few, counted = questions_of(documents, chunks, AdaptSection(), "", 30)
    assert len(few) == 30
    assert counted["over_the_time"] == len(every) - 30
    assert len({one.passage for one in few}) == 30


def test_what_two_passages_answer_alike_asks_for_neither() -> None:
    twin = corpus(1)[0]
    documents = [twin, Document("other.md", twin.title, twin.text, "other.md")]
    picked, counted = questions_of(documents, chunks_of(documents), AdaptSection(per_passage=20), "")
    assert counted["ambiguous"]
    assert len({one.question for one in picked}) == len(picked)


def test_a_shortened_question_keeps_some_words_in_order() -> None:
    question = "how do local masons repaired northern roof after flood"
    made = shortened(question, random.Random(0))
    assert len(text_stems(made)) < len(text_stems(question))
    words = iter(question.split())
    assert all(word in words for word in made.split()), "in their order"
    assert shortened("northern roof", random.Random(0)) == "northern roof"


def test_a_trip_comes_back_from_json() -> None:
    import json

    trip = Trip(AskedOf("q", "d", 0, 4, "how", 2), True, (2, 5), (0.5, 0.25))
    assert Trip.from_dict(json.loads(json.dumps(trip.to_dict()))) == trip
