"""A file that a verb writes to: new, and its owner's alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cluster.core.errors import EnvironmentFaultError, UsageError


@contextmanager
def out_file(name: str) -> Iterator[TextIO]:
    """Where an export goes: a file that only its owner can read, or (``-``) stdout.

    Raises:
        UsageError: the file is there already.
        EnvironmentFaultError: it cannot be written.
    """
    if name == "-":
        yield sys.stdout
        return
    try:
        descriptor = os.open(Path(name).expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{name} is there already: name a new file") from None
    except OSError as error:
        raise EnvironmentFaultError(f"cannot write {name}: {error.strerror}", path=name) from error
    with open(descriptor, "w", encoding="utf-8") as out:
        yield out
