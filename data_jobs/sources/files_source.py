"""Files as a source: those of a plain folder, or of any location that a catalogue may hold. One file is an item."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from cluster.core.progress import Progress
from cluster.core.records import Document, Quarantined, stable_hash
from cluster.core.sections.data import DataSection
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.files import FileItem, check_folder
from data_jobs.sources.located_files import locate
from data_jobs.sources.protocol import KEY_CHARS, OpenedSource, SourceItem, SourceItems
from data_jobs.sources.records import limits_of, read_records


class FilesSource:
    """See ``protocol.Source``."""

    kind = "files"
    entry: CatalogueEntry | None = None  # its locations have entries of their own
    questions: tuple[str, ...] = ()

    def check(self, section: DataSection) -> None:
        if not section.sources:  # what a catalogue names may be anywhere
            check_folder(section.source)

    def open(
        self, section: DataSection, entry: CatalogueEntry | None, landing: Path, progress: Progress
    ) -> OpenedSource:
        progress.stage("list files" if entry is None or not entry.remote else f"fetch {entry.location}")
        located = locate(section, entry, landing)
        name = slug(located.root.name)
        label = entry.name if entry is not None else slug(section.name or name)
        return OpenedSource(
            self.kind, name=name, label=label, where=entry.location if entry is not None else section.source,
            version=stable_hash([asdict(f) for f in located.files] + [q.to_dict() for q in located.refused]),
            seen=len(located.files) + len(located.refused),
            items=SourceItems(file_items(located.root, located.files, label), located.refused),
        )  # fmt: skip

    def records(self, item: SourceItem, section: DataSection) -> Iterator[Document | Quarantined]:
        file = FileItem(**item.body["file"])
        return read_records(Path(item.body["root"]), file, item.body["source_name"], limits_of(section))


def file_items(root: Path, files: Iterable[FileItem], source_name: str) -> tuple[SourceItem, ...]:
    """Files below ``root`` as items; their records say that they are from ``source_name``.

    The root is in no key: the same files in another folder become the same records.
    """
    return tuple(
        SourceItem(
            stable_hash([file.path, file.sha256, file.companion, file.access], KEY_CHARS), file.bytes,
            {"root": str(root), "source_name": source_name, "file": asdict(file)},
        )
        for file in files
    )  # fmt: skip


def slug(name: str) -> str:
    """A dataset name out of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-") or "documents"
