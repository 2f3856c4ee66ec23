"""The standard library's documentation as a source: read module by module, then linked, one document an item."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.core.progress import Progress
from cluster.core.records import Document, Quarantined
from cluster.core.sections.data import DataSection
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.protocol import OpenedSource, Preparation, SourceItem, SourceItems, document_item, item_document
from data_jobs.sources.pydocs.asked import with_questions
from data_jobs.sources.pydocs.documents import NAME, link
from data_jobs.sources.pydocs.stdlib import library_version, module_names, scan_modules, with_files
from data_jobs.sources.pydocs.symbols import ModuleScan

PARTS = 16  # The modules are read in so many parts: more than most machines have CPUs.
Scanned = tuple[list[ModuleScan], list[Quarantined]]


class PydocsSource:
    """See ``protocol.Source``."""

    kind = NAME
    entry = CatalogueEntry(
        name=NAME, location=NAME, owner="Python Software Foundation", licence="PSF-2.0", sensitivity="public",
        approved_by="Plinth (built in)", approved_on=datetime.date(2024, 1, 1),
        uses=("retrieval", "pretraining", "fine-tuning"),
    )  # fmt: skip
    questions = (
        "How do I copy a whole directory tree?",
        "What is the best way to find the most common items in a list?",
    )

    def check(self, section: DataSection) -> None:
        module_names()

    def open(
        self, section: DataSection, entry: CatalogueEntry | None, landing: Path, progress: Progress
    ) -> OpenedSource:
        names = module_names()
        parts = tuple(names[start::PARTS] for start in range(PARTS))
        return OpenedSource(
            self.kind, name=NAME, label=NAME, where=NAME, version=library_version(), seen=len(names), unit="documents",
            items=Preparation("modules", parts, scan_modules, linked),
        )  # fmt: skip

    def records(self, item: SourceItem, section: DataSection) -> Iterator[Document | Quarantined]:
        yield item_document(item)


def linked(scanned: Sequence[Scanned]) -> SourceItems:
    """The documents of all modules with the questions shipped for them, and the modules that could not be read."""
    scans = [scan for found, _ in scanned for scan in found]
    refused = [one for _, failed in scanned for one in failed]
    documents, unplaced = with_questions(with_files(link(scans)))
    items = tuple(document_item(document) for document in documents)
    return SourceItems(items, tuple(sorted(refused, key=lambda q: q.source)), unplaced)
