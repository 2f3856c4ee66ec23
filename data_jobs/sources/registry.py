"""The table of sources: add one here."""

from __future__ import annotations

from cluster.core.sections.data import DataSection
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.files_source import FilesSource
from data_jobs.sources.protocol import Source
from data_jobs.sources.pydocs.source import PydocsSource

FILES = FilesSource()
SOURCES: dict[str, Source] = {source.kind: source for source in (FILES, PydocsSource())}
BUILT_IN: dict[str, CatalogueEntry] = {s.entry.name: s.entry for s in SOURCES.values() if s.entry is not None}
_BY_NAME = {s.entry.name: s for s in SOURCES.values() if s.entry is not None}


def source_for(section: DataSection) -> Source:
    """The source that ``section.source`` asks for: a built-in one by its name, else files, in a catalogue or not."""
    return _BY_NAME.get(section.source, FILES)
