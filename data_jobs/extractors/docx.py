"""Word files: headings, paragraphs, lists and tables in reading order, as Markdown."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, UnreadableFileError, parsing
from data_jobs.extractors.titles import given_title, text_title

# Word's own names, and those of publishers' templates (HeadA, HeadB, ChapterTitle).
_HEADING = re.compile(r"head(?:ing)?[ _-]?([1-9a-e])\Z", re.I)
_TITLES = re.compile(r"(?:chapter|document)?[ _-]?title\Z", re.I)
_CODE = re.compile(
    r"(?:source[ _-]?)?code(?:[ _-]?(?:block|wide|single|[a-z]))?\Z|html preformatted\Z|plain text\Z", re.I
)
_OLE = b"\xd0\xcf\x11\xe0"  # the container of encrypted Office files and of .doc


class DocxExtractor:
    """Word files: headings, paragraphs, lists and tables as one document. See ``protocol.Extractor``."""

    format = Format("docx", (".docx",), libraries=("python-docx",))

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        check_package(data, limits)
        budget = Budget(limits, len(data))
        with parsing("DOCX", zipfile.BadZipFile, *_errors()):
            import docx

            document = docx.Document(io.BytesIO(data))
            title, parts = _title(document), []
            for part in _parts(document, budget):
                parts.append(part)
        text = "\n\n".join(parts).strip()
        if not text:
            raise UnreadableFileError("no_text", "no paragraph or table with text")
        yield origin.document(title or text_title(text), text)


def check_package(data: bytes, limits: Limits) -> None:
    """Refuse a package that is no zip file, is encrypted, or unpacks to too much.

    Sizes are the declared ones; zipfile never reads more of a member than it declares.

    Raises:
        UnreadableFileError: ``damaged``, ``encrypted``, ``bomb``, ``too_many_entries``.
    """
    if data.startswith(_OLE):
        raise UnreadableFileError("encrypted", "an encrypted or old (.doc) Office file")
    with parsing("zip", zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as package:
        entries = package.infolist()
    if len(entries) > limits.entries:
        raise UnreadableFileError("too_many_entries", f"{len(entries)} parts; the limit is {limits.entries}")
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnreadableFileError("encrypted", "its parts are encrypted")
    total = sum(entry.file_size for entry in entries)
    for entry in entries:
        if entry.file_size > max(1 << 20, entry.compress_size * limits.ratio):
            raise UnreadableFileError("bomb", f"{entry.filename[:80]} unpacks to {entry.file_size} bytes")
    if total > max(limits.text_bytes, limits.file_bytes) * 4:
        raise UnreadableFileError("bomb", f"it unpacks to {total} bytes")


def _title(document: Any) -> str:
    return given_title(document.core_properties.title or "")


def _parts(document: Any, budget: Budget) -> Iterator[str]:
    from docx.text.paragraph import Paragraph

    names = {style.style_id: style.name or "" for style in document.styles}
    code: list[str] = []
    for block in document.iter_inner_content():
        style = _style(block, names) if isinstance(block, Paragraph) else ""
        if _CODE.match(style):
            budget.take_text(block.text)
            code.append(block.text)
            continue
        if code:  # a line of code is a paragraph of its own in Word
            yield "\n".join(("```", *code, "```"))
            code = []
        text = _paragraph(block, style) if isinstance(block, Paragraph) else _table(block, budget)
        if text.strip():
            budget.take_text(text)
            yield text
    if code:
        yield "\n".join(("```", *code, "```"))


def _style(paragraph: Any, names: dict[str, str]) -> str:
    properties = paragraph._p.pPr  # looking up the style object is slow and done for every paragraph
    return names.get(properties.style if properties is not None and properties.style else "", "")


def _paragraph(paragraph: Any, style: str) -> str:
    text, properties = paragraph.text, paragraph._p.pPr
    if not text.strip():
        return ""
    if _TITLES.match(style):
        return f"# {' '.join(text.split())}"
    if heading := _HEADING.match(style):
        level = int(heading[1]) if heading[1].isdigit() else "abcde".index(heading[1].lower()) + 2
        return f"{'#' * min(6, level)} {' '.join(text.split())}"
    if properties is not None and properties.numPr is not None:
        return f"- {text}"
    return str(text)


def _table(table: Any, budget: Budget) -> str:
    rows = []
    for row in table.rows:
        budget.check_time()
        cells, last = [], None
        for cell in row.cells:
            if cell._tc is not last:  # a merged cell is listed once for each column it spans
                cells.append(" ".join(cell.text.split()))
            last = cell._tc
        rows.append(" | ".join(cells))
    return "\n".join(row for row in rows if row.strip(" |"))


def _errors() -> tuple[type[Exception], ...]:
    from docx.opc.exceptions import OpcError
    from lxml.etree import LxmlError

    return (OpcError, LxmlError)
