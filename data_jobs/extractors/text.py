"""Markdown, reStructuredText, plain text: one document a file; what Markdown does not show is cut out here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import check_lines, decode_file
from data_jobs.extractors.protocol import Format, Limits, Origin, Skipped, clean_title
from data_jobs.extractors.titles import text_title
from data_jobs.text.fences import fenced_blocks

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(?=\S)(.{0,20000}?)\n(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"[A-Za-z_][\w .-]{0,60}:(?:[ \t]|\Z)")
# Pictures as text: in a link, as the target of a reference, in an HTML element.
_DATA = r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*,[^\s)>\"']*"
_PICTURE = re.compile(rf"!\[([^\]]*)\]\(\s*<?{_DATA}>?(?:\s+[\"'][^\"'\n]*[\"'])?\s*\)")
_PICTURE_ELEMENT = re.compile(rf"<img\b[^<>]*?\bsrc\s*=\s*[\"']?{_DATA}[^<>]*>", re.I)
_PICTURE_TARGET = re.compile(rf"^[ ]{{0,3}}\[([^\]\n]+)\]:[ \t]*<?{_DATA}>?.*$\n?", re.M)
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.I)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
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


def shown_markdown(text: str, skipped: Skipped) -> str:
    """Markdown without what its reader does not see: the bytes of pictures (their descriptions stay) and comments.

    Code is shown as it is.
    """
    if "data:" not in text and "<!--" not in text:
        return text
    names: set[str] = set()
    for part, is_code in _parts(text):
        if not is_code:
            names |= {found[1].lower() for found in _PICTURE_TARGET.finditer(part)}
    parts = []
    for part, is_code in _parts(text):
        parts.append(part if is_code else _without_pictures(part, names, skipped))
    return "".join(parts)


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, each with whether it is fenced code."""
    at = 0
    for start, end in fenced_blocks(text):
        yield text[at:start], False
        yield text[start:end], True
        at = end
    yield text[at:], False


def _without_pictures(text: str, names: set[str], skipped: Skipped) -> str:
    def described(found: re.Match[str]) -> str:
        skipped["images"] += 1
        return found[1]

    def alternative(found: re.Match[str]) -> str:
        skipped["images"] += 1
        alt = _ALT.search(found[0])
        return (alt[1] or alt[2] or "") if alt else ""

    def referred(found: re.Match[str]) -> str:
        name = (found[2] or found[1]).lower()
        return described(found) if name in names else found[0]

    text = _PICTURE_ELEMENT.sub(alternative, _PICTURE.sub(described, _PICTURE_TARGET.sub("", text)))
    if names:
        text = re.sub(r"!\[([^\]\n]*)\](?:\[([^\]\n]*)\])?", referred, text)
    text, comments = _COMMENT.subn("", text)
    skipped["hidden"] += comments
    return text


def front_matter(text: str) -> tuple[dict[str, Any] | None, int]:
    """The fields at the top of a Markdown file between lines of ``---`` (YAML) or ``+++`` (TOML), and where they end.

    None and 0 where there are none: what stands between two rules is text, unless it is a mapping.
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        return None, 0
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
    title = title or text_title(text, plain=path.lower().endswith(".txt"))
    if not title:
        title = PurePosixPath(path).stem.replace("_", " ").replace("-", " ").strip() or path
    return clean_title(title), text
