"""What each format yields: text, title, id, source, provenance; and what the encodings of a text file become."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from data_jobs.extractors.protocol import Limits
from data_jobs.extractors.registry import KINDS, SUFFIXES, extractor_for
from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.made import WORDS, documents, read, reasons


@pytest.mark.parametrize(("name", "make"), list(made.every_format()))
def test_every_document_says_which_bytes_it_is_from(name: str, make) -> None:
    data = make()
    found = read(name, data)
    assert documents(found)
    assert not reasons(found)
    assert len({d.id for d in documents(found)}) == len(found)
    for document in documents(found):
        assert document.file_sha256 == hashlib.sha256(data).hexdigest()
        assert 0 <= document.span[0] < document.span[1] <= len(data)
        assert document.id.startswith(name)
        assert document.source
        assert document.title
        assert document.source_name == "made"


def test_spans_of_records_are_their_bytes() -> None:
    data = '\ufeff{"text": "ünö"}\n\n{"text": "two"}'.encode()
    assert [data[slice(*d.span)].decode() for d in documents(read("a.jsonl", data))] == [
        '{"text": "ünö"}', '{"text": "two"}',
    ]  # fmt: skip
    wide = '{"text": "ünö"}\n{"text": "two"}'.encode("utf-16")
    found = documents(read("a.jsonl", wide))
    assert [wide[slice(*d.span)].decode("utf-16-le") for d in found] == ['{"text": "ünö"}', '{"text": "two"}']
    assert {d.steps for d in found} == {("decoded:utf-16",)}
    table = b'text,n\n"one\ntwo",1\nthree,2'
    assert [table[slice(*d.span)] for d in documents(read("a.csv", table))] == [b'"one\ntwo",1\n', b"three,2"]
    archive = made.tarred([("x.md", b"Some words.")], "w")
    assert [archive[slice(*d.span)] for d in documents(read("a.tar", archive))] == [b"Some words."]


def test_unknown_kinds_are_not_guessed_by_content() -> None:
    assert reasons(read("page.unknown", made.page())) == {"": "unsupported_kind"}
    assert reasons(read("text", b"plain words")) == {"": "unsupported_kind"}
    assert extractor_for("A/B.TAR.GZ") is extractor_for("b.tgz")
    assert {".md", ".rst", ".txt", ".jsonl"} <= set(SUFFIXES)
    assert {".html", ".pdf", ".docx", ".ipynb", ".csv", ".parquet", ".warc", ".warc.gz",
            ".png", ".jpg"} <= set(SUFFIXES)  # fmt: skip
    assert len(set(KINDS)) == len(KINDS)


# -- encodings ---------------------------------------------------------------------------------------------------------
FRENCH = "Le conseil a décidé hier de prolonger l'été à Besançon; les élèves étaient très étonnés de cette décision."
POLISH = "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem."
RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью."
CHINESE = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。" * 2


@pytest.mark.parametrize(
    ("text", "codec", "step"),
    [
        (FRENCH, "latin-1", "decoded:latin-1"), (f"{FRENCH} – “oui”", "cp1252", "decoded:cp1252"),
        (POLISH, "cp1250", "decoded:cp1250"), (RUSSIAN, "cp1251", "decoded:cp1251"),
        (RUSSIAN, "koi8-r", "decoded:koi8_r"), (CHINESE, "gb18030", "decoded:gb18030"),
        (FRENCH, "utf-16", "decoded:utf-16"), (CHINESE, "utf-32", "decoded:utf-32"),
    ],
)  # fmt: skip
def test_text_in_a_known_encoding_is_decoded_and_the_step_recorded(text: str, codec: str, step: str) -> None:
    (found,) = documents(read("a.txt", text.encode(codec)))
    assert (found.text, found.steps) == (text, (step,))


@pytest.mark.parametrize(
    "data", [b"caf\xe9", b"abc \xff\xfe def", bytes(range(128, 256)) * 8, "für Größe".encode("latin-1")]
)
def test_what_cannot_be_told_is_quarantined_not_guessed(data: bytes) -> None:
    assert reasons(read("a.txt", data)) == {"": "invalid_utf8"}


@pytest.mark.parametrize("text", [FRENCH, POLISH, RUSSIAN, CHINESE])
def test_a_damaged_byte_costs_itself_and_is_not_taken_for_another_encoding(text: str) -> None:
    data = (text * 3).encode()
    at = next(n for n, byte in enumerate(data) if byte >= 0xC0)
    rest = next(n for n, byte in enumerate(data) if n > at and (byte < 0x80 or byte >= 0xC0))
    (found,) = documents(read("a.txt", data[:at] + data[at + 1 :]))
    assert found.text == (data[:at] + "\ufffd".encode() + data[rest:]).decode()
    assert found.steps == (f"skipped:bad_bytes:{rest - at - 1}",)


def test_legacy_encodings_of_real_languages(data_set) -> None:
    """Of 83 languages' texts in their legacy encodings: right, or quarantined; hardly ever wrong."""
    codecs = {"cp1252": "Latn", "cp1251": "Cyrl", "gb18030": "Hans", "cp1255": "Hebr"}
    right = wrong = refused = 0
    rows = [json.loads(line) for line in (data_set("multi_udhr") / "udhr.jsonl").read_text().splitlines()]
    for row in rows:
        for codec, script in codecs.items():
            text = row["text"][:3000]
            if row["script"] != script or text.isascii():
                continue
            try:
                data = text.encode(codec)
            except UnicodeEncodeError:
                continue
            found = documents(read("a.txt", data))
            right += bool(found) and found[0].text == text
            wrong += bool(found) and found[0].text != text
            refused += not found
    assert right >= 15
    assert wrong <= 0.1 * (right + wrong + refused), (right, wrong, refused)


