"""Turn the bytes of one listed file into records: documents with their provenance, or reasons why there are none.

Text is only cut out here (see ``extractors``), not cleaned: see ``text``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster.core.records import Document, Quarantined
from cluster.core.sections.data import DataSection
from data_jobs.extractors.protocol import EXTRACT_REASONS, Limits, Origin, UnreadableFileError, clean_title
from data_jobs.extractors.registry import extract
from data_jobs.extractors.text import split_title
from data_jobs.sources.files import FileItem, read_bytes, read_path


def limits_of(section: DataSection) -> Limits:
    """The limits that the configuration sets."""
    return Limits(
        file_bytes=section.max_file_mb << 20, line_bytes=section.max_line_kb << 10,
        text_bytes=section.max_text_mb << 20, ratio=section.max_ratio, pages=section.max_pages, rows=section.max_rows,
        seconds=section.max_extract_s,
    )  # fmt: skip


def read_records(
    root: Path, item: FileItem, source_name: str, limits: Limits | tuple[int, int]
) -> Iterator[Document | Quarantined]:
    """The records of one file in order. ``limits`` may be just the most bytes of a file and of a line.

    A file that cannot be read yields one ``Quarantined`` with an empty ``record``; a bad record of a file of records
    one that names it.
    """
    if isinstance(limits, tuple):
        limits = Limits(file_bytes=limits[0], line_bytes=limits[1])
    most = limits.file_bytes
    try:
        data = read_bytes(root, item, most)
    except UnreadableFileError as error:
        yield Quarantined(item.path, "", *error.args)
        return

    def neighbour(path: str) -> bytes:
        return read_path(root, posixpath.normpath(path), most)

    for record in extract(data, Origin(item.path, source_name, item.sha256, item.bytes, neighbour), limits):
        yield replace(record, access=item.access) if isinstance(record, Document) else record


__all__ = ["EXTRACT_REASONS", "Limits", "clean_title", "limits_of", "read_records", "split_title"]
