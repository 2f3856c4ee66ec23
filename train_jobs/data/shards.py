"""One side of a tokens artefact as one long array of ids, of which only what is asked for is read.

On a local disk shards are mapped into memory, and what was touched is given back at once; from an object store
blocks are fetched by range, checked against their hashes, and kept in a folder that all workers of a machine share. So
a worker's memory is the same for any corpus, and workers start without reading it.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import posixpath
import secrets
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cluster.core.errors import IntegrityError
from cluster.core.storage import Store
from data_jobs.corpus.token_index import BLOCK_BYTES, ShardSide, Side, TokenFile, TokenIndex, check_size, remedy

Ids = npt.NDArray[np.int64]
OPEN_FILES = 128  # mapped at a time: each holds a descriptor
CACHE_BYTES = 64 << 30  # of fetched blocks on a machine's disk


class Stream(Protocol):
    """A long sequence of token ids."""

    def __len__(self) -> int: ...

    def rows(self, starts: Ids, length: int) -> Ids:
        """The ``length`` tokens from each of ``starts`` [n] on: int64 [n, length]."""
        ...


class ArrayStream:
    """A stream that is in memory already, [n] of any integer type."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def rows(self, starts: Ids, length: int) -> Ids:
        """As ``Stream``."""
        return self.array[starts[:, None] + np.arange(length)].astype(np.int64)


class Reader(Protocol):
    """Bytes of files of an artefact."""

    def read(self, file: TokenFile, at: int, size: int) -> bytes:
        """``size`` bytes from byte ``at`` on."""
        ...


