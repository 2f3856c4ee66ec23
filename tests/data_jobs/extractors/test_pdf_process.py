"""The PDF library's process: what breaks in it costs the file, not the worker; how its pages are made readable."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from data_jobs.extractors import pdf
from data_jobs.extractors.pdf_pages import readable
from data_jobs.extractors.pdf_process import PdfProcess
from data_jobs.extractors.protocol import Limits, UnreadableFileError
from tests.data_jobs.extractors import made
from tests.data_jobs.extractors.made import documents, read, reasons
from tests.data_jobs.extractors.pdf_files import raw_pdf

GOOD = raw_pdf([["The pump holds nine litres."]])


def test_a_process_that_dies_costs_its_file_and_the_next_file_has_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    process = PdfProcess()
    monkeypatch.setattr(pdf, "_PROCESS", process)
    many = raw_pdf([[f"Page {n} tells of pump number {n} in the hall."] for n in range(400)])
    answers = process.read(many, Limits())
    next(answers)
    child = process._child
    assert child is not None
    os.kill(child.pid, signal.SIGSEGV)
    with pytest.raises(UnreadableFileError, match="damaged"):
        list(answers)
    assert [d.text for d in documents(read("a.pdf", GOOD))] == ["The pump holds nine litres."]
    assert process._child is not None
    assert process._child.pid != child.pid
    process._end()


def test_a_file_that_takes_too_long_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    process = PdfProcess()
    answers = process.read(raw_pdf([["words"] * 40] * 400), Limits())
    next(answers)
    assert process._child is not None
    os.kill(process._child.pid, signal.SIGALRM)  # what its clock sends
    with pytest.raises(UnreadableFileError, match="too_slow"):
        list(answers)


def test_one_process_reads_file_after_file() -> None:
    first = pdf._PROCESS._running()
    for data in (GOOD, b"%PDF-1.7 broken", GOOD, made.pdf(["Text"], password="pw"), GOOD):
        read("a.pdf", data)
    assert pdf._PROCESS._running() is first


def test_the_process_knows_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    process = PdfProcess()
    assert next(process.read(GOOD, Limits()))["pages"] == 1
    assert process._child is None  # whoever stops before the end ends it
    answers = process.read(GOOD, Limits())
    next(answers)  # it answers, so it runs the program: before that the kernel shows no environment
    assert process._child is not None
    environment = Path(f"/proc/{process._child.pid}/environ").read_bytes()
    answers.close()
    assert b"made-up" not in environment
    assert b"PATH=" in environment


def test_a_limit_on_text_ends_the_file_and_not_the_next() -> None:
    found = read("a.pdf", raw_pdf([["word " * 18] * 40] * 5), Limits(text_bytes=5_000))
    assert reasons(found) == {"rest": "too_much_text"}
    assert documents(found)
    assert documents(read("a.pdf", GOOD))


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["a well\ufffeknown fact"], "a well-known fact"),  # both parts are words, the whole is none
        (["the infor\ufffemation"], "the information"), (["the emer\u00ad\ngency"], "the emergency"),
        (["a tank-farm stands; the tank\ufffefarm is old"], "a tank-farm stands; the tank-farm is old"),
        (["the Kesselwagen rolls; a Kessel\ufffewagen"], "the Kesselwagen rolls; a Kesselwagen"),
        (["the North\ufffeSouth line"], "the North-South line"), (["o\ufb03ce \ufb01le"], "office file"),
    ],
)  # fmt: skip
def test_words_broken_at_line_ends(texts: list[str], wanted: str) -> None:
    assert readable(texts)[0].text == wanted


def test_headers_stay_once_and_sentences_are_whole() -> None:
    texts = [
        f"Pump handbook\n{before}\nfor part {n} of the work\n{after}\nACME Works, 2026 edition, page {n}\n{n} / 3"
        for n, before, after in (
            (1, "First of all it is said", "The valve must be"),
            (2, "primed before use. Then", "wait. Close the emer-"),
            (3, "gency exit. Leave it", "The end."),
        )
    ]
    pages = [page.text for page in readable(texts)]
    whole = "\n".join(pages)
    assert whole.count("Pump handbook") == 1
    assert whole.count("ACME Works") == 1
    assert "/ 3" not in whole
    assert "The valve must be\nprimed before use." in pages[0]
    assert "Close the emergency exit." in pages[1]
    assert pages[2].startswith("Leave it")


def test_what_only_looks_like_a_header_stays() -> None:
    steps = [f"Step {n}\nDo the thing number {n} now.\nDone with {n} of them." for n in (1, 2, 3, 4)]
    assert [page.text for page in readable(steps)] == steps
    assert [page.text for page in readable(["Same text", "Same text"])] == ["Same text", "Same text"]
    assert readable(["1"])[0].text == "1"
