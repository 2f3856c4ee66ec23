"""Bytes below one fsspec URI: small files written whole or not at all, and what goes wrong with disks, said plainly."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home
from cluster.core.storage.whole_files import MAGIC, whole_file

NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")


def check_name(name: str) -> str:
    """Refuse names that could leave their folder or break a URL (THREATS T16)."""
    if not NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"{name!r} is not a usable name: use 1-64 of a-z 0-9 . _ - starting with a letter or digit")
    return name


class Files:
    """The files below one URI, encrypted where this machine has keys for them (``Home.store_keys_path``).

    Args:
        uri: a local folder or any URI that fsspec knows (``s3://bucket/folder``).

    Attributes:
        fs: reads and writes them, and is all that may: what lies on the disk may be encrypted.
        on_disk: they are on a disk of this machine: renames are atomic and locks work.
        sealed: they are encrypted. local: they are not, and on a disk of this machine: others may read them by path.

    Raises:
        EnvironmentFaultError: the file of keys is damaged.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        import fsspec.core

        # Without its cache of listings: s3fs would never see what another process published after the first look.
        self.fs, self.root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        self.on_disk = "file" in ((self.fs.protocol,) if isinstance(self.fs.protocol, str) else self.fs.protocol)
        keys_path = Home.from_env().store_keys_path
        self.sealed = keys_path.exists()
        self.local = self.on_disk and not self.sealed
        if self.sealed:
            from cluster.core.storage.sealed_files import SealedFileSystem
            from cluster.core.storage.store_keys import StoreKeys

            self.fs = SealedFileSystem(self.fs, self.root, StoreKeys.read(keys_path), self.on_disk)

    def path(self, *parts: str) -> str:
        """The path of something in the store, out of its parts; nothing is looked up."""
        return posixpath.join(self.root, *parts)

    def staging(self, run_key: str) -> str:
        """The folder a run writes its unfinished files to; the same after a crash."""
        path = self.path("staging", run_key)
        with storage_errors(path):
            self.fs.makedirs(path, exist_ok=True)
        return path

    def write(self, path: str, data: bytes) -> None:
        """Write a file so that readers see all of it or nothing. ``path`` is one this store returned."""
        with storage_errors(path):
            self.fs.makedirs(posixpath.dirname(path), exist_ok=True)
            if not self.local:
                self.fs.pipe_file(path, data)
                return
            with whole_file(path) as handle:
                handle.write(data)

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            IntegrityError: it is encrypted and was changed.
            EnvironmentFaultError: it is encrypted, and its key is not on this machine.
        """
        data = self.fs.cat_file(path)
        if not self.sealed and data[: len(MAGIC)] == MAGIC:
            keys = Home.from_env().store_keys_path
            message = f"{path} is encrypted, and this process found no keys at {keys}: bring them, and begin anew"
            raise EnvironmentFaultError(message, path=path)
        return data if isinstance(data, bytes) else bytes(data)

    def read_json(self, path: str) -> Any:
        """The content of a JSON file."""
        return json.loads(self.read(path))

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at a path."""
        return bool(self.fs.exists(path))

    def digest(self, path: str) -> tuple[str, int]:
        """sha256 (hex) and size in bytes of a file, read once."""
        digest, size = hashlib.sha256(), 0
        with self.fs.open(path, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
                size += len(block)
        return digest.hexdigest(), size


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn a full or read-only disk into an EnvironmentFaultError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError):
            raise
        raise EnvironmentFaultError(
            f"cannot write {path}: {error.strerror}; free some space or point PLINTH_STORE elsewhere", path=path
        ) from error


def sync_folder(path: str) -> None:
    """fsync a folder, so that a rename inside it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def utc_now() -> str:
    """The time in UTC as ISO 8601, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
