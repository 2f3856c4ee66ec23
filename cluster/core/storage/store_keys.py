"""The keys under which the files of a store are encrypted: ``$PLINTH_HOME/keys/store.json``, its owner's only.

That the file is there turns encryption on. Every process reads it by itself: pickled, keys are the path they were read
from, so that none of them is in a task, an environment, a command line or a log.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cluster.core.errors import EnvironmentFaultError
from cluster.core.home import read_private, write_private

KEY_BYTES, ID_BYTES = 32, 8


@dataclass(frozen=True)
class StoreKeys:
    """The keys as values.

    Attributes:
        path: of the file. current: the id (hex) of the key that encrypts from now on.
        masters: secret by id; the older ones open what they encrypted.
    """

    path: Path
    current: str
    masters: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def make(cls, path: Path) -> StoreKeys:
        """A first key, on disk."""
        return cls(path, "", {}).renewed()

    @classmethod
    def read(cls, path: Path) -> StoreKeys:
        """The keys of a file.

        Raises:
            EnvironmentFaultError: it cannot be read, or is not one of keys.
        """
        try:
            row = json.loads(read_private(path))
            masters = {name: bytes.fromhex(key) for name, key in row["masters"].items()}
            if not all(len(key) == KEY_BYTES and len(bytes.fromhex(name)) == ID_BYTES for name, key in masters.items()):
                raise ValueError("a key of another length")
            return cls(path, row["current"], {row["current"]: masters[row["current"]], **masters})
        except OSError as error:
            message = f"cannot read the keys of the store, {path}: {error.strerror}"
            raise EnvironmentFaultError(message, path=str(path)) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            message = f"{path} holds no keys of a store: restore it; without it what is encrypted cannot be read"
            raise EnvironmentFaultError(message, path=str(path)) from None

    def renewed(self) -> StoreKeys:
        """With a new key, which is the current one now, on disk; the old ones still open."""
        name = secrets.token_hex(ID_BYTES)
        made = StoreKeys(self.path, name, {**self.masters, name: secrets.token_bytes(KEY_BYTES)})
        row = {"current": name, "masters": {name: key.hex() for name, key in made.masters.items()}}
        write_private(self.path, json.dumps(row, indent=1))
        return made

    def cipher(self, name: str, salt: bytes, path: str) -> AESGCM:
        """What encrypts one file: its own key, derived (HKDF, RFC 5869) from a key of the store and the file's salt.

        Raises:
            EnvironmentFaultError: the store's key is not here. ``path`` says whose.
        """
        if name not in self.masters:
            message = f"{path} is encrypted under the key {name}, which is not in {self.path}: add it there"
            raise EnvironmentFaultError(message, path=path, key=name)
        return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"plinth: a file of a store").derive(self.masters[name]))

    def __reduce__(self) -> tuple[Callable[[Path], StoreKeys], tuple[Any, ...]]:
        return StoreKeys.read, (self.path,)
