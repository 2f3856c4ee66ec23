"""Which extractor reads which file: by suffix, never by a guess at the content."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.archives import ArchiveExtractor
from data_jobs.extractors.columns import ParquetExtractor
from data_jobs.extractors.docx import DocxExtractor
from data_jobs.extractors.html import HtmlExtractor
from data_jobs.extractors.images import CAPTIONS, CaptionsExtractor, ImageExtractor
from data_jobs.extractors.jsonl import JsonLinesExtractor
from data_jobs.extractors.notebook import NotebookExtractor
from data_jobs.extractors.pdf import PdfExtractor
from data_jobs.extractors.protocol import Extractor, Limits, Origin, UnreadableFileError
from data_jobs.extractors.table import TableExtractor
from data_jobs.extractors.text import TextExtractor
from data_jobs.extractors.warc import WarcExtractor


def extractor_for(path: str) -> Extractor | None:
    """The extractor of a file by its name, None for a kind that is not read. The longest suffix decides."""
    name = posixpath.basename(path).lower()
    if name == CAPTIONS:
        return _CAPTIONS
    matches = [suffix for suffix in _BY_SUFFIX if name.endswith(suffix)]
    return _BY_SUFFIX[max(matches, key=len)] if matches else None


def extract(data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
    """The records of one file. What cannot be read is yielded with its reason, nothing is raised for it."""
    extractor = extractor_for(origin.path)
    if extractor is None:
        yield origin.refused("", "unsupported_kind", "its suffix is none of those that are read")
        return
    started = False
    try:
        for found in extractor.extract(data, origin, limits):
            started = True
            yield found
    except UnreadableFileError as error:
        # Records that were read stand; what could not be read after them is named as the rest.
        yield origin.refused("rest" if started else "", *(str(part) for part in error.args))


_CAPTIONS = CaptionsExtractor()
EXTRACTORS: tuple[Extractor, ...] = (
    TextExtractor(), JsonLinesExtractor(), HtmlExtractor(), PdfExtractor(), DocxExtractor(), NotebookExtractor(),
    TableExtractor(), ParquetExtractor(), WarcExtractor(), ImageExtractor(), ArchiveExtractor(extractor_for),
)  # fmt: skip
_BY_SUFFIX = {suffix: extractor for extractor in EXTRACTORS for suffix in extractor.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)
KINDS = tuple(extractor.kind for extractor in EXTRACTORS)
# Files of these kinds hold records, whose ids are PATH#RECORD.
RECORD_SUFFIXES = tuple(
    s for e in EXTRACTORS if e.kind in ("jsonl", "pdf", "csv", "parquet", "warc") for s in e.suffixes
)
