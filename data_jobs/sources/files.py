"""A folder of .md .rst .txt .jsonl files as a source: what is in it, and how one file is read without trusting it.

Listing looks at names and inodes only. Links are never followed: what one inside the folder points to is read under
its own name, what one outside points to is not ours. Everything that is not read is named with a reason out of
``FILE_REASONS``; nothing here raises for one bad file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import BadInputError
from cluster.core.records import Quarantined

SUFFIXES = (".md", ".rst", ".txt", ".jsonl")
FILE_REASONS = (
    "unsupported_kind", "not_a_file", "symlink", "symlink_loop", "symlink_outside", "hidden", "bad_name", "unreadable",
    "empty", "too_large", "changed", "utf16", "nul_bytes", "invalid_utf8", "long_line",
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True)
class FileItem:
    """One file to read: path below the folder, size in bytes and sha256 of its content when it was listed."""

    path: str
    bytes: int
    sha256: str


class UnreadableFileError(Exception):
    """A file cannot be used; ``args`` are the reason and a detail. Never leaves this package."""


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


def list_files(root: Path, max_bytes: int) -> tuple[list[FileItem], list[Quarantined]]:
    """Every file below ``root``, sorted by path: those worth reading, and the others with their reasons."""
    items: list[FileItem] = []
    refused: list[Quarantined] = []
    for path, problem in sorted(_walk(root, root), key=lambda found: os.fsencode(found[0])):
        try:
            if problem:
                raise UnreadableFileError(*problem)
            items.append(_item(root, path, max_bytes))
        except UnreadableFileError as error:
            refused.append(Quarantined(shown(path), "", *error.args))
    return items, refused


def shown(path: str) -> str:
    """A path that can be printed and stored: control characters and undecodable bytes are escaped."""
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), path)


def _walk(root: Path, folder: Path) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Paths below ``root`` with the reason why one is not a regular file to read, in no order."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        yield folder.relative_to(root).as_posix(), ("unreadable", error.strerror or "")
        return
    for entry in entries:
        path = Path(entry.path).relative_to(root).as_posix()
        if entry.is_symlink():
            yield path, _link_problem(root, Path(entry.path))
        elif entry.is_dir(follow_symlinks=False):
            if entry.name.startswith("."):
                yield path, ("hidden", "folders whose name starts with a dot are not read")
            else:
                yield from _walk(root, Path(entry.path))
        elif not entry.is_file(follow_symlinks=False):
            yield path, ("not_a_file", "a pipe, socket or device")
        elif _CONTROL.search(path):
            yield path, ("bad_name", "the name has control characters or is not UTF-8")
        elif ".jsonl#" in path.lower():
            yield path, ("bad_name", "it would be taken for a record of a .jsonl file")
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
        UnreadableFileError: it changed, or it is UTF-16 or UTF-32 (by its byte order mark).
    """
    data = b"".join(_blocks(root, item.path, max_bytes))
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise UnreadableFileError("changed", "it was written to while the job ran; run it again")
    if data.startswith(_BOMS):
        raise UnreadableFileError("utf16", "save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")


def decode(line: bytes, max_line_bytes: int) -> str:
    """Strict UTF-8 text out of bytes whose lines all are short enough.

    Raises:
        UnreadableFileError: a NUL byte, a line that is too long, invalid UTF-8; the detail says where.
    """
    if (at := line.find(b"\0")) >= 0:
        raise UnreadableFileError("nul_bytes", f"at byte {at}; not a text file, or UTF-16 without its mark")
    start = 0
    while len(line) - start > max_line_bytes:
        end = line.find(b"\n", start, start + max_line_bytes + 1)
        if end < 0:
            raise UnreadableFileError("long_line", f"a line over {max_line_bytes} bytes at byte {start}")
        start = end + 1
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError("invalid_utf8", f"at byte {error.start}") from None
