"""Cases of documents as people have them: what is in a file comes out of it, and what is no text does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.records import Document
from data_jobs.text.chunks import chunk
from data_jobs.text.normalise import normalise
from tests.data_jobs.extractors.made import documents, read

HERE = Path(__file__).parent
NUMBERS = (1, 2, 3, 6, 7, 9, 11, 12, 13, 15, 17, 18, 19, 20, 22, 23, 25, 27)
FOLDERS = [next(HERE.glob(f"c{number:02}_*")) for number in NUMBERS]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_case_is_as_expected(folder: Path) -> None:
    check = json.loads((folder / "expected.json").read_text())["check"]
    files = {path.relative_to(folder / "input").as_posix(): path.read_bytes() for path in folder.glob("input/**/*.*")}
    found = [document for name, data in files.items() for document in documents(read(name, data, others=files))]
    text = "\n\n".join(normalise(document.text) for document in found)
    if check["kind"] == "headings":
        headings = headings_of(found)
        assert set(check["wanted"]) <= headings
        assert not [bad for bad in check["unwanted"] if any(bad in heading for heading in headings)]
    assert [part for part in check.get("contains", ()) if part not in text] == []
    assert [part for part in check.get("absent", ()) if part in text] == []
    assert len(found) == check.get("documents", len(found))


def headings_of(found: list[Document]) -> set[str]:
    """Titles and headings that stand above the chunks of documents cut small."""
    chunks = [piece for one in found for piece in chunk(one, lambda text: len(text.split()), 24)]
    above = {line for piece in chunks for line in piece.context.replace(" > ", "\n").split("\n")}
    firsts = {piece.text.split("\n")[0].lstrip("# ") for piece in chunks if piece.text.startswith("#")}
    return above | firsts
