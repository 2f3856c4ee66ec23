"""Jupyter notebooks: the cells in order with what they printed; one odd cell costs that cell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_file
from data_jobs.extractors.html import visible_text
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, Skipped, UnreadableFileError, clean_title
from data_jobs.extractors.shown_markdown import shown_markdown
from data_jobs.extractors.titles import text_title

_COLOURS = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]")
_TEXT_TYPES = ("text/markdown", "text/plain")
_PICTURES = ("image/", "video/", "audio/")


class NotebookExtractor:
    """Jupyter notebooks: their cells and the outputs that are text, as one document. See ``protocol.Extractor``."""

    format = Format("ipynb", (".ipynb",), content_types={"application/x-ipynb+json": ".ipynb"})

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        # A stored picture is one long line of base64: the limit of lines is for text.
        text, steps = decode_file(data, max(limits.line_bytes, limits.file_bytes))
        try:
            notebook = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableFileError("bad_json", str(error)[:200]) from None
        language, cells = _cells(notebook)
        budget, skipped, parts = Budget(limits, len(data)), Skipped(), list[str]()
        for cell in cells:
            for part in _parts(cell, language, skipped):
                budget.take_text(part)
                parts.append(part)
        body = "\n\n".join(parts)
        if not body:
            if skipped["odd_cells"]:
                raise UnreadableFileError("not_a_notebook", f"none of its {len(cells)} cells can be read")
            raise UnreadableFileError("no_text", "no cell with text")
        yield origin.document(clean_title(text_title(body)), body, steps=(*steps, *skipped.steps()))


def _cells(notebook: Any) -> tuple[str, list[Any]]:
    """Language and cells; versions before 4 keep the cells in worksheets."""
    if not isinstance(notebook, dict):
        raise UnreadableFileError("not_a_notebook", f"a {type(notebook).__name__}")
    cells = notebook.get("cells")
    sheets = notebook.get("worksheets")
    if cells is None and isinstance(sheets, list):
        cells = [c for s in sheets if isinstance(s, dict) and isinstance(s.get("cells"), list) for c in s["cells"]]
    if not isinstance(cells, list):
        raise UnreadableFileError("not_a_notebook", "no list of cells")
    meta = notebook.get("metadata")
    parts = [meta.get(name) for name in ("kernelspec", "language_info")] if isinstance(meta, dict) else [None, None]
    kernel, info = (part if isinstance(part, dict) else dict[str, Any]() for part in parts)
    language = kernel.get("language") or info.get("name")
    return (language if isinstance(language, str) and language.isalnum() else "python"), cells


def _parts(cell: Any, language: str, skipped: Skipped) -> Iterator[str]:
    """What one cell shows: its source, then its outputs."""
    source = _joined(cell.get("source", cell.get("input", ""))) if isinstance(cell, dict) else None
    if source is None:
        skipped["odd_cells"] += 1
        source = ""
    if not isinstance(cell, dict):
        return
    kind = cell.get("cell_type")
    if kind == "code":
        if source.strip():
            yield _fenced(source, language)
    elif source.strip():  # Markdown; raw text and cells of kinds to come are shown as they are
        level = cell.get("level")
        mark = "#" * level + " " if kind == "heading" and isinstance(level, int) and 0 < level < 7 else ""
        yield mark + (shown_markdown(source, skipped).strip() if kind == "markdown" else source.strip())
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        text = _output(output, skipped)
        if text.strip():
            yield text


def _output(output: Any, skipped: Skipped) -> str:
    """An output that is text: what was printed, a result, an error's name and message. Pictures are counted."""
    if not isinstance(output, dict):
        skipped["odd_cells"] += 1
        return ""
    if "ename" in output or output.get("output_type") in ("error", "pyerr"):
        skipped["tracebacks"] += bool(output.get("traceback"))
        said = (output.get("ename"), output.get("evalue"))
        return _fenced(": ".join(part for part in said if isinstance(part, str) and part))
    data = output.get("data")
    if not isinstance(data, dict):
        if any(kind in output for kind in ("png", "jpeg", "svg")):  # before version 4 they stand beside each other
            skipped["images"] += 1
        else:
            return _fenced(_joined(output.get("text")) or "")
        return ""
    if any(str(kind).startswith(_PICTURES) for kind in data):
        skipped["images"] += 1  # its text is "<Figure size 640x480>"
        return ""
    for kind in _TEXT_TYPES:
        if text := _joined(data.get(kind)):
            return shown_markdown(text, skipped).strip() if kind == "text/markdown" else _fenced(text)
    if page := _joined(data.get("text/html")):
        try:
            return visible_text(page, Budget(Limits(), len(page)), skipped)[1]
        except UnreadableFileError:  # scripts only: it is counted below
            pass
    if text := _joined(data.get("text/latex")):
        return text.strip()
    if "application/json" in data:
        return _fenced(json.dumps(data["application/json"], ensure_ascii=False, indent=1), "json")
    skipped["outputs"] += bool(data)
    return ""


def _joined(source: Any) -> str | None:
    """A text that may be a list of its lines; None where it is neither."""
    lines = source if isinstance(source, list) else [source]
    texts = [line for line in lines if isinstance(line, str)]
    return "".join(texts) if len(texts) == len(lines) else None


def _fenced(text: str, language: str = "") -> str:
    plain = _COLOURS.sub("", text).strip("\n").rstrip()
    if not plain.strip():
        return ""
    marks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", plain)), default=0))
    return f"{marks}{language}\n{plain}\n{marks}"
