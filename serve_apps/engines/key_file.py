"""The key of another server, out of its file. It is read when it is used, so a new one counts at once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cluster.core.errors import EnvironmentFaultError

MOST_BYTES = 4096


def read_key(path: Path) -> str:
    """The key in a file, without the white space around it; it is never part of an error.

    Raises:
        EnvironmentFaultError: there is no such file, others may read it, or it holds no key.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as handle:
            facts = os.fstat(handle.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise EnvironmentFaultError(f"the key file {path} is no file")
            if facts.st_mode & 0o077:
                raise EnvironmentFaultError(f"others may read the key file {path}: chmod 600 {path}")
            data = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise EnvironmentFaultError(f"cannot read the key file {path}: {error.strerror}") from None
    key = data.strip()
    if not key or len(data) > MOST_BYTES or any(not 33 <= byte <= 126 for byte in key):
        raise EnvironmentFaultError(f"the key file {path} holds no key: one line of visible characters")
    return key.decode()
