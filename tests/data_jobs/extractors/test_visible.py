"""Visible text that goes in comes out: every construct of every format, planted with a word, in reading order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from data_jobs.extractors.registry import SUFFIXES
from tests.data_jobs.extractors import constructs, made
from tests.data_jobs.extractors.constructs import Construct, every_format, word
from tests.data_jobs.extractors.made import documents, read

FORMATS = list(every_format())
# Formats that only hold others, or have one construct; they have tests of their own in test_formats.
HOLDERS = {".zip", ".tar", ".tar.gz", ".tgz", ".warc", ".warc.gz", ".png", ".jpg", ".jpeg", "captions.jsonl"}
ALIKE = {".ndjson": ".jsonl", ".htm": ".html", ".xhtml": ".html", ".markdown": ".md", ".mdx": ".md", ".tab": ".tsv",
         ".docm": ".docx", ".dotx": ".docx"}  # fmt: skip


@pytest.mark.parametrize(("name", "listed", "build"), FORMATS, ids=[name for name, _, _ in FORMATS])
def test_every_construct_comes_out_once_in_order(
    name: str, listed: Sequence[Construct], build: Callable[..., bytes]
) -> None:
    words = {one.name: word(number) for number, one in enumerate(listed, start=1)}
    assert len(words) == len(listed)
    found = read(name, build(listed, words.__getitem__))
    text = "\n".join(document.text for document in documents(found))
    seen = re.findall(r"marka[a-z]+o", text)
    wrong = {
        one.name: seen.count(words[one.name])
        for one in listed
        if seen.count(words[one.name]) != (0 if one.lost else one.times)
    }
    assert wrong == {}
    order = [words[one.name] for one in listed if not one.lost]
    assert list(dict.fromkeys(seen)) == order


def test_every_format_that_is_read_has_its_constructs() -> None:
    listed = {f".{name.split('.', 1)[1]}" for name, _, _ in FORMATS}
    assert {ALIKE.get(suffix, suffix) for suffix in SUFFIXES} - listed <= HOLDERS


@pytest.mark.parametrize("packed", [True, False])
def test_a_page_in_a_web_archive_is_its_article_whole(packed: bool) -> None:
    """Of a page of the web, menus and legal lines around the article go; nothing within the article does."""
    kept = [one for one in constructs.HTML if not one.lost and one.name not in ("header", "footer", "text in the body")]
    words = {one.name: word(number) for number, one in enumerate(kept, start=1)}
    inner = constructs.html(kept, words.__getitem__).decode()
    body = inner.partition("<body>")[2].partition("</body>")[0].replace("<font><b>" * 300, "")
    page = (
        "<html><head><title>T</title></head><body><header><ul><li><a href='/'>Home of all</a></ul></header>"
        f"<main><h1>T</h1><p>{made.WORDS} {made.WORDS}</p>{body}<p>{made.WORDS[::-1]}</p></main>"
        "<footer><p>Legal lines of the publisher</p></footer></body></html>"
    )
    archive = made.warc([("https://a.example/", "200 OK", "text/html; charset=utf-8", page.encode())], packed)
    (found,) = documents(read("a.warc.gz" if packed else "a.warc", archive))
    assert [one.name for one in kept if found.text.count(words[one.name]) != one.times] == []
    assert "Legal lines" not in found.text
    assert "Home of all" not in found.text
    assert any(step.startswith("skipped:boilerplate:") for step in found.steps)
