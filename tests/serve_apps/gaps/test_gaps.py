"""The gap map: what is kept of a refused question, how it is put together, what answers it now."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.records import Passage
from data_jobs.retrieval.results import Retrieval
from serve_apps.gaps import book as gap_book
from serve_apps.gaps.book import Gap, GapBook, GapNotes
from serve_apps.gaps.clusters import answered, clusters
from serve_apps.gateway.exchange import Ask, Done
from serve_apps.gateway.protocols import Sampling

NEAR = Passage(
    "a#c0", "leave.md", "Leave", "docs/leave.md", "Days of leave.", 0, 14, 1.0, dense=0.6, owner="people team"
)
REFUSED = {"grounded": False, "reason": "low_support", "not_found": ["sabbatical"]}


def ask(question: str, user: str = "", keep: bool = True) -> Ask:
    return Ask("auto", (("user", question),), Sampling(), user=user, keep=keep)


def noted(tmp_path: Path, question: str, plinth: dict[str, object] = REFUSED, **more: object) -> list[Gap]:
    book = GapBook(tmp_path / "gaps.jsonl")
    found = Retrieval(question, (NEAR,), index_version="v1")
    GapNotes(book).note(ask(question, **more), question, found, Done("stop", 1, 1, plinth))  # type: ignore[arg-type]
    return book.read()


def test_a_refused_question_is_kept_with_who_should_answer(tmp_path: Path) -> None:
    (gap,) = noted(tmp_path, "Is there a sabbatical?", user="ada")
    assert (gap.question, gap.reason, gap.not_found) == ("Is there a sabbatical?", "low_support", ("sabbatical",))
    assert (gap.document, gap.source, gap.owner, gap.index_version) == (
        "leave.md",
        "docs/leave.md",
        "people team",
        "v1",
    )


def test_no_personal_data_and_no_asker_is_kept(tmp_path: Path) -> None:
    noted(tmp_path, "What is the salary of Klara Meier-Schulz, klara.meier@firma.de?", user="ada@example.org")
    kept = (tmp_path / "gaps.jsonl").read_text()
    for secret in ("Klara", "klara", "firma.de", "ada@", "example.org"):
        assert secret not in kept
    assert (tmp_path / "gaps.jsonl").stat().st_mode & 0o077 == 0


def test_a_name_taken_out_does_not_come_back_as_a_word_that_was_not_found(tmp_path: Path) -> None:
    plinth = {**REFUSED, "not_found": ["salary", "Klara", "Meier", "w" * 500]}
    (gap,) = noted(tmp_path, f"What is the salary of Klara Meier {'w' * 500}?", plinth)
    assert gap.not_found[0] == "salary"
    assert not {"Klara", "Meier"} & set(gap.not_found)
    assert max(map(len, gap.not_found)) <= 40


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ("Who is José García?", "Who is <NAME>?"),
        ("Klara Meier salary", "<NAME> salary"),
        ("Was verdient Frau Meier?", "Was verdient <NAME>?"),
        ("Is Ada Lovelace's mother here?", "Is <NAME> mother here?"),
        ("How do I run Tarn on Kubernetes?", "How do I run Tarn on Kubernetes?"),
        ("List Kubernetes pods", "List Kubernetes pods"),
    ],
)
def test_names_of_persons_are_taken_out(tmp_path: Path, question: str, kept: str) -> None:
    assert [gap.question for gap in noted(tmp_path, question)] == [kept]


def test_what_another_writer_left_breaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gaps.jsonl"
    book = GapBook(path)
    path.write_bytes(
        b'\xff\xfe\n{"day": "2026-01-01", "question": null, "reason": "r", "not_found": []}\n{"day": "half'
    )
    book.add(Gap("2026-01-01", "Whole?", "low_support"))
    assert [gap.question for gap in book.read()] == ["Whole?"]
    assert [one.question for one in clusters(book.read())] == ["Whole?"]
    assert book.remove({"Whole?"}) == 1


@pytest.mark.parametrize(
    ("plinth", "more"),
    [
        ({"grounded": True, "reason": "supported", "not_found": []}, {}),
        ({"grounded": False, "reason": "courtesy", "not_found": []}, {}),
        ({"grounded": False, "reason": "content_filter", "not_found": []}, {}),
        (REFUSED, {"keep": False}),
    ],
)
def test_what_is_no_gap_is_not_kept(tmp_path: Path, plinth: dict[str, object], more: dict[str, object]) -> None:
    assert noted(tmp_path, "Anything?", plinth, **more) == []


def test_of_two_questions_the_refused_one_is_kept(tmp_path: Path) -> None:
    partly = {"grounded": True, "reason": "partly_supported", "not_found": ["Who pays?"]}
    assert [gap.question for gap in noted(tmp_path, "When is it? Who pays?", partly)] == ["Who pays?"]


def test_the_book_is_bounded_and_survives_broken_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_book, "MAX_BYTES", 2_000)
    book = GapBook(tmp_path / "gaps.jsonl")
    for number in range(60):
        book.add(Gap("2026-01-01", f"question {number}", "low_support"))
    assert (tmp_path / "gaps.jsonl").stat().st_size <= 2_000
    assert book.read()[-1].question == "question 59"
    with (tmp_path / "gaps.jsonl").open("a") as handle:
        handle.write('{"day": \n"nonsense"\n[]\n')
    assert book.read()[-1].question == "question 59"


def test_a_full_disk_fails_no_request(tmp_path: Path) -> None:
    said: list[str] = []
    notes = GapNotes(GapBook(tmp_path / "missing" / "gaps.jsonl"), lambda *event, **_: said.append(event[1]))
    for _ in range(2):
        notes.note(ask("Why?"), "Why?", Retrieval("Why?"), Done("stop", 1, 1, REFUSED))
    assert said == ["gap_not_kept"]


def gaps(*questions: str, version: str = "v1") -> list[Gap]:
    return [
        Gap(
            "2026-01-02",
            question,
            "low_support",
            ("sabbatical",),
            "leave.md",
            "docs/leave.md",
            "people team",
            version,
            f"a{n % 2}",
        )
        for n, question in enumerate(questions)
    ]


def test_questions_that_ask_the_same_are_one_gap() -> None:
    found = clusters(
        gaps("Is there a sabbatical?", "Can I take a sabbatical?", "Where is the car park?", "Is there a sabbatical?")
    )
    assert [(one.question, one.times, one.askers) for one in found] == [
        ("Is there a sabbatical?", 3, 2),
        ("Where is the car park?", 1, 1),
    ]
    assert (found[0].owner, found[0].source) == ("people team", "docs/leave.md")
    json.dumps([vars(one) for one in found])


def test_only_a_newer_index_is_asked_again() -> None:
    asked: list[str] = []

    def asks(question: str, collection: str) -> bool:
        asked.append(question)
        return "sabbatical" in question

    found = clusters([*gaps("Is there a sabbatical?"), *gaps("Where is the car park?", version="v2")])
    made = {one.question: one.answered_by for one in answered(found, {"": "v2"}, asks)}
    assert made == {"Is there a sabbatical?": "v2", "Where is the car park?": ""}
    assert asked == ["Is there a sabbatical?"]
    assert {one.answered_by for one in answered(found, {}, asks)} == {""}


def test_a_gap_of_a_collection_is_one_of_its_own_and_only_that_collection_closes_it() -> None:
    mine = [replace(gap, collection="boats") for gap in gaps("Is there a sabbatical?")]
    found = clusters([*gaps("Is there a sabbatical?"), *mine])
    assert {one.collection for one in found} == {"", "boats"}
    assert len({one.id for one in found}) == 2
    asked: list[tuple[str, str]] = []

    def asks(question: str, collection: str) -> bool:
        asked.append((question, collection))
        return True

    made = {one.collection: one.answered_by for one in answered(found, {"": "v1", "main": "v1", "boats": "v9"}, asks)}
    assert made == {"": "", "boats": "v9"}
    assert asked == [("Is there a sabbatical?", "boats")]
    assert [one.answered_by for one in answered(found, {"": "v1"}, asks)] == ["", ""]  # it was removed


def test_clearing_forgets_one_gap_or_all(tmp_path: Path) -> None:
    book = GapBook(tmp_path / "gaps.jsonl")
    for gap in gaps("One?", "Two?", "One?"):
        book.add(gap)
    assert book.remove({"One?"}) == 2
    assert [gap.question for gap in book.read()] == ["Two?"]
    assert book.remove() == 1
    assert book.read() == []
