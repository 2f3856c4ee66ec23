"""Markdown, reStructuredText, plain text: one document a file; front matter is cut off, nothing is cleaned here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_file
from data_jobs.extractors.protocol import Format, Limits, Origin, clean_title
from data_jobs.extractors.titles import text_title

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M | re.I)


class TextExtractor:
    """Plain text, Markdown and reStructuredText: the file as one document. See ``protocol.Extractor``."""

    format = Format("text", (".md", ".rst", ".txt"), content_types={"text/plain": ".txt", "text/markdown": ".md"})

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        text, steps = decode_file(data, limits.line_bytes)
        title, body = split_title(text.replace("\r\n", "\n").replace("\r", "\n"), origin.path)
        yield origin.document(title, body, steps=steps)


def split_title(text: str, path: str) -> tuple[str, str]:
    """Title and body of a text file. The title is the front matter's, else the text's own (``titles.text_title``), else
    the file's name.

    Front matter is no part of the body; a heading stays in it.
    """
    title, kind = "", PurePosixPath(path).suffix.lower()
    if front := (_FRONT_MATTER.match(text) if kind == ".md" else None):
        found = _FRONT_TITLE.search(front[1])
        title = found[1].strip().strip("\"'") if found else ""
        text = text[front.end() :]
    title = title or text_title(text, plain=kind == ".txt")
    if not title:
        title = PurePosixPath(path).stem.replace("_", " ").replace("-", " ").strip() or path
    return clean_title(title), text
