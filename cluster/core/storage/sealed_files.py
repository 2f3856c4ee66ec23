"""A filesystem over another one that encrypts what is written and decrypts what is read; names stay as they are.

Files that were written before without encryption are read as they are.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.spec import AbstractFileSystem

from cluster.core.storage.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    Seal,
    SealedReader,
    SealedWriter,
    is_sealed,
    key_of,
    plain_size,
    stored_range,
)
from cluster.core.storage.store_keys import StoreKeys
from cluster.core.storage.whole_files import whole_file


class SealedFileSystem(AbstractFileSystem):
    """What ``Store.fs`` is where the store has keys. Sizes of listings are those on the disk, that of ``info`` is the
    content's.

    Args:
        inner: where the files are. root: of the store there; a file's path below it is bound to its content.
        on_disk: it is a disk of this machine: files appear there whole, by a rename.
    """

    protocol = "sealed"
    cachable = False

    def __init__(self, inner: Any, root: str, keys: StoreKeys, on_disk: bool) -> None:
        super().__init__()
        self._inner, self._root, self._keys, self._on_disk = inner, root, keys, on_disk

    # -- names: as below ----------------------------------------------------------------------------------------------
    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """As below."""
        return self._inner.ls(path, detail=detail, **kwargs)

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any) -> Any:
        """As below."""
        return self._inner.find(path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """As below."""
        return self._inner.glob(path, maxdepth=maxdepth, **kwargs)

    def exists(self, path: str, **kwargs: Any) -> bool:
        """As below."""
        return bool(self._inner.exists(path, **kwargs))

    def isdir(self, path: str) -> bool:
        """As below."""
        return bool(self._inner.isdir(path))

    def isfile(self, path: str) -> bool:
        """As below."""
        return bool(self._inner.isfile(path))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """As below."""
        self._inner.mkdir(path, create_parents=create_parents, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """As below."""
        self._inner.makedirs(path, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """As below."""
        self._inner.rmdir(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """As below."""
        self._inner.rm(path, recursive=recursive, maxdepth=maxdepth)

    def rm_file(self, path: str) -> None:
        """As below."""
        self._inner.rm_file(path)

    def modified(self, path: str) -> Any:
        """As below."""
        return self._inner.modified(path)

    def unstrip_protocol(self, name: str) -> str:
        """As below."""
        return str(self._inner.unstrip_protocol(name))

    # -- content ------------------------------------------------------------------------------------------------------
    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """As below, with the size of the content."""
        row: dict[str, Any] = self._inner.info(path, **kwargs)
        if row["type"] != "file" or not row["size"] or not is_sealed(self._head(path), path):
            return row
        return {**row, "size": plain_size(row["size"], path)}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The content of a file, or the part of it that ``bytes[start:end]`` would be.

        Raises:
            IntegrityError: it was changed.
            EnvironmentFaultError: its key is not here.
        """
        if start is None and end is None:
            body: bytes = self._inner.cat_file(path, **kwargs)
            if not is_sealed(body[:HEADER_BYTES], path):
                return body
            return SealedReader(io.BytesIO(body), len(body), self._seal(body[:HEADER_BYTES], path)).readall()
        stored = int(self._inner.info(path)["size"])
        head = self._head(path) if stored else b""
        if not is_sealed(head, path):
            return bytes(self._inner.cat_file(path, start=start, end=end, **kwargs))
        size = plain_size(stored, path)
        first, last, _ = slice(start, end).indices(size)
        if first >= last < size:
            return b""
        begin = min(first, max(size - 1, 0))  # where nothing is left to read, the last chunk says that this is the end
        # Not through a file object: that of an object store reads ahead by megabytes.
        at, to = stored_range(begin, max(last, begin + 1), stored)
        boxes: bytes = self._inner.cat_file(path, start=at, end=to)
        seal, found, step = self._seal(head, path), bytearray(), CHUNK_BYTES + TAG_BYTES
        for number, place in enumerate(range(0, to - at, step), start=begin // CHUNK_BYTES):
            found += seal.open(number, boxes[place : place + step], at + place + step >= stored)
        skip = first - begin // CHUNK_BYTES * CHUNK_BYTES
        return bytes(found[skip : skip + max(0, last - first)])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write a file."""
        with self._writer(path) as handle:
            handle.write(value)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file: under the current key, and bound to where it is now."""
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        self.makedirs(posixpath.dirname(path2), exist_ok=True)
        with self._reader(path1) as source, self._writer(path2) as target:
            while block := source.read(CHUNK_BYTES * 16):
                target.write(block)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "rb":
            return self._reader(path)
        if mode == "wb":
            return self._writer(path)
        raise NotImplementedError(f"{path}: an encrypted file is read, or written anew, not opened with {mode!r}")

    def _reader(self, path: str) -> Any:
        handle = self._inner.open(path, "rb")
        try:
            head = handle.read(HEADER_BYTES)
            if is_sealed(head, path):
                size = handle.seek(0, io.SEEK_END)
                return io.BufferedReader(SealedReader(handle, size, self._seal(head, path)), CHUNK_BYTES)
        except BaseException:
            handle.close()
            raise
        handle.seek(0)
        return handle

    def _writer(self, path: str) -> SealedWriter:
        target = whole_file(path) if self._on_disk else _sent(self._inner.open(path, "wb"))
        return SealedWriter(target, Seal.new(self._keys, self._name(path), path))

    def _seal(self, head: bytes, path: str) -> Seal:
        return Seal(self._keys, head, self._name(path), path)

    def _head(self, path: str) -> bytes:
        return bytes(self._inner.cat_file(path, start=0, end=HEADER_BYTES))

    def _name(self, path: str) -> str:
        return posixpath.relpath(path, self._root)

    # -- the whole store ----------------------------------------------------------------------------------------------
    def stale(self) -> Iterator[str]:
        """The files that are plain, or under another key than the current one."""
        for path in sorted(self.find(self._root)):
            if posixpath.basename(path).endswith((".lock", ".tmp")):
                continue  # nothing is in them, or nobody reads them
            head = self._head(path) if self._inner.size(path) else b""
            if not is_sealed(head, path) or key_of(head) != self._keys.current:
                yield path

    def reseal(self, done: Callable[[], object] = lambda: None) -> int:
        """Write ``stale`` files anew, under the current key; how many. Nobody else may be writing.

        Raises:
            IntegrityError: a file was changed. What came before it is done; it and what follows is not.
            EnvironmentFaultError: the key of a file is not here, or there is no space.
        """
        count = 0
        for count, path in enumerate(self.stale(), start=1):  # noqa: B007 (the count is what is returned)
            self.cp_file(path, path)
            done()
        return count


@contextmanager
def _sent(handle: Any) -> Iterator[Any]:
    """A file of an object store: sent when the block is left, but for an exception."""
    try:
        yield handle
    except BaseException:
        handle.discard()
        handle.forced = True  # fsspec: closing it sends nothing
        raise
    handle.close()
