"""Documents by their file's name or number."""

from __future__ import annotations

import pytest

from cluster.core.records import Chunk
from data_jobs.retrieval.names import DocumentNames, is_named, missing_names, path_words


@pytest.mark.parametrize(
    ("document", "question"),
    [
        ("peps/pep-0572.rst", "What is PEP 572 about?"),
        ("peps/pep-0572.rst", "pep-0572"),
        ("rfc1214.txt", "Explain RFC1214."),
        ("tickets/ticket-4711.md", "who closed ticket no. 4711?"),
        ("adr/0012-use-postgres.md", "What did ADR 12 decide?"),
        ("notes/Plan_B.docx", "What does plan_b.docx say?"),
        ("issues.jsonl#issue-17", "what is issue 17"),
    ],
)
def test_named(document: str, question: str) -> None:
    assert is_named(document, question)


@pytest.mark.parametrize(
    ("document", "question"),
    [
        ("peps/pep-0572.rst", "What is PEP 57 about?"),
        ("peps/pep-0572.rst", "572 people came"),
        ("stock.csv#17", "How many seats are in row 17 of the stock?"),
        ("bread.md", "How do I bake bread?"),
    ],
)
def test_not_named(document: str, question: str) -> None:
    assert not is_named(document, question)


def test_names_shared_by_many_documents_name_none() -> None:
    files = ["rfc1.txt", "rfc22.txt", *(f"book{n}/chapter-3.md" for n in range(9))]
    names = DocumentNames(Chunk(f"{file}#c0", file, file, file, "x", 0, 1) for file in files)
    assert names.documents("What does RFC 22 say?") == {"rfc22.txt"}
    assert names.documents("What is in chapter 3?") == set()


def test_a_number_of_a_series_without_a_document_is_missing() -> None:
    files = ["rfc1.txt", "rfc22.txt"]
    assert missing_names("What does RFC 9999 say?", files, "It replaces RFC 7.") == {"rfc 9999"}
    assert missing_names("What does RFC 7 say?", files, "It replaces RFC 7.") == set()
    assert missing_names("What does version 4 say about RFC 1?", files, "") == set()


def test_words_of_a_path() -> None:
    assert path_words("peps/pep-0572.rst").split() == ["peps", "pep", "0572", "572", "pep-0572.rst"]
    assert path_words("stock.csv#17").split() == ["stock", "stock.csv"]
