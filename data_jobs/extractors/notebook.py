"""Jupyter notebooks: Markdown and code cells in order; outputs are left out, they are neither prose nor code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_file
from data_jobs.extractors.protocol import Budget, Format, Limits, Origin, UnreadableFileError, clean_title
from data_jobs.extractors.titles import text_title


class NotebookExtractor:
    """Jupyter notebooks: Markdown and code cells as one document. See ``protocol.Extractor``."""

    format = Format("ipynb", (".ipynb",))

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        # A stored picture is one long line of base64: the limit of lines is for text.
        text, steps = decode_file(data, max(limits.line_bytes, limits.file_bytes))
        try:
            notebook = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UnreadableFileError("bad_json", str(error)[:200]) from None
        language, cells = _cells(notebook)
        budget, parts = Budget(limits, len(data)), []
        for number, cell in enumerate(cells, start=1):
            kind, source = _source(cell, number)
            if not source.strip() or kind not in ("markdown", "code", "heading"):
                continue
            budget.take_text(source)
            parts.append(f"```{language}\n{source.rstrip()}\n```" if kind == "code" else source.strip())
        body = "\n\n".join(parts)
        if not body:
            raise UnreadableFileError("no_text", "no cell with text")
        yield origin.document(clean_title(text_title(body)), body, steps=steps)


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
    kernel = meta.get("kernelspec") if isinstance(meta, dict) else None
    language = kernel.get("language") if isinstance(kernel, dict) else ""
    return (language if isinstance(language, str) and language.isalnum() else "python"), cells


def _source(cell: Any, number: int) -> tuple[str, str]:
    if not isinstance(cell, dict):
        raise UnreadableFileError("not_a_notebook", f"cell {number} is a {type(cell).__name__}")
    source = cell.get("source", cell.get("input", ""))
    lines = source if isinstance(source, list) else [source]
    texts = [line for line in lines if isinstance(line, str)]
    if len(texts) < len(lines):
        raise UnreadableFileError("not_a_notebook", f"the source of cell {number} is not text")
    kind = cell.get("cell_type")
    return (kind if isinstance(kind, str) else ""), "".join(texts)