# -- formats -----------------------------------------------------------------------------------------------------------
def test_html_is_its_main_text_without_scripts() -> None:
    (found,) = documents(read("a.html", made.page()))
    assert found.title == "Kettles"
    assert WORDS in found.text
    assert "evil" not in found.text
    latin = f"<html><head><meta charset='iso-8859-1'><title>T</title></head><body><p>{FRENCH}</p></body></html>"
    (found,) = documents(read("a.html", latin.encode("latin-1")))
    assert FRENCH in found.text
    assert found.steps == ("decoded:cp1252",)
    odd = latin.replace("iso-8859-1", "unicode_escape")
    assert documents(read("a.html", odd.encode("latin-1")))[0].steps == ("decoded:latin-1",)
    assert reasons(read("a.html", b"<html><body><script>only()</script></body></html>")) == {"": "no_text"}


def test_a_pdf_is_a_document_a_page() -> None:
    found = read("r.pdf", made.pdf(["Alpha page text", "", b"\0\1", "Last page text"], title="Report"))
    assert [(d.id, d.source, d.title, d.text.strip()) for d in documents(found)] == [
        ("r.pdf#1", "r.pdf:page 1", "Report, page 1", "Alpha page text"),
        ("r.pdf#4", "r.pdf:page 4", "Report, page 4", "Last page text"),
    ]
    assert reasons(found) == {"2": "empty_page", "3": "image_only"}


def test_pdfs_that_cannot_be_read() -> None:
    assert reasons(read("a.pdf", made.pdf(["Text"], password="pw"))) == {"": "encrypted"}
    assert reasons(read("a.pdf", made.pdf([b"\0\1", b"\0"]))) == {"": "image_only"}
    assert reasons(read("a.pdf", made.pdf(["", ""]))) == {"": "no_text"}
    assert reasons(read("a.pdf", b"%PDF-1.7 and nothing else")) == {"": "damaged"}
    assert reasons(read("a.pdf", made.pdf(["a"] * 4), Limits(pages=3))) == {"": "too_many_pages"}


def test_a_word_file_keeps_headings_and_tables_in_order() -> None:
    (found,) = documents(read("a.docx", made.word()))
    assert found.title == "Boiling kettles"
    assert (
        found.text == f"# Boiling kettles\n\n{WORDS}\n\n## Numbers\n\nkettle | litres\nsmall | 0.8\n\nAfter the table."
    )
    assert documents(read("a.docx", made.word("Given")))[0].title == "Given"


def test_real_word_files_hold_the_words_of_their_markdown_twins(data_set) -> None:
    folder: Path = data_set("ingest_docx")
    for path in sorted(folder.glob("*.docx"))[:2]:
        (found,) = documents(read(path.name, path.read_bytes()))
        wanted = re.findall(r"\w+", path.with_suffix(".md").read_text().lower())
        have = set(re.findall(r"\w+", found.text.lower()))
        assert sum(word in have for word in wanted) / len(wanted) > 0.93
        assert found.text.count("\n## ") >= 2
        assert found.text.count("```") >= 10


def test_a_notebook_is_its_cells_with_what_they_printed() -> None:
    (found,) = documents(read("a.ipynb", made.notebook()))
    assert found.title == "Kettles"
    assert found.text == "# Kettles\nHow they boil.\n\n```python\nboil(kettle)\n```\n\n```\nBoiled in 3 minutes\n```"
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["old()"], "language": "python"}]}]}
    assert "old()" in documents(read("a.ipynb", json.dumps(old).encode()))[0].text
    for bad in (b"[]", b"{}", b'{"cells": [1]}', b'{"cells": [{"cell_type": "code", "source": 1}]}'):
        assert reasons(read("a.ipynb", bad)) == {"": "not_a_notebook"}
    assert reasons(read("a.ipynb", b'{"cells": [')) == {"": "bad_json"}


