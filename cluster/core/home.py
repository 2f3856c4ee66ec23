"""Where Plinth keeps things on this machine: the layout of ``PLINTH_HOME``.

``PLINTH_HOME`` (default ``~/.plinth``) holds local state: token (0600), run files, logs, configuration of the running
instance. ``PLINTH_STORE`` (default ``$PLINTH_HOME/store``, any fsspec URI) holds artefacts. (contract)
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import EnvironmentFaultError


@dataclass(frozen=True)
class Home:
    """Paths below ``PLINTH_HOME``. Folders are made (0700) when first asked for."""

    root: Path

    @classmethod
    def from_env(cls) -> Home:
        """The folder PLINTH_HOME, or ``~/.plinth``."""
        return cls(Path(os.environ.get("PLINTH_HOME") or Path.home() / ".plinth").expanduser().absolute())

    def keep_private(self) -> list[Path]:
        """Take from everybody else what is open to them: this folder and, where it is a local one, the store. What is
        inside is then out of reach, whatever its own modes are.

        Returns:
            The folders that were open.

        Raises:
            EnvironmentFaultError: one is open and another user's, or is meant for all users, as /tmp is.
        """
        found = self.open_folders()
        for path in found:
            if path.stat().st_mode & stat.S_ISVTX:
                message = f"{path} is every user's folder: set PLINTH_HOME and PLINTH_STORE to folders of their own"
                raise EnvironmentFaultError(message, path=str(path))
            try:
                path.chmod(0o700)
            except OSError as error:
                message = f"{path} is open to other users: {error.strerror}; let its owner run chmod 700 {path}"
                raise EnvironmentFaultError(message, path=str(path)) from error
        return found

    def open_folders(self) -> list[Path]:
        """Those of PLINTH_HOME and a local store that other users may enter."""
        store = self.store_uri.removeprefix("file://")
        places = [self.root, *([] if "://" in store else [Path(store).expanduser().absolute()])]
        return [path for path in places if path.is_dir() and path.stat().st_mode & 0o077]

    def folder(self, name: str) -> Path:
        """A folder below PLINTH_HOME, made where it is not there, readable by its owner only.

        Raises:
            EnvironmentFaultError: it cannot be made.
        """
        path = self.root / name
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFaultError(
                f"cannot create {path}: {error.strerror}; set PLINTH_HOME to a folder you may write to", path=str(path)
            ) from error
        return path

    @property
    def logs(self) -> Path:
        """Where every component writes its log."""
        return self.folder("logs")

    @property
    def run(self) -> Path:
        """Files of the running instance: pid, ports, HAProxy's private folder."""
        return self.folder("run")

    @property
    def token_path(self) -> Path:
        """The file with Ray's token, whether it is there or not."""
        return self.root / "ray_token"

    @property
    def store_keys_path(self) -> Path:
        """The file with the keys of an encrypted store, whether it is there or not."""
        return self.root / "keys" / "store.json"

    @property
    def api_key_path(self) -> Path:
        """The file with the local client key, whether it is there or not."""
        return self.root / "api_key"

    def api_key(self) -> str:
        """The local client key; empty where there is none."""
        try:
            return self.api_key_path.read_text().strip()
        except OSError:
            return ""

    @property
    def store_uri(self) -> str:
        """Where artefacts are: PLINTH_STORE, or a folder here."""
        return os.environ.get("PLINTH_STORE") or str(self.root / "store")

    def ensure_token(self) -> Path:
        """The Ray token file, made on first use. Mode is 0600 from its first byte (Ray's own helper leaves 0644)."""
        self.folder("run")
        if not self.token_path.exists():
            write_private(self.token_path, secrets.token_hex(32))
        elif self.token_path.stat().st_mode & 0o077:
            self.token_path.chmod(0o600)
        return self.token_path


def read_private(path: Path) -> str:
    """The text of a file that only its owner is to read: taken from everybody else where it is open to them."""
    text = path.read_text()
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return text


def write_private(path: Path, text: str) -> None:
    """Write ``text`` atomically into a file only its owner can read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
