"""Markdown, reStructuredText, plain text: one document a file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import check_lines, decode_file
from data_jobs.extractors.protocol import Format, Limits, Origin, Skipped, clean_title
from data_jobs.extractors.shown_markdown import shown_markdown
from data_jobs.extractors.titles import text_title

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(?=\S)(.{0,20000}?)\n(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"[A-Za-z_][\w .-]{0,60}:(?:[ \t]|\Z)")
_TITLE_BLOCK = re.compile(r"% +(\S.*)\n(?:[ \t]+\S.*\n)*(?:%.*\n)*(?:\n|\Z)")  # Pandoc's
MARKDOWN = (".md", ".markdown", ".mdx")


class TextExtractor:
    """Plain text, Markdown and reStructuredText: the file as one document. See ``protocol.Extractor``."""

    format = Format("text", (*MARKDOWN, ".rst", ".txt"), content_types={"text/plain": ".txt", "text/markdown": ".md"})

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        # A picture in Markdown is one long line: the limit of lines is for what is left without it.
        markdown = _is_markdown(origin.path)
        text, steps = decode_file(data, max(limits.line_bytes, limits.file_bytes) if markdown else limits.line_bytes)
        text, skipped = text.replace("\r\n", "\n").replace("\r", "\n"), Skipped()
        if markdown:
            text = shown_markdown(text, skipped)
            check_lines(text.encode("utf-8", "surrogatepass"), limits.line_bytes)
            skipped["front_matter"] += front_matter(text)[0] is not None
        title, body = split_title(text, origin.path)
        yield origin.document(title, body, steps=(*steps, *skipped.steps()))


def front_matter(text: str) -> tuple[dict[str, Any] | None, int]:
    """The fields at the top of a Markdown file between lines of ``---`` (YAML) or ``+++`` (TOML), or as
    an object (JSON), and where they end.

    None and 0 where there are none: what stands between two rules is text, unless it is a mapping.
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        return _json_fields(text) if text[:1] == "{" else (None, 0)
    fields = _fields(found[1], found[2])
    return (fields, found.end()) if fields is not None else (None, 0)


def _fields(mark: str, source: str) -> dict[str, Any] | None:
    import yaml

    try:
        fields = tomllib.loads(source) if mark == "+++" else yaml.safe_load(source)
    except (yaml.YAMLError, ValueError, RecursionError):
        # Titles with a colon and templates are written into front matter, and break YAML; each line says what it is.
        lines = [line for line in source.split("\n") if line.strip() and not line.lstrip().startswith("#")]
        if mark == "+++" or not all(_FIELD.match(line) or line[:1] in " \t-" for line in lines):
            return None
        split = (line.partition(":") for line in lines if _FIELD.match(line))
        return {name.strip(): said.strip().strip("\"'") for name, _, said in split}
    if not isinstance(fields, dict) or not fields:
        return None
    return fields if all(isinstance(name, str) and _FIELD.match(f"{name}: ") for name in fields) else None


def _json_fields(text: str) -> tuple[dict[str, Any] | None, int]:
    """Front matter that is a JSON object with a title, and where it ends."""
    try:
        fields, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0
    named = text[end : end + 1] == "\n" and any(name.lower() == "title" for name in fields)
    return (fields, end + 1) if named else (None, 0)


def _is_markdown(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in MARKDOWN


def split_title(text: str, path: str) -> tuple[str, str]:
    """Title and body of a text file. The title is the front matter's, else the text's own (``titles.text_title``), else
    the file's name.

    Front matter is no part of the body; a heading stays in it.
    """
    title, markdown = "", _is_markdown(path)
    fields, end = front_matter(text) if markdown else (None, 0)
    if fields is not None:
        title = next((str(said) for name, said in fields.items() if name.lower() == "title" and said), "")
        text = text[end:]
    elif markdown and (block := _TITLE_BLOCK.match(text)):
        title = block[1]
    title = title or text_title(text, plain=path.lower().endswith(".txt"))
    if not title:
        title = PurePosixPath(path).stem.replace("_", " ").replace("-", " ").strip() or path
    return clean_title(title), text
