"""What plain and encrypted files have in common: on a disk they appear whole, and tell by their first bytes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MAGIC = b"\x93PLINTH\x01"  # how an encrypted file begins (``sealing``)


@contextmanager
def whole_file(path: str) -> Iterator[IO[bytes]]:
    """A file of this machine to write to; at the end it is at ``path``, synced. After an exception nothing changed."""
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
