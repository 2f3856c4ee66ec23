"""A folder in the machine's memory that the processes of one instance share: gone with the instance."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

ROOT = Path("/dev/shm")  # noqa: S108 (what is made there is checked to be ours alone)
MARK = "PLINTH_INSTANCE"  # the variable that every process of an instance inherits


def memory_folder(instance: str | None = None) -> Path | None:
    """The folder of an instance, by default of the one that this process belongs to, made where it is not there; None
    outside an instance, where the machine has no such memory, and where somebody else could get at it."""
    instance = os.environ.get(MARK, "") if instance is None else instance
    path = ROOT / f"plinth-{instance}"
    if not instance.isalnum():
        return None
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if ours else None


def remove_memory_folder(instance: str) -> None:
    """Remove the folder of an instance with all that is in it, if it is there."""
    if instance.isalnum():
        shutil.rmtree(ROOT / f"plinth-{instance}", ignore_errors=True)
