"""The protocol of sources: which one a configuration asks for, and that the pipeline needs to know nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import BadInputError
from cluster.core.progress import Progress, Silent
from cluster.core.records import Document, Quarantined
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from data_jobs.corpus.blocks import CorpusBlock, clean_block, find_duplicates, finish_block, read_rows
from data_jobs.sources.entry import CatalogueEntry
from data_jobs.sources.protocol import (
    OpenedSource,
    Preparation,
    SourceItem,
    SourceItems,
    document_item,
    item_document,
)
from data_jobs.sources.pydocs.documents import read_pydocs
from data_jobs.sources.registry import FILES, SOURCES, source_for


def test_the_configuration_names_a_built_in_source_or_files() -> None:
    assert source_for(DataSection(source="pydocs")).kind == "pydocs"
    assert source_for(DataSection(source="/home/ann/notes")) is FILES
    assert source_for(DataSection(source="handbook", sources="sources.yaml")) is FILES
    assert source_for(DataSection(source="files")) is FILES
    assert len(source_for(DataSection(source="pydocs")).questions) == 2


def test_a_missing_folder_is_noticed_before_anything_is_started(tmp_path: Path) -> None:
    missing = DataSection(source=str(tmp_path / "missing"))
    with pytest.raises(BadInputError, match="missing"):
        source_for(missing).check(missing)
    in_a_catalogue = DataSection(source="handbook", sources=str(tmp_path / "sources.yaml"))
    source_for(in_a_catalogue).check(in_a_catalogue)
    source_for(DataSection()).check(DataSection())


def test_the_same_files_in_another_folder_are_the_same_content(tmp_path: Path) -> None:
    opened = []
    for parent in ("here", "there"):
        folder = tmp_path / parent / "My notes"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("Some words of a note.")
        (folder / "b.bin").write_bytes(b"\0")
        section = DataSection(source=str(folder))
        opened.append(FILES.open(section, None, tmp_path / "landing", Silent()))
    here, there = opened
    assert (here.name, here.label, here.seen, here.unit) == ("my-notes", "my-notes", 2, "files")
    assert here.version == there.version
    assert isinstance(here.items, SourceItems)
    assert isinstance(there.items, SourceItems)
    assert [i.key for i in here.items.items] == [i.key for i in there.items.items]
    assert [q.reason for q in here.items.refused] == ["unsupported_kind"]
    (record,) = FILES.records(here.items.items[0], DataSection())
    assert isinstance(record, Document)
    assert (record.text, record.source_name) == ("Some words of a note.", "my-notes")


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.process
def test_the_standard_library_is_read_in_parts_and_linked_as_a_whole(tmp_path: Path) -> None:
    source = SOURCES["pydocs"]
    opened = source.open(DataSection(), source.entry, tmp_path, Silent())
    prepare = opened.items
    assert isinstance(prepare, Preparation)
    assert opened.seen == sum(map(len, prepare.parts))
    made = prepare.join([prepare.read(part) for part in prepare.parts])
    records = [record for item in made.items for record in source.records(item, DataSection())]
    documents = [record for record in records if isinstance(record, Document)]
    assert [replace(d, file_sha256="", span=()) for d in documents] == list(read_pydocs())
    assert sum(bool(d.file_sha256) for d in documents) > 5000
    assert sum(len(d.questions) for d in documents) > 3000


class Diary:
    """A source of two days in memory, the second of which cannot be read."""

    kind = "diary"
    entry: CatalogueEntry | None = None
    questions: tuple[str, ...] = ()

    def check(self, section: DataSection) -> None:
        pass

    def open(self, section: DataSection, entry: Any, landing: Path, progress: Progress) -> OpenedSource:
        day = Document("monday", "Monday", "On Monday the mainsail was mended, write to ann@corp.io.", "diary")
        items = (document_item(day), SourceItem("torn", 1, {}))
        return OpenedSource("diary", "diary", "diary", "memory", "1", 2, SourceItems(items))

    def records(self, item: SourceItem, section: DataSection) -> Iterator[Document | Quarantined]:
        yield item_document(item) if item.body else Quarantined("tuesday", "", "torn_out")


def test_a_source_needs_no_more_than_its_entry_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "diary", Diary())
    opened = SOURCES["diary"].open(DataSection(), None, tmp_path, Silent())
    assert isinstance(opened.items, SourceItems)
    store, section = Store(str(tmp_path / "store")), DataSection(owner="Ann", licence="MIT")
    block = CorpusBlock(0, store.uri, store.staging("run"), section, opened.kind, opened.items.items)
    assert clean_block(CorpusBlock.from_json(block.to_json())) == {"items": 2, "documents": 1, "reused": 0}
    cleaned = find_duplicates(store, [block])
    finish_block(block)
    (row,) = read_rows(store, block.final_path)
    assert (row["id"], row["text"].endswith("<EMAIL_1>."), row["owner"]) == ("monday", True, "Ann")
    assert [(q.source, q.reason) for q in cleaned.quarantined] == [("tuesday", "torn_out")]
