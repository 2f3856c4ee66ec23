"""Archives as folders of files: .zip, .tar, .tar.gz, .tgz, read from memory without unpacking anything to disk.

Each entry goes to the extractor of its own suffix. What could leave the folder or stands for something else than a
plain file (absolute paths, ``..``, links, devices), comes twice, or is an archive itself, is refused by name; what
unpacks to too much is refused while it unpacks, whatever sizes the archive declares.
"""

from __future__ import annotations

import functools
import gzip
import io
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.images import CAPTIONS
from data_jobs.extractors.protocol import (
    Budget,
    Extractor,
    Format,
    Limits,
    Origin,
    UnreadableFileError,
    has_control,
    parsing,
    printable,
)

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_PATH = 1_000
_PIECE = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One entry: its name, the bytes of the archive that hold it, why it is refused, and how it is read."""

    name: str
    span: tuple[int, ...]
    problem: tuple[str, str] | None
    read: Callable[[], bytes]


class ArchiveExtractor:
    """Zip and tar files: every entry is read by the extractor of its own suffix. See ``protocol.Extractor``."""

    format = Format("archive", SUFFIXES, content_types={"application/zip": ".zip"})

    def __init__(self, extractor_for: Callable[[str], Extractor | None]) -> None:
        self.extractor_for = extractor_for

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        budget = Budget(_unpacking(limits), len(data))
        entries = _zip_entries if origin.path.lower().endswith(".zip") else _tar_entries
        seen: set[str] = set()
        neighbour = _neighbours(lambda: entries(data, limits, Budget(_unpacking(limits), len(data))), limits)
        number = 0
        for number, entry in enumerate(entries(data, limits, budget), start=1):
            if number > limits.entries:
                raise UnreadableFileError("too_many_entries", f"over {limits.entries} entries")
            shown = printable(entry.name)[:MAX_PATH] or f"entry {number}"
            try:
                check_entry_name(entry.name)
                if entry.problem is not None:
                    raise UnreadableFileError(*entry.problem)
                if entry.name in seen:
                    raise UnreadableFileError("duplicate", "the archive has another entry of this name")
                if entry.name.lower().endswith(SUFFIXES):
                    raise UnreadableFileError("nested_archive", "unpack it first")
                seen.add(entry.name)
                yield from self._entry(entry, origin, limits, budget, neighbour)
            except UnreadableFileError as error:
                if error.args[0] in ("bomb", "too_much_text", "too_slow") and budget_is_spent(budget):
                    raise
                yield origin.refused(shown, str(error.args[0]), str(error.args[1]))
        if not number:
            raise UnreadableFileError("empty", "no entries")

    def _entry(
        self, entry: Entry, origin: Origin, limits: Limits, budget: Budget, neighbour: Callable[[str], bytes]
    ) -> Iterator[Document | Quarantined]:
        extractor = self.extractor_for(entry.name)
        if extractor is None:
            raise UnreadableFileError("unsupported_kind", "its suffix is none of those that are read")
        data = entry.read()
        if not data:
            raise UnreadableFileError("empty", "")
        packed = Origin(
            f"{origin.path}/{entry.name}", origin.source_name, origin.sha256, origin.size,
            neighbour=lambda path: neighbour(path.removeprefix(f"{origin.path}/")),
            span=entry.span or (0, origin.size), steps=(*origin.steps, f"unpacked:{entry.name}"),
        )  # fmt: skip
        for found in extractor.extract(data, packed, limits):
            budget.check_time()
            if isinstance(found, Quarantined):
                record = f"{entry.name} {found.record}".strip()
                yield Quarantined(origin.path, record, found.reason, found.detail)
            else:
                yield found


def _neighbours(entries: Callable[[], Iterator[Entry]], limits: Limits) -> Callable[[str], bytes]:
    """What finds other entries for one that needs them: the content of captions; of all others that they are there.

    The archive is gone through once for it, when the first entry asks.
    """

    @functools.cache
    def known() -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for number, entry in enumerate(entries(), start=1):
            if number > limits.entries:
                break
            is_captions = posixpath.basename(entry.name).lower() == CAPTIONS
            try:
                found.setdefault(entry.name, entry.read() if is_captions and entry.problem is None else b"")
            except UnreadableFileError:  # the entry itself is told of where it is read
                continue
        return found

    def neighbour(path: str) -> bytes:
        if path not in known():
            raise UnreadableFileError("unreadable", f"the archive has no {path}")
        return known()[path]

    return neighbour


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def check_entry_name(name: str) -> None:
    """Refuse a path that could leave its folder or is not a plain one (THREATS T17); object names are checked so too.

    Raises:
        UnreadableFileError: ``bad_name``.
    """
    problem = ""
    if not name or len(name) > MAX_PATH:
        problem = "empty or too long"
    elif has_control(name):
        problem = "control characters"
    elif "\\" in name:
        problem = "a backslash"
    elif name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        problem = "an absolute path"
    elif any(part in ("", ".", "..") for part in name.split("/")):
        problem = "a path that goes up, or has an empty part"
    elif any(part.lstrip().startswith("~") for part in name.split("/")[:1]):
        problem = "a path into a home folder"
    if problem:
        raise UnreadableFileError("bad_name", problem)


def _unpacking(limits: Limits) -> Limits:
    """The limits for everything that comes out of one archive together."""
    return Limits(**{**limits.__dict__, "text_bytes": max(limits.text_bytes, limits.file_bytes) * 4})


def budget_is_spent(budget: Budget) -> bool:
    """Whether the archive as a whole is over its limits, so that nothing more of it can be read."""
    try:
        budget.take(0)
    except UnreadableFileError:
        return True
    return False


def _capped(stream: _Readable, most: int, budget: Budget) -> bytes:
    pieces, size = [], 0
    while piece := stream.read(_PIECE):
        size += len(piece)
        budget.take(len(piece))
        if size > most:
            raise UnreadableFileError("too_large", f"over {most} bytes unpacked")
        pieces.append(piece)
    return b"".join(pieces)


# -- zip ---------------------------------------------------------------------------------------------------------------
def _zip_entries(data: bytes, limits: Limits, budget: Budget) -> Iterator[Entry]:
    with parsing("zip", zipfile.BadZipFile):
        archive = zipfile.ZipFile(io.BytesIO(data))
    for info in archive.infolist():
        if info.is_dir() and not info.file_size:
            continue
        end = info.header_offset + 30 + len(info.orig_filename.encode()) + info.compress_size
        span = (info.header_offset, min(len(data), end))
        # Old programs for Windows separate folders by backslashes; what would leave the folder is refused either way.
        name = info.orig_filename if "/" in info.orig_filename else info.orig_filename.replace("\\", "/")
        yield Entry(name, span, _zip_problem(info, limits), _zip_reader(archive, info, limits, budget))


def _zip_problem(info: zipfile.ZipInfo, limits: Limits) -> tuple[str, str] | None:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "link", "links are not followed"
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "device", "not a plain file"
    if info.flag_bits & 1:
        return "encrypted", "it needs a password"
    if info.file_size > limits.file_bytes:
        return "too_large", f"{info.file_size} bytes unpacked; the limit is {limits.file_bytes}"
    if info.file_size > max(1 << 20, info.compress_size * limits.ratio):
        return "bomb", f"{info.compress_size} bytes unpack to {info.file_size}"
    return None


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits, budget: Budget) -> Callable[[], bytes]:
    def read() -> bytes:
        with parsing("entry", zipfile.BadZipFile), archive.open(info) as stream:
            return _capped(stream, limits.file_bytes, budget)

    return read


# -- tar ---------------------------------------------------------------------------------------------------------------
class _Capped(io.RawIOBase):
    """A stream whose every byte read counts against the budget; tar is read forwards only."""

    def __init__(self, stream: _Readable, budget: Budget) -> None:
        super().__init__()
        self.stream, self.budget = stream, budget

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self.stream.read(_PIECE if size < 0 else min(size, _PIECE))
        self.budget.take(len(piece))
        return piece


def _tar_entries(data: bytes, limits: Limits, budget: Budget) -> Iterator[Entry]:
    packed = data.startswith(b"\x1f\x8b")
    if packed:  # its checksum comes last: entries are handed out once the whole is known to be good
        with parsing("gzip"), gzip.GzipFile(fileobj=io.BytesIO(data)) as whole:
            check = Budget(budget.limits, len(data))
            while piece := whole.read(_PIECE):
                check.take(len(piece))
    raw: _Readable = gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data)
    with parsing("tar", tarfile.TarError):
        archive = tarfile.open(fileobj=_Capped(raw, budget), mode="r|")  # noqa: SIM115 (nothing to close but memory)
    while True:
        with parsing("tar", tarfile.TarError):
            info = archive.next()
        if info is None:
            return
        if info.isdir():
            continue
        span = () if packed else (info.offset_data, min(len(data), info.offset_data + info.size))
        name = info.name.removeprefix("./")
        yield Entry(name, span, _tar_problem(info, limits), _tar_reader(archive, info, limits, budget))


def _tar_problem(info: tarfile.TarInfo, limits: Limits) -> tuple[str, str] | None:
    if info.issym() or info.islnk():
        return "link", "links are not followed"
    if not info.isreg() or info.issparse():
        return "device", "not a plain file"
    if info.size > limits.file_bytes:
        return "too_large", f"{info.size} bytes; the limit is {limits.file_bytes}"
    return None


def _tar_reader(archive: tarfile.TarFile, info: tarfile.TarInfo, limits: Limits, budget: Budget) -> Callable[[], bytes]:
    def read() -> bytes:
        with parsing("entry", tarfile.TarError):
            stream = archive.extractfile(info)
            if stream is None:
                raise UnreadableFileError("device", "not a plain file")
            found = _capped(stream, limits.file_bytes, Budget(limits, max(info.size, 1)))
        if len(found) != info.size:
            raise UnreadableFileError("damaged", f"{len(found)} bytes of {info.size}: the archive is cut off")
        return found

    return read
