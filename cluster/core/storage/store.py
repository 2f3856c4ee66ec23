"""The artefact store: publishing, finding and verifying immutable versions.

On a local filesystem an artefact appears by one ``rename`` of its staging folder. Object stores have no rename: there
the files are copied first and the manifest object is put last: a reader that insists on the manifest never sees half.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import posixpath
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.core.code import code_commit
from cluster.core.errors import BadInputError, IntegrityError, PlinthError
from cluster.core.records import FileEntry, Manifest
from cluster.core.storage.aliases import MANIFEST, Aliases
from cluster.core.storage.files import check_name, storage_errors, sync_folder, utc_now

BLOCK_BYTES = 1 << 20
LISTED = 8  # names in the message about one that is not there


class Store(Aliases):
    """Reads and publishes artefacts below one fsspec URI.

    Raises:
        EnvironmentFaultError: the storage is full or not writable.
        IntegrityError: bytes do not match their manifest.
    """

    def artefact(self, manifest: Manifest) -> str:
        """The folder of a published artefact (a local path on a local store)."""
        return self.path(manifest.kind, manifest.name, manifest.version)

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
            self.write(posixpath.join(final, MANIFEST), body)
            self.fs.rm(staging, recursive=True)

    def _entries(self, folder: str) -> Iterator[FileEntry]:
        for path in sorted(self.fs.find(folder)):
            name = posixpath.relpath(path, folder)
            if name != MANIFEST and not name.endswith(".tmp"):
                digest, size = self.digest(path)
                yield FileEntry(name, digest, size)

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
                names = self.names(kind)
                others = "" if name in names or not names else f"; there are {', '.join(names[:LISTED])}"
                message = f"there is no {name}@{version} among the {kind} in {self.uri}{others}"
                raise BadInputError(message, kind=kind, name=name)
            path = self.path(kind, name, target, MANIFEST)
            if not self.exists(path):
                raise BadInputError(f"{kind} {name}@{version} points to {target}, which is gone from {self.uri}")
        return Manifest.from_dict(self.read_json(path))

    def versions(self, kind: str, name: str) -> list[Manifest]:
        """All published versions, oldest first."""
        found = self.fs.glob(self.path(kind, name, "*", MANIFEST))
        return sorted((Manifest.from_dict(self.read_json(p)) for p in found), key=lambda m: m.created_at)

    def names(self, kind: str) -> list[str]:
        """The names of all artefacts of a kind, sorted."""
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
                found = self.digest(path)
            except FileNotFoundError:
                raise IntegrityError(f"{path} is missing though its manifest lists it", path=path) from None
            _require_match(found, entry, path)

    def fetch(self, manifest: Manifest, cache: Path) -> Path:
        """A local folder with the artefact's files, each verified against the manifest as it is returned.

        On a local store that is the artefact's own folder; else (an object store, or encrypted) a copy below
        ``cache``, not encrypted and its owner's only, of which only files that are missing or damaged are read from
        the store again. Every file is read once.

        Raises:
            IntegrityError: a file of the store does not match its manifest.
        """
        if self.local:
            self.verify(manifest)
            return Path(self.artefact(manifest))
        with storage_errors(str(cache)):
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.sealed and cache.stat().st_mode & 0o077:
                cache.chmod(0o700)
        target = cache / manifest.kind / manifest.name / manifest.version
        for entry in manifest.files:
            copy = target / entry.path
            if not _matches(copy, entry):
                self._download(posixpath.join(self.artefact(manifest), entry.path), copy, entry)
        return target

    def _download(self, source: str, copy: Path, entry: FileEntry) -> None:
        """Copy one file of the store here, hashing what arrives; it gets its name only if it is what was published."""
        temporary = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}.tmp")
        digest, size = hashlib.sha256(), 0
        try:
            with self._opened(source) as remote:
                with storage_errors(str(copy)):
                    copy.parent.mkdir(parents=True, exist_ok=True)
                while block := remote.read(BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
                    with storage_errors(str(copy)), open(temporary, "ab") as local:
                        local.write(block)
            _require_match((digest.hexdigest(), size), entry, source)
            with storage_errors(str(copy)):
                temporary.touch()  # of an empty file nothing was written yet
                os.replace(temporary, copy)
        finally:
            temporary.unlink(missing_ok=True)

    def _opened(self, source: str) -> Any:
        try:
            return self.fs.open(source, "rb")
        except FileNotFoundError:
            raise IntegrityError(f"{source} is missing though its manifest lists it", path=source) from None


def _require_match(found: tuple[str, int], entry: FileEntry, path: str) -> None:
    if found != (entry.sha256, entry.bytes):
        raise IntegrityError(f"{path} does not match its manifest: damaged or changed; rebuild it", path=path)


def _matches(copy: Path, entry: FileEntry) -> bool:
    """Whether a file of this machine is, byte for byte, the published one."""
    try:
        if copy.stat().st_size != entry.bytes:
            return False
        with open(copy, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest() == entry.sha256
    except FileNotFoundError:
        return False