def test_csv_rows_by_the_names_in_the_header() -> None:
    data = b'id;title;text\nx;First;one; two\ny;Second;"two; three"\nz;;caf\xff\n;Third;four\n'
    found = read("a.csv", data)
    assert [(d.id, d.title, d.text, d.source) for d in documents(found)] == [
        ("a.csv#x", "First", "one\ncolumn 4: two", "a.csv:2"), ("a.csv#y", "Second", "two; three", "a.csv:3"),
        ("a.csv#z", "a.csv#z", "caf\ufffd", "a.csv:4"), ("a.csv#5", "Third", "four", "a.csv:5"),
    ]  # fmt: skip
    assert not reasons(found)
    assert documents(found)[2].steps == ("skipped:bad_bytes:1",)
    assert documents(read("a.tsv", b"Name\tage\nann\t5\n"))[0].text == "Name: ann\nage: 5"
    numbers = documents(read("a.csv", b"1,2\n3,4\n"))  # a first line of numbers is data
    assert [d.text for d in numbers] == ["column 1: 1\ncolumn 2: 2", "column 1: 3\ncolumn 2: 4"]
    assert reasons(read("a.csv", b"\n \n")) == {"": "no_header"}
    assert [d.text for d in documents(read("a.csv", b'text\n"never closed\nmore\n'))] == ['"never closed', "more"]


@pytest.mark.parametrize("other", ["text,document,price\nA,Invoice,5\n", "document,price\nInvoice,5\n"])
def test_a_table_s_other_columns_stand_beside_its_text(other: str) -> None:
    (found,) = documents(read("a.csv", other.encode()))
    assert "Invoice" in found.text
    assert "price: 5" in found.text


def test_parquet_rows_and_a_damaged_row_group() -> None:
    rows = [{"id": f"r{n}", "title": f"T{n}", "text": f"{WORDS} {n}" if n != 4 else None} for n in range(6)]
    data = made.parquet(rows, compression="none", use_dictionary=False)
    found = read("a.parquet", data)
    assert [d.id for d in documents(found)] == [f"a.parquet#r{n}" for n in (0, 1, 2, 3, 5)]
    assert reasons(found) == {"row_group 2 row 5": "no_text"}
    text = f"{WORDS} 2".encode()
    at = data.index(text, data.index(text) + 1) + 5  # the first one is the page's statistics
    broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    found = read("a.parquet", broken)
    assert [d.id for d in documents(found)] == ["a.parquet#r0", "a.parquet#r1", "a.parquet#r5"]
    assert reasons(found)["row_group 1"] == "damaged"
    assert [d.text for d in documents(read("a.parquet", made.parquet([{"x": 1, "name": "ann"}])))] == [
        "x: 1\nname: ann"
    ]


def test_a_web_archive_is_its_pages_with_their_addresses() -> None:
    pages = [
        ("https://a.example/k", "200 OK", "text/html; charset=utf-8", made.page()),
        ("https://a.example/404", "404 Not Found", "text/html", made.page()),
        ("https://a.example/x.png", "200 OK", "image/png", b"\x89PNG"),
        ("https://a.example/t", "200 OK", "text/plain; charset=latin-1", FRENCH.encode("latin-1")),
    ]
    for name, packed in (("a.warc.gz", True), ("a.warc", False)):
        found = read(name, made.warc(pages, packed))
        assert [(d.source, d.title) for d in documents(found)] == [
            ("https://a.example/k", "Kettles"), ("https://a.example/t", "https://a.example/t"),
        ]  # fmt: skip
        assert documents(found)[1].text == FRENCH
        assert sorted(reasons(found).values()) == ["http_status", "unsupported_kind"]


def test_pictures_and_their_captions() -> None:
    lines = [
        {"file": "p/a.png", "caption": "a grey square of four pixels"}, {"file": "../b.png", "caption": "x"},
        {"file": "p/gone.png", "caption": "nothing"}, {"caption": "no file"}, {"file": "p/a.png", "caption": "again"},
    ]  # fmt: skip
    captions = "\n".join(json.dumps(line) for line in lines).encode()
    others = {"set/captions.jsonl": captions, "set/p/a.png": made.png()}
    (found,) = read("set/p/a.png", made.png(), others=others)
    assert (found.id, found.text) == ("set/p/a.png", "a grey square of four pixels")
    assert found.steps == ("captioned:set/captions.jsonl:1", "picture:2x2")
    assert found.file_sha256 == hashlib.sha256(made.png()).hexdigest()
    assert reasons(read("set/captions.jsonl", captions, others=others)) == {
        "2": "bad_name", "4": "no_caption", "5": "duplicate", "3": "no_image",
    }  # fmt: skip
    assert reasons(read("set/p/c.png", made.png(), others=others)) == {"": "no_caption"}
    assert reasons(read("set/p/a.png", made.png()[:-8], others=others)) == {"": "bad_image"}
    assert reasons(read("set/p/a.png", made.png(20_000, 20_000), others=others)) == {"": "bomb"}
    assert documents(read("captions.jsonl", b'{"text": "an ordinary record"}'))[0].id == "captions.jsonl#1"


def test_real_captioned_pictures(data_set) -> None:
    folder: Path = data_set("img_noto_emoji")
    others = {p.relative_to(folder).as_posix(): p.read_bytes() for p in [folder / "captions.jsonl"]}
    for path in sorted((folder / "png72").glob("*.png"))[:20]:
        (found,) = read(path.relative_to(folder).as_posix(), path.read_bytes(), others=others)
        assert found.text or found.reason == "no_caption"
