"""Which extractor reads which file: by suffix, never by a guess at the content. Add a format to ``EXTRACTORS``."""

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


def format_of(document: str) -> str:
    """The format of the file that a document is of, by the document's id; ``other`` where it is of no file."""
    lowered = document.lower()
    marks = [at for suffix in RECORD_SUFFIXES if (at := lowered.find(f"{suffix}#")) >= 0]
    path = document[: lowered.index("#", min(marks))] if marks else document
    extractor = extractor_for(path)
    return extractor.format.kind if extractor is not None else "other"


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
FORMATS = tuple(extractor.format for extractor in EXTRACTORS)
_BY_SUFFIX = {suffix: extractor for extractor in EXTRACTORS for suffix in extractor.format.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)
KINDS = tuple(known.kind for known in FORMATS)
RECORD_SUFFIXES = tuple(suffix for known in FORMATS if known.holds_records for suffix in known.suffixes)
LIBRARIES = tuple(library for known in FORMATS for library in known.libraries)
# What a server declares is no guess, where the type has one suffix.
SUFFIX_OF_TYPE = {kind: suffix for known in FORMATS for kind, suffix in known.content_types.items()}
