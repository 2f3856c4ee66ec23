"""Labels by folder: who may read what is in a folder and below it, said in a file there (``access.FOLDER_FILE``).

::

    tenant: acme
    groups: [hr, board]     # at least one of them is needed; without, the whole tenant may read

A label above holds below: of several, a file has what is common to all (``Access.narrowed``). Folders above the source
count too, since somebody who prepares a part of a labelled tree has not opened it. A file of labels that cannot be read
or understood, or is a link, stops the listing: to go on without it would show to everybody what it was to keep.
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path

from cluster.core.access import FOLDER_FILE, Access
from cluster.core.errors import UsageError
from cluster.core.plain_yaml import load_plain

MAX_BYTES = 64 << 10


class FolderLabels:
    """The labels of a source's files.

    Args:
        root: the real path of the source's folder.
        access: the label of the whole source, as text.

    Raises:
        UsageError: see the module.
    """

    def __init__(self, root: Path, access: str = "") -> None:
        self._root = root
        label = Access.of_setting(access)
        for folder in [*reversed(root.parents), root]:
            label = _narrowed(label, folder)
        self._known = {"": label}

    def of(self, path: str) -> str:
        """The label of a file (path below the root), as text.

        Raises:
            UsageError: see the module.
        """
        return self._of_folder(posixpath.dirname(path)).text

    def _of_folder(self, folder: str) -> Access:
        if (label := self._known.get(folder)) is None:
            label = _narrowed(self._of_folder(posixpath.dirname(folder)), self._root / folder)
            self._known[folder] = label
        return label


def _narrowed(outer: Access, folder: Path) -> Access:
    path = folder / FOLDER_FILE
    if not os.path.lexists(path):
        return outer
    try:
        return outer.narrowed(Access.of_mapping(_read(path)))
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise UsageError(f"{path}: {why}; nothing was read: what it was to protect would be open") from None


def _read(path: Path) -> object:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise ValueError(f"not a regular file of at most {MAX_BYTES} bytes")
        return load_plain(handle.read(MAX_BYTES).decode("utf-8"))
