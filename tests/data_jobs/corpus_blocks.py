"""Blocks of a corpus made by hand: of files in a folder, or of documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cluster.core.records import Document
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import CorpusBlock
from data_jobs.sources.files import FileItem
from data_jobs.sources.files_source import file_items
from data_jobs.sources.protocol import document_item


def of_files(
    number: int, store: Store, staging: str, section: DataSection, root: Path, files: Iterable[FileItem], name: str
) -> CorpusBlock:
    """A block of files below ``root`` whose records are from the source ``name``."""
    return CorpusBlock(number, store.uri, staging, section, "files", file_items(root, files, name))


def of_documents(
    number: int, store: Store, staging: str, section: DataSection, documents: Iterable[Document]
) -> CorpusBlock:
    """A block of documents that a source made itself."""
    return CorpusBlock(number, store.uri, staging, section, "pydocs", tuple(map(document_item, documents)))
