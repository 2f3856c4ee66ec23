"""Titles: what a document calls itself, never the name of a section or of a program's template."""

from __future__ import annotations

import pytest

from data_jobs.extractors.text import split_title
from data_jobs.extractors.titles import given_title, is_section
from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.test_formats import documents, read


@pytest.mark.parametrize(
    ("text", "path", "title"),
    [
        ("PEP: 572\nTitle: Assignment\n  Expressions\nAuthor: X\n\nAbstract\n========\n\nText", "pep-0572.rst",
         "Assignment Expressions"),
        ("Subject: The move\nFrom: Ann\nDate: today\n\nWe move.", "mail.txt", "The move"),
        ("Abstract\n========\n\nText\n\nRationale\n=========\n", "some-idea.rst", "some idea"),
        ("# 1. Introduction\n\nText", "plan.md", "plan"),
        ("## Zusammenfassung\n\nText", "bericht.md", "bericht"),
        ("## Abstract\n\nText\n\n# The real title\n", "a.md", "The real title"),
        ("Network Working Group                 J. Postel\nRequest for Comments: 1214              April 1991\n\n\n"
         "          OSI Internet Management: Management Information Base\n\nStatus of Memo\n\n   Text.", "rfc1214.txt",
         "OSI Internet Management: Management Information Base"),
        ("Release notes\n=============\n\nText", "r.txt", "Release notes"),
        ("# **Bold** `code` and [a link](http://x.example)\n\nText", "a.md", "Bold code and a link"),
        ("# ![logo](x.png) Quill <br> {#quill .top}\n\nText", "a.md", "Quill"),
        ("# __init__, **kwargs, 2 * 3 * 4\n\nText", "a.md", "__init__, **kwargs, 2 * 3 * 4"),
        ('{\n  "title": "Json front",\n  "tags": ["a"]\n}\n\nText', "a.md", "Json front"),
        ("% A guide\n% Ann\n% 2024\n\n# First steps\n", "a.md", "A guide"),
        ("~~~\n# no heading\n~~~\n\n# Yes\n", "a.md", "Yes"),
    ],
)  # fmt: skip
def test_of_texts(text: str, path: str, title: str) -> None:
    assert split_title(text, path)[0] == title


def test_front_matter_that_is_an_object_is_no_text_and_others_are() -> None:
    assert split_title('{\n  "title": "T"\n}\n\nText', "a.md") == ("T", "\nText")
    for text in ('{"a": 1}\n\nText', '{"title": "T"} is text', "{% include x %}\n", "{ title: T }\n"):
        assert split_title(text, "a.md") == ("a", text)


def test_of_pages_files_and_properties() -> None:
    body = "<body><svg><title>icon</title></svg><p>Some text of a page.</p></body>"
    head = "<head><title>Installing &amp; using Quill</title></head>"
    assert documents(read("q.html", f"<html>{head}{body}</html>".encode()))[0].title == "Installing & using Quill"
    assert documents(read("q.html", f"<html><head></head>{body}</html>".encode()))[0].title == "q"
    (found,) = documents(read("q.html", made.page(title="Quill").replace(b"<h1>Quill", b"<h1>First steps")))
    assert found.title == "Quill"
    assert documents(read("a.docx", made.word("Document1")))[0].title == documents(read("a.docx", made.word()))[0].title


@pytest.mark.parametrize(
    "name", ["Untitled", "Microsoft Word - draft.doc", "report_final.docx", "untitled 3", "Document1", "-"]
)
def test_what_programs_call_a_document_is_no_title(name: str) -> None:
    assert given_title(name) == ""
    assert given_title("Annual report") == "Annual report"


def test_sections() -> None:
    assert all(
        map(is_section, ["Abstract", "2.1 Summary", "**Overview**", "I. Introduction", "Inhaltsverzeichnis", "概要"])
    )
    assert not any(map(is_section, ["Summary of Products", "Abstract Algebra", "3D printing", "Install"]))
