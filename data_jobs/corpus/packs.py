"""What cleaning made of each file of a block, kept under the file's own key so that an unchanged file is read back.

A pack is one Parquet file: the rows of all items of a block, one item after the other, and in its metadata for every
item its key, its number of rows and what it left out. It is written atomically under a name that follows from its
items' keys, so one that is there is done, and a later run takes the items it still needs out of it. Packs hold redacted
text only. One that cannot be read is as good as none: everything in it can be made again.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.core.errors import IntegrityError
from cluster.core.records import Dropped, Quarantined, stable_hash
from cluster.core.storage import Store
from data_jobs.corpus.parquet import read_table, table_bytes
from data_jobs.corpus.validation import Contract

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ("cache", "clean")
_ITEMS = b"plinth.items"
_FLUSH_ROWS = 500


@dataclass
class CleanedItem:
    """What became of one item: rows to keep, and the records left out with their reasons."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


@dataclass(frozen=True)
class PackedItem:
    """One item out of a pack: its rows as a slice of the pack's table, and its line in the metadata."""

    table: pa.Table
    entry: dict[str, Any]


class PackWriter:
    """Collects the items of one block in order and makes the pack's bytes. The same items give the same bytes.

    Raises:
        IntegrityError: a row is not what ``contract`` says: a bug.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.entries: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, key: str, cleaned: CleanedItem) -> None:
        """Append what cleaning made of the item with this key."""
        self._rows += cleaned.rows
        self.entries.append(
            {
                "key": key,
                "rows": len(cleaned.rows),
                "dropped": [d.to_dict() for d in cleaned.dropped],
                "quarantined": [q.to_dict() for q in cleaned.quarantined],
            }
        )
        if len(self._rows) >= _FLUSH_ROWS:
            self._flush()

    def take_over(self, packed: PackedItem) -> None:
        """Append an item of an earlier pack as it is."""
        self._flush()
        self._tables.append(packed.table)
        self.entries.append(packed.entry)

    @property
    def documents(self) -> int:
        """How many rows the pack has so far."""
        return sum(entry["rows"] for entry in self.entries)

    def to_bytes(self) -> bytes:
        """The whole pack as the bytes of a Parquet file."""
        import pyarrow as pa

        self._flush()
        table = pa.concat_tables([self.contract.schema.empty_table(), *self._tables])
        return table_bytes(table, {_ITEMS: json.dumps(self.entries, separators=(",", ":")).encode()})

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self.contract.schema)
            self.contract.check(table, f"the rows of the stage {self.contract.stage!r}")
            self._tables.append(table)
            self._rows = []


def path(store: Store, name: str, settings: str, keys: Sequence[str]) -> str:
    """Where the pack of these items is, whether it is there or not."""
    return store.path(*FOLDER, name, settings, f"{stable_hash(list(keys), 40)}.parquet")


def read(store: Store, where: str) -> tuple[pa.Table, list[dict[str, Any]]] | None:
    """The rows and the items of a pack, or None where there is none that can be read."""
    import pyarrow as pa

    try:
        table = read_table(store.read(where))
        entries: list[dict[str, Any]] = json.loads((table.schema.metadata or {})[_ITEMS])
    except (FileNotFoundError, IntegrityError, pa.ArrowException, OSError, KeyError, ValueError):
        return None
    if sum(entry["rows"] for entry in entries) != len(table):
        return None
    return table.replace_schema_metadata(None), entries


def items(store: Store, where: str) -> list[str]:
    """The keys of the items a pack holds; none where it cannot be read. Reads the end of the file only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.fs.open(where, "rb") as handle:
            metadata = pq.read_schema(handle).metadata or {}
        return [entry["key"] for entry in json.loads(metadata[_ITEMS])]
    except (FileNotFoundError, IntegrityError, pa.ArrowException, OSError, KeyError, ValueError):
        return []


def locations(store: Store, name: str, settings: str) -> dict[str, str]:
    """In which pack each item is that an earlier run made with the same settings."""
    folder = store.path(*FOLDER, name, settings)
    found = sorted(store.fs.find(folder)) if store.exists(folder) else []
    return {key: where for where in found if where.endswith(".parquet") for key in items(store, where)}


def pick(store: Store, packs: Iterable[str], keys: Iterable[str], schema: pa.Schema) -> dict[str, PackedItem]:
    """The wanted items out of these packs."""
    wanted = set(keys)
    found: dict[str, PackedItem] = {}
    for where in packs:
        content = read(store, where)
        if content is None or not content[0].schema.equals(schema):
            continue
        table, entries = content
        at = 0
        for entry in entries:
            if entry["key"] in wanted:
                found[entry["key"]] = PackedItem(table.slice(at, entry["rows"]), entry)
            at += entry["rows"]
    return found


def keep_only(store: Store, name: str, settings: str, packs: Iterable[str]) -> None:
    """Remove every pack of a dataset and its settings but these, and what kills left behind."""
    folder = store.path(*FOLDER, name, settings)
    kept = {posixpath.basename(where) for where in packs}
    for where in store.fs.find(folder) if store.exists(folder) else []:
        if posixpath.basename(where) not in kept:
            store.fs.rm(where)


def everything(store: Store) -> Iterator[str]:
    """All packs of all datasets."""
    folder = store.path(*FOLDER)
    yield from (where for where in (store.fs.find(folder) if store.exists(folder) else []) if where[-8:] == ".parquet")