class MappedFiles:
    """Files on a local disk, mapped into memory."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._map = lru_cache(maxsize=OPEN_FILES)(self._mapped)

    def read(self, file: TokenFile, at: int, size: int) -> bytes:
        """As ``Reader``."""
        mapped = self._map(file)
        part = mapped[at : at + size]
        # Else every page ever touched counts as this process's memory; the system's page cache keeps them anyway.
        mapped.madvise(mmap.MADV_DONTNEED)
        return part

    def _mapped(self, file: TokenFile) -> mmap.mmap:
        path = posixpath.join(self.folder, file.path)
        try:
            with open(path, "rb") as handle:
                found = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # ValueError: nothing to map
            raise IntegrityError(f"the shard {path} is missing or empty: {remedy(self.folder)}", path=path) from None
        if len(found) != file.bytes:
            raise IntegrityError(f"the shard {path} was changed while it was read: {remedy(self.folder)}", path=path)
        found.madvise(mmap.MADV_RANDOM)  # windows are read in any order: reading ahead would be for nothing
        return found


class FetchedBlocks:
    """Files of an object store, read by blocks that are kept below ``cache``.

    Not fsspec's own block cache: workers of one machine share this one, each block is checked against its hash on the
    way in, and it has a limit.
    """

    def __init__(self, store: Store, folder: str, cache: Path) -> None:
        self.store, self.folder, self.cache = store, folder, cache
        self._checked: dict[str, bytearray] = {}  # of each file, which blocks this process knows to be right
        self._room = -1  # bytes that may be written before the limit is looked at; unknown at first

    def read(self, file: TokenFile, at: int, size: int) -> bytes:
        """As ``Reader``."""
        parts, end = [], at + size
        while at < end:
            number, within = divmod(at, BLOCK_BYTES)
            count = min(end - at, BLOCK_BYTES - within)
            parts.append(self._part(file, number, within, count))
            at += count
        return b"".join(parts)

    def _part(self, file: TokenFile, number: int, at: int, size: int) -> bytes:
        """A part of one block, from the disk or the store. A block is hashed when a process first reads it."""
        wanted = file.block_sha256(number)
        kept = self.cache / wanted[:2] / wanted
        checked = self._checked.setdefault(file.path, bytearray(len(file.blocks) // len(wanted)))
        with contextlib.suppress(OSError), open(kept, "rb") as handle:
            os.utime(handle.fileno())
            if checked[number]:
                handle.seek(at)
                part = handle.read(size)
            else:
                body = handle.read()
                part = body[at : at + size] if hashlib.sha256(body).hexdigest() == wanted else b""
            if len(part) == size:
                checked[number] = 1
                return part
        body = self._fetched(file, number, wanted)
        self._keep(kept, body)
        checked[number] = 1
        return body[at : at + size]

    def _fetched(self, file: TokenFile, number: int, wanted: str) -> bytes:
        """One block out of the store.

        Raises:
            IntegrityError: it does not match its hash.
        """
        path = posixpath.join(self.folder, file.path)
        start = number * BLOCK_BYTES
        try:
            body = self.store.fs.cat_file(path, start=start, end=min(file.bytes, start + BLOCK_BYTES))
        except FileNotFoundError:
            body = b""
        if hashlib.sha256(body).hexdigest() != wanted:
            check_size(self.store, path, file, self.folder)
            raise IntegrityError(f"bytes {start:,} and on of the shard {path} do not match their hash: damaged or "
                                 f"changed; {remedy(self.folder)}", path=path)  # fmt: skip
        return bytes(body)

    def _keep(self, path: Path, body: bytes) -> None:
        """Write a block for the others of this machine; a full disk only means that it is fetched again."""
        if len(body) > self._room:
            self._room = self._make_room()
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(body)
            temporary.replace(path)
            self._room -= len(body)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _make_room(self) -> int:
        """Delete what was not read for longest until a tenth of the limit is free; bytes that may be written now."""
        found = []
        for path in self.cache.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        used = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if used <= CACHE_BYTES * 9 // 10:
                break
            path.unlink(missing_ok=True)
            used -= size
        return (CACHE_BYTES - used) // 4  # others write too


class ShardStream:
    """One side of a tokens artefact, its shards one behind the other."""

    def __init__(self, reader: Reader, index: TokenIndex, side: Side) -> None:
        self.reader, self.dtype = reader, np.dtype(index.dtype).newbyteorder("<")
        self.shards: Sequence[ShardSide] = index.shards(side)
        self._ends = np.cumsum([shard.tokens for shard in self.shards], dtype=np.int64)
        self._documents = np.cumsum([shard.documents for shard in self.shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def documents(self) -> int:
        """How many there are."""
        return int(self._documents[-1]) if len(self._documents) else 0

    def rows(self, starts: Ids, length: int) -> Ids:
        """As ``Stream``."""
        found = np.empty((len(starts), length), dtype=np.int64)
        for row, start in zip(found, starts.tolist(), strict=True):
            filled, number = 0, int(np.searchsorted(self._ends, start, side="right"))
            while filled < length:  # a row may go on in the next shard
                shard, at = self.shards[number], start + filled - (int(self._ends[number]) - self.shards[number].tokens)
                count = min(length - filled, shard.tokens - at)
                row[filled : filled + count] = self._numbers(shard.ids, at, count, self.dtype)
                filled, number = filled + count, number + 1
        return found

    def document(self, number: int) -> Ids:
        """All tokens of one document, int64."""
        at = int(np.searchsorted(self._documents, number, side="right"))
        shard = self.shards[at]
        within = number - (int(self._documents[at]) - shard.documents)
        start, end = (int(n) for n in self._numbers(shard.starts, within, 2, np.dtype("<u8")))
        return self._numbers(shard.ids, start, end - start, self.dtype).astype(np.int64)

    def _numbers(self, file: TokenFile | None, at: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if file is None:
            raise IntegrityError("a shard of the tokens counts tokens and names no file: make the tokens anew")
        size = dtype.itemsize
        return np.frombuffer(self.reader.read(file, file.offset + at * size, count * size), dtype)


def reader_of(store: Store, folder: str, cache: Path) -> Reader:
    """What reads the files of an artefact: mapped on a local disk, else block by block through ``cache``."""
    return MappedFiles(folder) if store.local else FetchedBlocks(store, folder, cache)
