"""Questions made by rules: from sentences that read as such, in several manners, and not copies of them."""

from __future__ import annotations

import random

import pytest

from cluster.core.records import Document
from data_jobs.retrieval.wording import text_stems
from data_jobs.synthetic.writer import MANNERS, Synonyms, Writer, base_verb, summary_sentence
from train_jobs.examples.foreign_questions import foreign_questions, load_fields

CODE = Document(
    "shutil.copytree", "shutil.copytree(src, dst)", "Recursively copy a directory tree and return the destination.\n\n"
    "Copies the permission bits of every file in the tree. If the destination exists already, raise an error.\n"
    "    x = copytree(a, b)\n", "shutil.py:1", kind="function", part_of="shutil",
)  # fmt: skip
PROSE = Document(
    "leave.md", "Leave policy",
    "# Leave policy\n\nEmployees have twenty-eight days of paid leave in every year. You can carry unused days over "
    "until the end of March. It is not paid out. A sabbatical is a leave without salary. Is that all? | a | b |\n",
    "leave.md",
)  # fmt: skip


def writer(seed: int = 0, synonyms: tuple[str, ...] = ("copy, duplicate, clone", "directory, folder")) -> Writer:
    return Writer(lambda term: 5.0, Synonyms(synonyms), random.Random(seed))


@pytest.mark.parametrize("document", [CODE, PROSE])
def test_a_question_belongs_to_a_sentence_of_its_document(document: Document) -> None:
    for seed in range(8):
        for asked in writer(seed).questions(document, 6):
            assert document.text[asked.start : asked.end] == asked.sentence
            assert asked.manner in MANNERS and asked.document == document.id and len(asked.question) >= 8  # noqa: PT018


@pytest.mark.parametrize("document", [CODE, PROSE])
def test_no_question_is_made_from_code_tables_questions_or_leaning_sentences(document: Document) -> None:
    gold = {asked.sentence for seed in range(30) for asked in writer(seed).questions(document, 5)}
    assert gold
    assert not [text for text in gold if text.startswith(("It ", "Is that", "x =")) or "|" in text]


def test_several_manners_come_up_and_questions_differ() -> None:
    made = [asked for seed in range(30) for asked in writer(seed).questions(CODE, 5)]
    assert {"how", "keywords", "title"} <= {asked.manner for asked in made}
    assert len({asked.question for asked in made}) > 20


def test_a_made_question_shares_words_with_its_sentence_but_is_not_it() -> None:
    made = [a for seed in range(20) for a in writer(seed, ()).questions(PROSE, 4) if a.manner in ("how", "keywords")]
    assert made
    for asked in made:
        assert text_stems(asked.question) & text_stems(asked.sentence)
        assert asked.question != asked.sentence


def test_synonyms_come_in() -> None:
    said = " ".join(asked.question for seed in range(40) for asked in writer(seed).questions(CODE, 4)).lower()
    assert "duplicate" in said or "clone" in said
    without = " ".join(asked.question for seed in range(40) for asked in writer(seed, ()).questions(CODE, 4)).lower()
    assert "duplicate" not in without


def test_own_questions_come_first_and_are_about_the_summary() -> None:
    document = Document(**{**CODE.to_dict(), "aliases": (), "questions": ("clone a whole folder", "backup a tree")})
    made = writer().questions(document, 3)
    assert [asked.question for asked in made[:2]] == ["clone a whole folder", "backup a tree"]
    assert {asked.manner for asked in made[:2]} == {"own"}
    assert made[0].sentence.startswith("Recursively copy")
    assert [a.manner for a in writer().questions(document, 1, own=("backup a tree",))] == ["own"]


def test_a_seed_makes_the_same_questions() -> None:
    assert writer(5).questions(PROSE, 5) == writer(5).questions(PROSE, 5)


@pytest.mark.parametrize("text", ["", "x = 1\ny = 2\n", "| a | b |\n|---|---|\n", "It is so.", "https://a.b/c"])
def test_a_document_without_a_good_sentence_gives_no_question(text: str) -> None:
    document = Document("a", "a", text, "a")
    assert writer().questions(document, 3) == []
    assert summary_sentence(document) is None


@pytest.mark.parametrize(
    ("word", "verb"),
    [("Returns", "return"), ("Copy", "copy"), ("copies", "copy"), ("Matches", "match"), ("Class", None), ("The", None)],
)
def test_base_verbs(word: str, verb: str | None) -> None:
    assert base_verb(word) == verb


def test_markup_does_not_get_into_questions() -> None:
    text = "You can export the collected metrics with the [Prometheus exporter](https://prometheus.io/d) every minute."
    document = Document("a.md", "Export", text, "a.md")
    said = [asked.question for seed in range(20) for asked in writer(seed).questions(document, 3)]
    assert said
    assert not [question for question in said if "http" in question or "](" in question]


# -- foreign questions -------------------------------------------------------------------------------------------------
def test_training_and_gate_are_asked_about_different_fields() -> None:
    train = foreign_questions(False, lambda stems: False, random.Random(0))
    gate = foreign_questions(True, lambda stems: False, random.Random(0))
    assert len(train) >= 100 and len(gate) >= 60  # noqa: PT018
    assert not set(train) & set(gate)
    assert not {thing for f in load_fields() if f.held_out for thing in f.things if any(thing in q for q in train)}


def test_what_the_corpus_speaks_of_is_not_foreign_to_it() -> None:
    everything = foreign_questions(False, lambda stems: False, random.Random(0)) + foreign_questions(
        True, lambda stems: False, random.Random(0)
    )
    bread = text_stems("sourdough bread")
    left = foreign_questions(True, lambda stems: stems <= bread, random.Random(0))
    assert any("sourdough" in question for question in everything)
    assert left and not any("sourdough" in question for question in left)  # noqa: PT018
    assert foreign_questions(True, lambda stems: True, random.Random(0)) == []


def test_a_field_that_is_mostly_the_corpus_is_left_out_whole() -> None:
    cooking = next(field for field in load_fields() if field.name == "cooking")
    known = [text_stems(thing) for thing in cooking.things[:5]]
    left = foreign_questions(cooking.held_out, lambda stems: set(stems) in known, random.Random(0))
    assert not any(thing in question for thing in cooking.things for question in left)
