"""The data keys of one segment, one JSON line each, wrapped by a master key: ``00000012.keys`` beside the segment.

A tenant has one key in each segment; a record that may have to be erased alone has one of its own. Whoever is erased
loses these keys, and what they encrypted can be read by nobody, while the chain over it stays whole. Of a destroyed key
its id stays, sealed like the others: a key that is just missing was lost otherwise.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from actors.audit.key_ring import KEY_BYTES, KeyRing
from cluster.core.errors import IntegrityError
from cluster.core.home import write_private
from cluster.core.storage import sync_folder


@dataclass(frozen=True)
class DataKey:
    """A key, whose records it encrypts, and whether it is that of a single record; destroyed, it has no secret."""

    id: str
    secret: bytes
    tenant: str
    single: bool

    @property
    def destroyed(self) -> bool:
        """Whether only its id is left."""
        return not self.secret

    @cached_property
    def cipher(self) -> AESGCM:
        """What encrypts with it."""
        return AESGCM(self.secret)

    def line(self, ring: KeyRing) -> str:
        """The key as it is stored."""
        data = {"secret": base64.b64encode(self.secret).decode(), "tenant": self.tenant, "single": self.single}
        return json.dumps({"id": self.id, **ring.wrap(json.dumps(data).encode(), self.id)}) + "\n"

    @classmethod
    def of(cls, line: str, ring: KeyRing) -> DataKey:
        """The key of a stored line.

        Raises:
            IntegrityError: it was changed.
        """
        try:
            row = json.loads(line)
            data = json.loads(ring.unwrap(row, row["id"]))
            if json.dumps(row) != line:
                raise ValueError("it is written otherwise")
            return cls(row["id"], base64.b64decode(data["secret"]), data["tenant"], data["single"])
        except (ValueError, TypeError, KeyError, AttributeError):
            raise IntegrityError("it is no key") from None


class SegmentKeys:
    """Reads and writes the keys of one segment; one process at a time (``AuditLog`` sees to that).

    Attributes:
        keys: those that open, by id. damaged: what is wrong with each line that does not.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        self.path, self._ring = path, ring
        self.keys: dict[str, DataKey] = {}
        self.damaged: list[str] = []
        self._of_tenant: dict[str, DataKey] = {}
        self._new: list[DataKey] = []
        data = path.read_bytes() if path.exists() else b""
        self._size = data.rfind(b"\n") + 1  # a line without its end was never used: its write was not acknowledged
        for number, line in enumerate(data[: self._size].decode("utf-8", "replace").split("\n")[:-1], start=1):
            try:
                self._take(DataKey.of(line, ring))
            except IntegrityError as error:
                self.damaged.append(f"line {number} of {path.name}: {error.message}")

    def of(self, tenant: str, single: bool) -> DataKey:
        """The key for a record of a tenant; a new one is on disk after ``flush``."""
        key = None if single else self._of_tenant.get(tenant)
        if key is None:
            key = DataKey(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES), tenant, single)
            self._new.append(key)
            self._take(key)
        return key

    def flush(self) -> None:
        """Write new keys, synced. OSError: they are not on disk, and neither this object nor they are of use."""
        if not self._new:
            return
        made, lines = self._size == 0, "".join(key.line(self._ring) for key in self._new).encode()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, self._size)
            write_all(descriptor, lines, self._size)
        finally:
            os.close(descriptor)
        if made:
            sync_folder(str(self.path.parent))
        self._size += len(lines)
        self._new.clear()

    def destroy(self, ids: Collection[str]) -> None:
        """Destroy keys for good: the file is written anew without their secrets, the old one overwritten."""
        gone = {key.id: DataKey(key.id, b"", "", key.single) for key in self.keys.values() if key.id in ids}
        self._rewrite([gone.get(key.id, key) for key in self.keys.values()], self._ring)

    def rewrap(self, ring: KeyRing) -> None:
        """Wrap all keys by the current master key of another ring."""
        self._rewrite(list(self.keys.values()), ring)

    def _rewrite(self, keys: list[DataKey], ring: KeyRing) -> None:
        """Raises IntegrityError: a line is damaged, and would be lost."""
        if self.damaged:
            raise IntegrityError(f"{self.damaged[0]}: see `plinth audit verify`", path=str(self.path))
        if not self.path.exists():
            return
        with open(self.path, "r+b") as old:
            write_private(self.path, "".join(key.line(ring) for key in keys))
            sync_folder(str(self.path.parent))
            old.write(b"\0" * self._size)  # best effort: a journal or an SSD may keep what was there
            old.flush()
            os.fsync(old.fileno())

    def _take(self, key: DataKey) -> None:
        self.keys[key.id] = key
        if not key.single and not key.destroyed:
            self._of_tenant[key.tenant] = key


def write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write at an offset and sync; OSError where not all of it is on disk."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done
    os.fdatasync(descriptor)
