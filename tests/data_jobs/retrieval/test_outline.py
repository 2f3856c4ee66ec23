"""What lies below a document, by structure; documents found by what people call them."""

from __future__ import annotations

import pytest

from cluster.core.records import Chunk
from data_jobs.retrieval.outline import Outlines, opening_sentences


def chunk(document: str, title: str, text: str, kind: str = "file") -> Chunk:
    return Chunk(f"{document}#c0", document, title, document, text, 0, len(text), kind=kind)


CHUNKS = (
    chunk("kit", "module kit", "Tools.", "module"),
    chunk("kit.load", "kit.load(path)", "Load.", "function"),
    chunk("kit.sub", "module kit.sub", "More.", "module"),
    chunk("kit.sub.deep", "kit.sub.deep()", "Deep.", "function"),
    chunk("kit.Box", "kit.Box(size)", "A box.", "class"),
    chunk("kit.Box.open", "kit.Box.open()", "Open.", "method"),
    chunk("policies/travel.md", "Travel", "# Travel\n\nText.\n\n## Expenses\n\nText.\n\n## Per diem\n\nText.\n"),
    chunk("policies/leave.md", "Leave policy", "# Leave policy\n\nText.\n"),
    chunk("guides/backup.md", "Backup and restore", "# Backup and restore\n\nText.\n"),
    chunk("guides/travel.md", "Travelling by train", "Text."),
)


def outlines() -> Outlines:
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(CHUNKS):
        rows.setdefault(one.document, []).append(row)
    return Outlines(CHUNKS, rows)


@pytest.mark.parametrize(
    ("subject", "document"),
    [
        ("kit", "kit"),
        ("the kit module", "kit"),
        ("Box", "kit.Box"),
        ("kit.Box", "kit.Box"),
        ("leave policy", "policies/leave.md"),
        ("the Leave-Policy document", "policies/leave.md"),
        ("travel policy", "policies/travel.md"),
        ("backup guide", "guides/backup.md"),
        ("leave.md", "policies/leave.md"),
        ("sabbaticals", ""),
        ("", ""),
    ],
)
def test_what_people_call_a_document(subject: str, document: str) -> None:
    assert outlines().find(subject) == document


def test_two_documents_of_one_name_are_none_and_hidden_ones_do_not_count() -> None:
    assert outlines().find("travel.md") == ""
    assert outlines().find("travel.md", {"guides/travel.md"}) == "policies/travel.md"
    assert outlines().find("kit", {"kit"}) == ""


def test_code_is_called_just_so() -> None:
    """ "The collections module" was summed up as ``gc.collect``, and the methods of ``str`` were those of nothing, as
    other things end in that name, too."""
    names = ("collections", "gc.collect", "str", "str.join", "xml.str", "json.str")
    chunks = [chunk(name, name, "Text.", "function") for name in names]
    found = Outlines(chunks, {name: [row] for row, name in enumerate(names)})
    assert found.find("the collections module") == "collections"
    assert found.find("collections", {"collections"}) == ""
    assert found.find("str") == "str"
    assert found.find("str", {"str", "json.str"}) == "xml.str"
    assert found.find("collect") == "gc.collect"
    assert [found.find(said) for said in ("the `str` class", "'str.join'", "`str.join()`")] == [
        "str",
        *["str.join"] * 2,
    ]


@pytest.mark.parametrize(
    ("subject", "wanted", "parts"),
    [
        ("kit", "function", ("kit.load",)),
        ("kit", "class", ("kit.Box",)),
        ("kit", "", ("kit.load", "kit.sub", "kit.Box")),
        ("Box", "method", ("kit.Box.open",)),
        ("travel policy", "section", ("Expenses", "Per diem")),
        ("policies", "document", ("Travel", "Leave policy")),
    ],
)
def test_what_lies_below(subject: str, wanted: str, parts: tuple[str, ...]) -> None:
    found = outlines().of(subject, wanted)
    assert found is not None
    assert found.parts == parts


def test_no_parts_of_the_kind_asked_for_is_nothing_found() -> None:
    assert outlines().of("leave policy", "section") is None
    assert outlines().of("kit.load", "method") is None
    assert outlines().of("nothing", "section") is None


@pytest.mark.parametrize("wanted", ["function", "class", "file", "part", "topic"])
def test_headings_are_no_parts_of_the_thing_itself(wanted: str) -> None:
    assert outlines().of("travel", wanted, {"guides/travel.md"}) is None


def test_the_parts_of_a_text_are_its_headings() -> None:
    found = outlines().of("travel policy", "part")
    assert found is not None
    assert found.parts == ("Expenses", "Per diem")


def test_front_matter_and_fields_open_nothing() -> None:
    for text in (
        "---\ndate: 2024-01-02 or so\n---\nTrains are slow here.\n",
        "Last updated: 2024-01-02\n\nTrains are slow here.\n",
    ):
        assert [text[slice(*span)] for span in opening_sentences(text)] == ["Trains are slow here."]


def test_a_document_opens_with_sentences_not_with_its_heading() -> None:
    text = "# Travel\n\nTrains are slow here. Planes are fast. Ships too."
    assert [text[slice(*span)] for span in opening_sentences(text)] == ["Trains are slow here.", "Planes are fast."]
