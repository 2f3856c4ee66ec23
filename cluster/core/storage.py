"""Artefacts on any fsspec filesystem: atomic publish, content hashes, manifests, aliases.

Layout below the store's root::

    <kind>/<name>/<version>/...files...        an immutable artefact (dataset, index)
    <kind>/<name>/<version>/manifest.json      written last; without it the artefact does not exist
    <kind>/<name>/aliases/<alias>.json         a movable name for a version, with its history
    runs/<run_key>.json                        which artefact a run produced (reuse before a stage runs)
    staging/<run_key>/...                      work in progress of a run; survives a crash so that the run resumes

On a local filesystem an artefact appears by one ``rename`` of its staging folder. Object stores have no rename: there
the files are copied first and the manifest object is put last: a reader that insists on the manifest never sees half.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import platform
import posixpath
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from cluster.core.code import code_commit
from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError, PlinthError, UsageError
from cluster.core.records import FileEntry, Manifest

NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
MANIFEST = "manifest.json"


def check_name(name: str) -> str:
    """Refuse names that could leave their folder or break a URL (THREATS T16)."""
    if not NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"{name!r} is not a usable name: use 1-64 of a-z 0-9 . _ - starting with a letter or digit")
    return name


class Store:
    """Reads and publishes artefacts below one fsspec URI.

    Raises:
        EnvironmentFaultError: the storage is full or not writable.
        IntegrityError: bytes do not match their manifest.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        # Without its cache of listings: s3fs would never see what another process published after the first look.
        self.fs, self.root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        self.local = "file" in ((self.fs.protocol,) if isinstance(self.fs.protocol, str) else self.fs.protocol)

    # -- paths and small files ------------------------------------------------------------------------------------
    def path(self, *parts: str) -> str:
        return posixpath.join(self.root, *parts)

    def artefact(self, manifest: Manifest) -> str:
        """The folder of a published artefact (a local path on a local store)."""
        return self.path(manifest.kind, manifest.name, manifest.version)

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
            temporary = f"{path}.{secrets.token_hex(4)}.tmp"
            try:
                with open(temporary, "wb") as handle:
                    handle.write(data)
                    handle.flush()
                    os.fsync(handle.fileno())
                os.replace(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        data = self.fs.cat_file(path)
        return data if isinstance(data, bytes) else bytes(data)

    def read_json(self, path: str) -> Any:
        return json.loads(self.read(path))

    def exists(self, path: str) -> bool:
        return bool(self.fs.exists(path))

    # -- publish and load -------------------------------------------------------------------------------------------
    def publish(
        self,
        kind: str,
        name: str,
        staging: str,
        *,
        run_key: str,
        inputs: dict[str, str] | None = None,
        config: dict[str, Any] | None = None,
        counts: dict[str, Any] | None = None,
    ) -> Manifest:
        """Turn a staging folder into an immutable artefact and return its manifest.

        The version is the hash of the files' names and bytes. Publishing the same bytes twice yields the same version
        and leaves the first one as it was.
        """
        check_name(name)
        files = tuple(self._entries(staging))
        if not files:
            raise PlinthError(f"nothing was written for {kind} {name}: refusing to publish an empty artefact")
        version = hashlib.sha256("".join(f"{f.path}\0{f.sha256}\n" for f in files).encode()).hexdigest()[:12]
        manifest = Manifest(
            kind=kind, name=name, version=version, run_key=run_key, files=files, inputs=inputs or {},
            config=config or {}, counts=counts or {}, created_at=utc_now(), host=socket.gethostname(),
            commit=code_commit(), python=platform.python_version(),
        )  # fmt: skip
        final = self.artefact(manifest)
        if not self.exists(posixpath.join(final, MANIFEST)):
            self._move_into_place(staging, final, manifest)
        else:
            manifest = Manifest.from_dict(self.read_json(posixpath.join(final, MANIFEST)))
            self.fs.rm(staging, recursive=True)
        run = {"kind": kind, "name": name, "version": version}
        self.write(self.path("runs", f"{run_key}.json"), json.dumps(run).encode())
        return manifest

    def _move_into_place(self, staging: str, final: str, manifest: Manifest) -> None:
        body = json.dumps(manifest.to_dict(), indent=1).encode()
        with storage_errors(final):
            if self.local:
                self.write(posixpath.join(staging, MANIFEST), body)
                if self.fs.exists(final):  # a folder without a manifest: what a kill left behind
                    self.fs.rm(final, recursive=True)
                self.fs.makedirs(posixpath.dirname(final), exist_ok=True)
                os.rename(staging, final)
                sync_folder(posixpath.dirname(final))
                return
            for entry in manifest.files:
                self.fs.copy(posixpath.join(staging, entry.path), posixpath.join(final, entry.path))
            self.fs.pipe_file(posixpath.join(final, MANIFEST), body)
            self.fs.rm(staging, recursive=True)

    def _entries(self, folder: str) -> Iterator[FileEntry]:
        for path in sorted(self.fs.find(folder)):
            name = posixpath.relpath(path, folder)
            if name != MANIFEST and not name.endswith(".tmp"):
                digest, size = self._digest(path)
                yield FileEntry(name, digest, size)

    def _digest(self, path: str) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with self.fs.open(path, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
                size += len(block)
        return digest.hexdigest(), size

    def find_run(self, run_key: str) -> Manifest | None:
        """The artefact an identical earlier run produced, if it is still there and whole."""
        path = self.path("runs", f"{run_key}.json")
        if not self.exists(path):
            return None
        run = self.read_json(path)
        try:
            manifest = self.manifest(run["kind"], run["name"], run["version"])
            self.verify(manifest)
        except (BadInputError, IntegrityError):
            return None
        return manifest

    def manifest(self, kind: str, name: str, version: str) -> Manifest:
        """Load a manifest. ``version`` may also be an alias (``latest``, ``live``).

        Raises:
            BadInputError: no such artefact.
        """
        check_name(name), check_name(version)
        path = self.path(kind, name, version, MANIFEST)
        if not self.exists(path):
            target = self.alias(kind, name, version)
            if target is None:
                raise BadInputError(f"there is no {kind} {name}@{version} in {self.uri}", kind=kind, name=name)
            path = self.path(kind, name, target, MANIFEST)
            if not self.exists(path):
                raise BadInputError(f"{kind} {name}@{version} points to {target}, which is gone from {self.uri}")
        return Manifest.from_dict(self.read_json(path))

    def versions(self, kind: str, name: str) -> list[Manifest]:
        """All published versions, oldest first."""
        found = self.fs.glob(self.path(kind, name, "*", MANIFEST))
        return sorted((Manifest.from_dict(self.read_json(p)) for p in found), key=lambda m: m.created_at)

    def names(self, kind: str) -> list[str]:
        folder = self.path(kind)
        if not self.exists(folder):
            return []
        return sorted(posixpath.basename(p.rstrip("/")) for p in self.fs.ls(folder, detail=False))

    def verify(self, manifest: Manifest) -> None:
        """Check every file against the manifest.

        Raises:
            IntegrityError: a file is missing, has another size or another hash. Bit flips in Parquet, safetensors and
                FAISS files load without any error otherwise (THREATS, measured item 7).
        """
        folder = self.artefact(manifest)
        for entry in manifest.files:
            path = posixpath.join(folder, entry.path)
            try:
                digest, size = self._digest(path)
            except FileNotFoundError:
                raise IntegrityError(f"{path} is missing though its manifest lists it", path=path) from None
            if (digest, size) != (entry.sha256, entry.bytes):
                raise IntegrityError(f"{path} does not match its manifest: damaged or changed; rebuild it", path=path)

    def fetch(self, manifest: Manifest, cache: Path) -> Path:
        """A verified local folder with the artefact's files (the store's own folder when it is local)."""
        self.verify(manifest)
        if self.local:
            return Path(self.artefact(manifest))
        target = cache / manifest.kind / manifest.name / manifest.version
        for entry in manifest.files:
            destination = target / entry.path
            if not destination.exists() or destination.stat().st_size != entry.bytes:
                destination.parent.mkdir(parents=True, exist_ok=True)
                temporary = destination.with_name(f"{destination.name}.{secrets.token_hex(4)}.tmp")
                self.fs.get_file(posixpath.join(self.artefact(manifest), entry.path), str(temporary))
                os.replace(temporary, destination)
        return target

    # -- aliases ------------------------------------------------------------------------------------------------------
    def alias_path(self, kind: str, name: str, alias: str) -> str:
        return self.path(kind, check_name(name), "aliases", f"{check_name(alias)}.json")

    def alias(self, kind: str, name: str, alias: str) -> str | None:
        """The version an alias points to, or None."""
        history = self.alias_history(kind, name, alias)
        return history[-1]["version"] if history else None

    def alias_history(self, kind: str, name: str, alias: str) -> list[dict[str, str]]:
        """Every move of an alias, oldest first: ``{"version", "at", "why"}``."""
        path = self.alias_path(kind, name, alias)
        return self.read_json(path)["history"] if self.exists(path) else []

    def move_alias(self, kind: str, name: str, alias: str, version: str, why: str) -> None:
        """Point an alias at a published version. Atomic; the history keeps the last 100 moves."""

        def append(history: list[dict[str, str]]) -> list[dict[str, str]]:
            if history and history[-1]["version"] == version:
                return history
            return [*history, {"version": version, "at": utc_now(), "why": why}]

        self.manifest(kind, name, version)
        self._edit_alias(kind, name, alias, append)

    def roll_back_alias(self, kind: str, name: str, alias: str) -> tuple[str, str]:
        """Point an alias back at the version it had before; returns ``(from, to)``.

        Rolling back twice goes two versions back: the entry rolled back from leaves the history.
        """
        moved: list[str] = []

        def pop(history: list[dict[str, str]]) -> list[dict[str, str]]:
            if len(history) < 2:
                raise BadInputError(f"{kind} {name}: {alias} has no earlier version to go back to")
            moved.extend([history[-1]["version"], history[-2]["version"]])
            self.manifest(kind, name, moved[1])
            return history[:-1]

        self._edit_alias(kind, name, alias, pop)
        return moved[0], moved[1]

    def remove_alias(self, kind: str, name: str, alias: str) -> None:
        """Make an alias point nowhere; without it nothing happens."""
        path = self.alias_path(kind, name, alias)
        with self.locked(kind, name, "aliases"):
            if self.exists(path):
                self.fs.rm(path)

    def _edit_alias(
        self, kind: str, name: str, alias: str, edit: Callable[[list[dict[str, str]]], list[dict[str, str]]]
    ) -> None:
        with self.locked(kind, name, "aliases"):
            history = edit(self.alias_history(kind, name, alias))[-100:]
            self.write(self.alias_path(kind, name, alias), json.dumps({"history": history}, indent=1).encode())

    @contextmanager
    def job(self) -> Iterator[None]:
        """Tells ``collecting`` that work is in progress: what it has staged or is about to refer to must stay."""
        with self._flock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keeps jobs from starting while unreferenced artefacts are removed (object stores: nothing is kept out).

        Raises:
            EnvironmentFaultError: a job is running on this machine.
        """
        try:
            with self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield
        except BlockingIOError:
            raise EnvironmentFaultError("a job is writing to the store: wait until it is done, then collect") from None

    @contextmanager
    def _flock(self, how: int) -> Iterator[None]:
        if not self.local:
            yield
            return
        with storage_errors(self.root):
            Path(self.root).mkdir(parents=True, exist_ok=True)
            handle = open(self.path(".jobs.lock"), "w")  # noqa: SIM115 (held for the block)
        with handle:
            fcntl.flock(handle, how)
            yield

    @contextmanager
    def locked(self, *parts: str) -> Iterator[None]:
        """Serialises writers of one folder between processes of one machine (object stores: last writer wins)."""
        if not self.local:
            yield
            return
        folder = Path(self.path(*parts))
        with storage_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            handle = open(folder / ".lock", "w")  # noqa: SIM115 (held for the block)
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


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
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
