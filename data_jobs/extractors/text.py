"""Markdown, reStructuredText, plain text: one document a file; front matter is cut off, nothing is cleaned here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_file
from data_jobs.extractors.protocol import MAX_TITLE_CHARS, Format, Limits, Origin, clean_title

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M | re.I)
_HEADING = re.compile(r"[ ]{0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*\Z")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_<>])\1{2,}[ \t]*\Z")
_FENCE = re.compile(r"[ ]{0,3}(?:```|~~~)")


class TextExtractor:
    """Plain text, Markdown and reStructuredText: the file as one document. See ``protocol.Extractor``."""

    format = Format("text", (".md", ".rst", ".txt"), content_types={"text/plain": ".txt", "text/markdown": ".md"})

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        text, steps = decode_file(data, limits.line_bytes)
        title, body = split_title(text.replace("\r\n", "\n").replace("\r", "\n"), origin.path)
        yield origin.document(title, body, steps=steps)


def split_title(text: str, path: str) -> tuple[str, str]:
    """Title and body of a text file. The title is the front matter's, else the first heading, else the file's name.

    Front matter is no part of the body; a heading stays in it.
    """
    title, kind = "", PurePosixPath(path).suffix.lower()
    if front := (_FRONT_MATTER.match(text) if kind == ".md" else None):
        found = _FRONT_TITLE.search(front[1])
        title = found[1].strip().strip("\"'") if found else ""
        text = text[front.end() :]
    if not title and kind in (".md", ".rst"):
        title = first_heading(text, markdown=kind == ".md")
    if not title:
        title = PurePosixPath(path).stem.replace("_", " ").replace("-", " ").strip() or path
    return clean_title(title), text


def first_heading(text: str, markdown: bool) -> str:
    """The first heading among a text's first 400 lines, code fences skipped; empty without one."""
    before, fenced = "", False
    for line in text.split("\n")[:400]:
        if markdown and _FENCE.match(line):
            fenced = not fenced
        elif fenced:
            continue
        elif markdown and (heading := _HEADING.match(line[:500])):
            return heading[1]
        elif _is_title(before) and _UNDERLINE.match(line) and (line[0] in "=-" if markdown else True):
            return before.strip()
        before = line
    return ""


def _is_title(line: str) -> bool:
    """A line that can stand above an underline: not empty, not itself a rule or a table, a list or a quotation."""
    stripped = line.strip()
    return 0 < len(stripped) <= MAX_TITLE_CHARS and any(c.isalnum() for c in stripped) and stripped[0] not in "|>-*+"
