"""What a source is to the pipeline: it is opened, cut into items, and its items are read into records on workers.

A source is one file and one entry in ``registry``. The pipeline knows nothing of it but this protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.core.progress import Progress
from cluster.core.records import Document, Quarantined, stable_hash
from cluster.core.sections.data import DataSection
from data_jobs.sources.entry import CatalogueEntry

KEY_CHARS = 40


@dataclass(frozen=True)
class SourceItem:
    """One piece of a source, cleaned as a whole: a file with its records, say, or a document.

    Attributes:
        key: the same as long as everything is that the item's records are made of. What cleaning made of an item is
            kept under it.
        size: roughly the bytes to be read, for blocks of about equal size.
        body: what ``Source.records`` needs to read it: plain JSON, for the item travels to a worker.
    """

    key: str
    size: int
    body: dict[str, Any]


@dataclass(frozen=True)
class SourceItems:
    """The items of a source in a fixed order, what of it cannot be read, and questions without a document."""

    items: tuple[SourceItem, ...] = ()
    refused: tuple[Quarantined, ...] = ()
    questions_unplaced: int = 0


@dataclass(frozen=True)
class Preparation:
    """What some sources need before they have items: a look at all of their parts together.

    Attributes:
        unit: what the parts are counted in, for the progress bar.
        parts: what is read, in pieces that may be read at the same time on different workers.
        read: reads one part; a pure function of it at the top of a module, so that it travels to a worker.
        join: makes the items of the results of all parts, in the order of the parts, on the driver.
    """

    unit: str
    parts: tuple[Sequence[str], ...]
    read: Callable[[Sequence[str]], Any]
    join: Callable[[Sequence[Any]], SourceItems]


@dataclass(frozen=True)
class OpenedSource:
    """What a source holds when a run starts.

    Attributes:
        kind: that of its ``Source``.
        name: what a dataset made of it is called unless the configuration says otherwise.
        label: what its records say they are from (``Document.source_name``).
        where: its place, for the manifest of the dataset.
        version: hash of all its content, known before any of it is read into records.
        seen: the number of files (or modules, ...) it consists of, those that cannot be read included.
        unit: what its items are counted in.
        items: the items, or what has to be done to get them.
    """

    kind: str
    name: str
    label: str
    where: str
    version: str
    seen: int
    items: SourceItems | Preparation
    unit: str = "files"


class Source(Protocol):
    """A kind of source; one instance of it is in ``registry.SOURCES``."""

    @property
    def kind(self) -> str:
        """Its name in the table."""
        ...

    @property
    def entry(self) -> CatalogueEntry | None:
        """What is declared about it where it is built in and every catalogue has it, under this entry's name."""
        ...

    @property
    def questions(self) -> tuple[str, ...]:
        """Some questions that its documents answer, to show after a first run; empty where nobody can know."""
        ...

    def check(self, section: DataSection) -> None:
        """Cheaply look whether the source is there, before anything is started for it.

        Raises:
            BadInputError: it is not, or cannot be read at all.
        """
        ...

    def open(
        self, section: DataSection, entry: CatalogueEntry | None, landing: Path, progress: Progress
    ) -> OpenedSource:
        """Find out what the source holds.

        Args:
            entry: what the catalogue says of it; None for a folder that is in none.
            landing: folder that remote content may be copied to; every worker must see it.

        Raises:
            BadInputError: there is nothing, or more than may be fetched.
            PolicyRefusedError: an address is not allowed.
            EnvironmentFaultError: the place cannot be reached.
        """
        ...

    def records(self, item: SourceItem, section: DataSection) -> Iterator[Document | Quarantined]:
        """The records of one item in order, on a worker; a pure function of the item and the settings."""
        ...


def document_item(document: Document) -> SourceItem:
    """A document as an item, for sources that make documents themselves; ``item_document`` turns it back."""
    body = document.to_dict()
    return SourceItem(stable_hash(body, KEY_CHARS), len(document.text), body)


def item_document(item: SourceItem) -> Document:
    """The document in an item of ``document_item``."""
    return Document.from_dict(item.body)
