"""How an encrypted file looks: a header, then chunks of 64 KiB, each under AES-256-GCM.

::

    magic (8) | id of the key (8) | salt (16) | chunk 0 | tag (16) | chunk 1 | tag (16) | ...

Each file has a key of its own (``StoreKeys.cipher``), so that a chunk's number can be its nonce; the nonce's last byte
says whether it is the last one. Header and path below the store's root are authenticated with every chunk. A chunk that
was changed, moved, or brought from another file does not open, nor does the end of a file that was cut or lengthened
(STREAM; Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

from __future__ import annotations

import io
import secrets
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

from cryptography.exceptions import InvalidTag

from cluster.core.errors import IntegrityError
from cluster.core.storage.store_keys import ID_BYTES, StoreKeys
from cluster.core.storage.whole_files import MAGIC

SALT_BYTES, TAG_BYTES = 16, 16
HEADER_BYTES = len(MAGIC) + ID_BYTES + SALT_BYTES
CHUNK_BYTES = 1 << 16


def is_sealed(head: bytes, path: str) -> bool:
    """Whether a file that begins with these bytes (``HEADER_BYTES``, or all it has) is an encrypted one.

    Raises:
        IntegrityError: it was one, and is cut inside its header.
    """
    if len(head) < HEADER_BYTES and head and MAGIC.startswith(head[: len(MAGIC)]):
        raise _damaged(path)
    return head.startswith(MAGIC)


def key_of(head: bytes) -> str:
    """The id (hex) of the key that an encrypted file with this header is under."""
    return head[len(MAGIC) : len(MAGIC) + ID_BYTES].hex()


def plain_size(stored: int, path: str) -> int:
    """Bytes in an encrypted file that takes ``stored`` bytes.

    Raises:
        IntegrityError: no encrypted file has this size.
    """
    body = stored - HEADER_BYTES
    chunks = -(-body // (CHUNK_BYTES + TAG_BYTES))
    size = body - chunks * TAG_BYTES
    if chunks < 1 or size < 0 or (chunks > 1 and size <= (chunks - 1) * CHUNK_BYTES):
        raise _damaged(path)
    return size


class Seal:
    """Encrypts and decrypts the chunks of one file.

    Args:
        head: the file's header. name: its path below the store's root. path: what errors call it.

    Raises:
        EnvironmentFaultError: the file's key is not here.
    """

    def __init__(self, keys: StoreKeys, head: bytes, name: str, path: str) -> None:
        self.head, self.path = head, path
        self._cipher = keys.cipher(key_of(head), head[-SALT_BYTES:], path)
        self._about = head + name.encode()

    @classmethod
    def new(cls, keys: StoreKeys, name: str, path: str) -> Seal:
        """That of a file to be written, under the current key."""
        return cls(keys, MAGIC + bytes.fromhex(keys.current) + secrets.token_bytes(SALT_BYTES), name, path)

    def close(self, number: int, chunk: bytes, last: bool) -> bytes:
        """A chunk as it is stored."""
        return self._cipher.encrypt(_nonce(number, last), chunk, self._about)

    def open(self, number: int, box: bytes, last: bool) -> bytes:
        """The chunk that ``close`` was given.

        Raises:
            IntegrityError: it is another one, or damaged.
        """
        try:
            return self._cipher.decrypt(_nonce(number, last), box, self._about)
        except InvalidTag:
            raise _damaged(self.path) from None


def stored_range(start: int, end: int, stored: int) -> tuple[int, int]:
    """Which bytes of an encrypted file of ``stored`` bytes hold its bytes ``start`` to ``end`` (at least one)."""
    full = CHUNK_BYTES + TAG_BYTES
    return HEADER_BYTES + start // CHUNK_BYTES * full, min(stored, HEADER_BYTES + -(-end // CHUNK_BYTES) * full)


class SealedReader(io.RawIOBase):
    """The bytes of an encrypted file; one chunk at a time is in memory.

    Args:
        handle: the file as it is stored, seekable. size: of it, in bytes.
    """

    def __init__(self, handle: Any, size: int, seal: Seal) -> None:
        self._handle, self._stored, self._seal = handle, size, seal
        self.size = plain_size(size, seal.path)
        self._at, self._number, self._chunk = 0, -1, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it reads next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As any file."""
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """What is left of the chunk that it is in, as far as there is room for it."""
        room = memoryview(buffer).cast("B")
        if self._at >= self.size and (self.size or self._number == 0):
            return 0
        number, within = divmod(self._at, CHUNK_BYTES) if self.size else (0, 0)  # opened, it says that nothing is here
        if number != self._number:
            first, end = stored_range(number * CHUNK_BYTES, number * CHUNK_BYTES + 1, self._stored)
            self._handle.seek(first)
            self._chunk = self._seal.open(number, self._handle.read(end - first), end == self._stored)
            self._number = number
        part = self._chunk[within : within + len(room)]
        room[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Closes the stored file too."""
        if not self.closed:
            super().close()
            self._handle.close()


class SealedWriter(io.RawIOBase):
    """Encrypts what is written; one chunk at a time is in memory. Left by an exception, it is no whole file.

    Args:
        target: gives the file to write to; left without an exception the file is in its place.
    """

    def __init__(self, target: AbstractContextManager[Any], seal: Seal) -> None:
        self._seal, self._stack, self._number, self._rest = seal, ExitStack(), 0, bytearray()
        self._handle = self._stack.enter_context(target)
        self._handle.write(seal.head)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Takes all of it."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            self._rest += view[start : start + CHUNK_BYTES]
            if len(self._rest) > CHUNK_BYTES:  # never the last one: something follows
                self._put(bytes(self._rest[:CHUNK_BYTES]), last=False)
                del self._rest[:CHUNK_BYTES]
        return len(view)

    def _put(self, chunk: bytes, last: bool) -> None:
        self._handle.write(self._seal.close(self._number, chunk, last))
        self._number += 1

    def close(self) -> None:
        """Writes the last chunk, and the file is there."""
        if not self.closed:
            super().close()  # first: what fails here is not tried again
            with self._stack:
                self._put(bytes(self._rest), last=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None or self.closed:
            self.close()
            return
        super().close()
        self._stack.__exit__(kind, error, at)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _damaged(path: str) -> IntegrityError:
    return IntegrityError(f"{path} does not open with its key: damaged, cut or not in its place; rebuild it", path=path)
