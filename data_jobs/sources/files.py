"""A folder of files as a source: what is in it, and how one file is read without trusting it.

Listing looks at names and inodes only. Links are never followed: what one inside the folder points to is read under
its own name, what one outside points to is not ours. Everything that is not read is named with a reason out of
``FILE_REASONS``; nothing here raises for one bad file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.core.access import FOLDER_FILE
from cluster.core.errors import BadInputError
from cluster.core.records import Quarantined, stable_hash
from data_jobs.extractors.images import CAPTIONS, IMAGE_SUFFIXES
from data_jobs.extractors.protocol import UnreadableFileError, has_control, printable
from data_jobs.extractors.registry import RECORD_SUFFIXES, SUFFIXES
from data_jobs.sources.folder_labels import FolderLabels

FILE_REASONS = (
    "unsupported_kind", "not_a_file", "symlink", "symlink_loop", "symlink_outside", "hidden", "bad_name", "unreadable",
    "empty", "too_large", "changed",
)  # fmt: skip
_RECORD_MARKS = tuple(f"{suffix}#" for suffix in RECORD_SUFFIXES)


@dataclass(frozen=True)
class FileItem:
    """One file to read: path below the folder, size in bytes and sha256 of its content when it was listed.

    ``companion`` is a hash of what else its records depend on: of a picture, the captions; of captions, which pictures
    there are. Empty for all others. ``access`` is the label of its records (``access.Access.text``).
    """

    path: str
    bytes: int
    sha256: str
    companion: str = ""
    access: str = ""


def check_folder(source: str) -> Path:
    """The real path of the folder to read.

    Raises:
        BadInputError: it is missing, empty, not a folder, or may not be read.
    """
    root = Path(source).expanduser()
    if not root.exists():
        raise BadInputError(f"there is no folder {root}: give --source a folder of {' '.join(SUFFIXES)} files")
    if not root.is_dir():
        raise BadInputError(f"{root} is not a folder: give --source the folder it is in")
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise BadInputError(f"cannot read the folder {root}: {error.strerror}") from None
    if empty:
        raise BadInputError(f"the folder {root} is empty: give --source a folder of {' '.join(SUFFIXES)} files")
    return root.resolve()


def list_files(
    root: Path, max_bytes: int, wanted: Callable[[str], bool] | None = None, access: str = ""
) -> tuple[list[FileItem], list[Quarantined]]:
    """Every file below ``root``, sorted by path: those worth reading, and the others with their reasons.

    With ``wanted``, only paths for which it is true: the others are no part of the source. ``access`` is the label of
    the source, which files of labels narrow.

    Raises:
        UsageError: a file of labels says something that is not understood, or lets nobody read.
    """
    labels = FolderLabels(root, access)
    items: list[FileItem] = []
    refused: list[Quarantined] = []
    for path, problem in sorted(_walk(root, root), key=lambda found: os.fsencode(found[0])):
        if wanted is not None and not wanted(path):
            continue
        try:
            if problem:
                raise UnreadableFileError(*problem)
            items.append(replace(_item(root, path, max_bytes), access=labels.of(path)))
        except UnreadableFileError as error:
            refused.append(Quarantined(printable(path), "", *error.args))
    return _with_companions(items), refused


def _with_companions(items: list[FileItem]) -> list[FileItem]:
    captions = {item.path: item for item in items if posixpath.basename(item.path).lower() == CAPTIONS}
    pictures = [item.path for item in items if item.path.lower().endswith(IMAGE_SUFFIXES)]
    if not captions and not pictures:
        return items
    all_captions = stable_hash(sorted((path, item.sha256) for path, item in captions.items()))
    companions = dict.fromkeys(pictures, all_captions) | dict.fromkeys(captions, stable_hash(pictures))
    return [replace(item, companion=companions.get(item.path, "")) for item in items]


def _walk(root: Path, folder: Path) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Paths below ``root`` with the reason why one is not a regular file to read, in no order."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield folder.relative_to(root).as_posix(), ("unreadable", error.strerror or "")
        return
    for entry in entries:
        path = Path(entry.path).relative_to(root).as_posix()
        if entry.name == FOLDER_FILE:
            continue  # says who may read the others (``folder_labels``)
        if entry.is_symlink():
            yield path, _link_problem(root, Path(entry.path))
        elif entry.is_dir(follow_symlinks=False):
            if entry.name.startswith("."):
                yield path, ("hidden", "folders whose name starts with a dot are not read")
            else:
                yield from _walk(root, Path(entry.path))
        elif not entry.is_file(follow_symlinks=False):
            yield path, ("not_a_file", "a pipe, socket or device")
        elif has_control(path):
            yield path, ("bad_name", "the name has control characters or is not UTF-8")
        elif any(mark in path.lower() for mark in _RECORD_MARKS):
            yield path, ("bad_name", "it would be taken for a record of another file")
        elif not path.lower().endswith(SUFFIXES):
            yield path, ("unsupported_kind", f"only {' '.join(SUFFIXES)} are read")
        else:
            yield path, None


def _link_problem(root: Path, link: Path) -> tuple[str, str]:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        looping = isinstance(error, RuntimeError) or error.errno == errno.ELOOP
        return ("symlink_loop", "") if looping else ("symlink", "its target does not exist")
    if not target.is_relative_to(root):
        return "symlink_outside", "its target is outside the folder"
    if target in link.parents:
        return "symlink_loop", "it points to a folder it is in"
    return "symlink", "its target is read under its own name"


def _item(root: Path, path: str, max_bytes: int) -> FileItem:
    digest, size = hashlib.sha256(), 0
    for block in _blocks(root, path, max_bytes):
        digest.update(block)
        size += len(block)
    if not size:
        raise UnreadableFileError("empty", "")
    return FileItem(path, size, digest.hexdigest())


def _blocks(root: Path, path: str, max_bytes: int) -> Iterator[bytes]:
    """The file in pieces of 1 MiB. Opened without following links or waiting for a pipe that took the file's place."""
    try:
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableFileError("not_a_file", "")
            if status.st_size > max_bytes:
                raise UnreadableFileError("too_large", f"{status.st_size} bytes; the limit is {max_bytes}")
            read = 0
            while block := handle.read(1 << 20):
                read += len(block)
                if read > max_bytes:
                    raise UnreadableFileError("too_large", f"it grew over {max_bytes} bytes")
                yield block
    except OSError as error:
        raise UnreadableFileError("unreadable", error.strerror or "") from None


def read_bytes(root: Path, item: FileItem, max_bytes: int) -> bytes:
    """The whole file, if it still is what was listed.

    Raises:
        UnreadableFileError: it changed, is too large, or cannot be read.
    """
    data = b"".join(_blocks(root, item.path, max_bytes))
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise UnreadableFileError("changed", "it was written to while the job ran; run it again")
    return data


def read_path(root: Path, path: str, max_bytes: int) -> bytes:
    """Another file below the folder, by its path; links that lead out of it are not followed.

    Raises:
        UnreadableFileError: there is none that may be read.
    """
    try:
        inside = (root / path).resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableFileError("unreadable", str(error)[:100]) from None
    if not inside:
        raise UnreadableFileError("bad_name", "outside the folder")
    return b"".join(_blocks(root, path, max_bytes))
