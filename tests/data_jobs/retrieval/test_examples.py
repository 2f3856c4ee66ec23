"""Questions to start with: from the documents, as different ones as there are, the same for the same version."""

from __future__ import annotations

import dataclasses

import numpy as np

from cluster.core.records import Chunk
from data_jobs.retrieval.examples import MAX_CHARS, Example, example_questions, topics
from data_jobs.retrieval.snapshot import Snapshot

NONE = np.empty(0, np.int32)


def chunk(document: str, title: str = "", kind: str = "file", **more: object) -> Chunk:
    return Chunk(f"{document}#c0", document, title, document, "Text.", 0, 5, kind=kind, **more)  # type: ignore[arg-type]


def snapshot(*parts: tuple[Chunk, tuple[str, ...]], version: str = "v1") -> Snapshot:
    chunks, questions = [c for c, _ in parts], [q for _, q in parts]
    return Snapshot(chunks, [()] * len(parts), questions, NONE, NONE, NONE, NONE, np.empty((0, 4)), version)


def made(index: Snapshot, hidden: tuple[int, ...] = (), count: int = 3) -> list[Example]:
    return example_questions(index, hidden, count)


def test_own_questions_that_are_questions_come_before_titles() -> None:
    index = snapshot(
        (chunk("a.md", "Cats"), ()),
        (chunk("b.md", "Dogs"), ("bark louder", "how do I make a dog bark louder",)),
        (chunk("c.md", "Fish"), ("Which fish swims in cold ponds?", "x" * MAX_CHARS)),
        (chunk("c.md", "Fish"), ()),
    )  # fmt: skip
    found = made(index)
    assert {e.question for e in found[:2]} == {"How do I make a dog bark louder?", "Which fish swims in cold ponds?"}
    assert found[2:] == [Example("What is said about Cats?", "a.md")]
    assert len(made(index, count=2)) == 2


def test_titles_and_names_make_questions() -> None:
    titles = {
        "notes/trip_to_rome.md": "", "b.md": "  Who  pays? ", "c.md": "Rules:",
        "shutil.copytree": "shutil.copytree(src, dst)",
        "d.md": "x" * MAX_CHARS, "e.jsonl#1": "", "f.md": "2026-01-01",
    }  # fmt: skip
    kinds = {"shutil.copytree": "function", "e.jsonl#1": "record"}
    index = snapshot(*((chunk(name, title, kinds.get(name, "file")), ()) for name, title in titles.items()))
    assert {e.document: e.question for e in made(index, count=9)} == {
        "notes/trip_to_rome.md": "What is said about trip to rome?",
        "b.md": "Who pays?",
        "c.md": "What is said about Rules?",
        "shutil.copytree": "What is said about shutil.copytree?",
    }


def test_the_version_decides_which_and_they_differ() -> None:
    parts = [(chunk(f"mod{n // 10}.thing{n}", kind="function"), ()) for n in range(50)]
    first = made(snapshot(*parts))
    assert made(snapshot(*reversed(parts))) == first
    others = {tuple(made(snapshot(*parts, version=f"v{n}"))) for n in range(10)}
    assert len(others) > 5
    for found in others:
        assert len({e.document.split(".")[0] for e in found}) == 3, "one of each module before a second of any"
    assert len(made(snapshot(*parts[:10]))) == 3, "but three of one where there is no other"


def test_what_people_ask_for_comes_first_where_ranks_say_so() -> None:
    parts = [(chunk(f"m{n}.f", kind="function", prior=1.0 if n < 300 else 0.0), ()) for n in range(2000)]
    assert all(int(e.document[1:].split(".")[0]) < 300 for e in made(snapshot(*parts), count=50))


def test_hidden_and_restricted_documents_have_no_part() -> None:
    index = snapshot(
        (chunk("a.md", "Cats"), ("How do cats sleep at night?",)),
        (chunk("a.md", "Cats"), ()),
        (chunk("b.md", "Dogs"), ()),
        (dataclasses.replace(chunk("c.md", "Secrets"), sensitivity="restricted"), ()),
    )
    assert [e.document for e in made(index, hidden=(1,))] == ["b.md"]
    assert made(snapshot()) == []


def test_topics_are_modules_and_titles_the_largest_first() -> None:
    index = snapshot(
        (chunk("kit.load", kind="function"), ()),
        (chunk("kit.dump", kind="function"), ()),
        (chunk("a/leave.md", "Leave policy"), ()),
        (chunk("a/secret.md", "Secret", sensitivity="restricted"), ()),
        (chunk("a/gone.md", "Gone"), ()),
    )
    assert topics(index, [4], 5) == ["kit", "Leave policy"]
    assert topics(index, [4], 1) == ["kit"]
