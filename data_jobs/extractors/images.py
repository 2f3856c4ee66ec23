"""Pictures with captions: the caption is the text, the picture its provenance.

``captions.jsonl`` names pictures by path (``file`` or ``file_name``, relative to its folder) and has a ``caption`` for
each. A picture's captions are those of the nearest captions.jsonl, in its own folder or above. The picture makes the
document; the captions file only answers for lines that no picture takes.
"""

from __future__ import annotations

import functools
import posixpath
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.core.records import Document, Quarantined
from data_jobs.extractors.encoding import decode_line
from data_jobs.extractors.jsonl import JsonLinesExtractor, lines_of, parsed
from data_jobs.extractors.protocol import Format, Limits, Origin, UnreadableFileError

CAPTIONS = "captions.jsonl"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 100_000_000
_JPEG_END = b"\xff\xd9"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Captions:
    """Caption and line number by the picture's path below the captions file's folder; refused lines by number."""

    found: dict[str, tuple[str, int]]
    refused: tuple[tuple[str, str, str], ...]


class ImageExtractor:
    """Pictures: the caption that a captions file has for one is its text. See ``protocol.Extractor``."""

    format = Format("image", IMAGE_SUFFIXES)

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        width, height = check_picture(data)
        for folder in _folders(origin.path):
            captions = _captions_of(origin, folder, limits)
            if captions is None:
                continue
            known = captions.found.get(posixpath.relpath(origin.path, folder or "."))
            if known is not None:
                caption, line = known
                step = f"captioned:{posixpath.join(folder, CAPTIONS)}:{line}"
                yield origin.document(caption, caption, steps=(step, f"picture:{width}x{height}"))
                return
            break
        raise UnreadableFileError("no_caption", f"no {CAPTIONS} beside or above it has a caption for it")


class CaptionsExtractor:
    """Files of captions: only lines that no picture takes are named. See ``protocol.Extractor``."""

    format = Format("captions", (CAPTIONS,))

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        if not _names_pictures(data, limits.line_bytes):  # ordinary records that happen to be called so
            yield from JsonLinesExtractor().extract(data, origin, limits)
            return
        captions = read_captions(data, limits.line_bytes)
        folder = posixpath.dirname(origin.path)
        for record, reason, detail in captions.refused:
            yield origin.refused(record, reason, detail)
        for name, (_, line) in captions.found.items():
            if not _is_there(origin, posixpath.join(folder, name)):
                yield origin.refused(str(line), "no_image", f"{name} is not there")


def check_picture(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG file whose structure is whole (PNG: every chunk's checksum).

    Cameras and phones write data of their own behind the picture's end; that is no damage.

    Raises:
        UnreadableFileError: ``bad_image`` or ``bomb``.
    """
    try:
        width, height = _png(data) if data.startswith(_PNG) else _jpeg(data)
    except struct.error:
        raise UnreadableFileError("bad_image", "it ends too early") from None
    if width * height > MAX_PIXELS:
        raise UnreadableFileError("bomb", f"{width}x{height} pixels")
    if not width or not height:
        raise UnreadableFileError("bad_image", f"{width}x{height} pixels")
    return width, height


def _png(data: bytes) -> tuple[int, int]:
    at, size, kind = len(_PNG), (0, 0), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(data[at + 4 : at + 8 + length]) != checksum:
            raise UnreadableFileError("bad_image", f"checksum of chunk {kind!r} at byte {at}")
        if kind == b"IHDR":
            size = struct.unpack_from(">II", data, at + 8)
        at += 12 + length
    return size


def _jpeg(data: bytes) -> tuple[int, int]:
    if not data.startswith(b"\xff\xd8\xff"):
        raise UnreadableFileError("bad_image", "neither PNG nor JPEG by its first bytes")
    at, size = 2, (0, 0)
    while True:
        mark, code = struct.unpack_from(">BB", data, at)
        if mark != 0xFF:
            raise UnreadableFileError("bad_image", f"no marker at byte {at}")
        if code == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        if length < 2 or (code == 0xDA and size == (0, 0)):
            raise UnreadableFileError("bad_image", "no frame header")
        at += 2 + length
        if code == 0xDA:  # the picture itself; a preview in the header has an end marker of its own
            if data.find(_JPEG_END, at) < 0:
                raise UnreadableFileError("bad_image", "a JPEG without its end marker")
            return size


def read_captions(data: bytes, max_line_bytes: int) -> Captions:
    """Everything a captions file says; refused lines with record, reason and detail."""
    found: dict[str, tuple[str, int]] = {}
    refused: list[tuple[str, str, str]] = []
    for number, _, _, line, _ in lines_of(data):
        if not line.strip():
            continue
        try:
            row = parsed(decode_line(line, max_line_bytes)[0])
            name, caption = row.get("file", row.get("file_name")), row.get("caption", row.get("text"))
            if not isinstance(name, str) or not isinstance(caption, str) or not caption.strip():
                raise UnreadableFileError("no_caption", "it needs `file` and `caption`")
            name = posixpath.normpath(name)
            if name.startswith(("/", "../")) or name in ("..", ".") or "\0" in name:
                raise UnreadableFileError("bad_name", "a picture outside the folder")
            if name in found:
                raise UnreadableFileError("duplicate", f"{name} has a caption in line {found[name][1]}")
        except UnreadableFileError as error:
            refused.append((str(number), str(error.args[0]), str(error.args[1])))
            continue
        found[name] = (caption.strip(), number)
    return Captions(found, tuple(refused))


def _names_pictures(data: bytes, max_line_bytes: int) -> bool:
    """Whether the first readable record names a file."""
    for _, _, _, line, _ in lines_of(data):
        try:
            row = parsed(decode_line(line, max_line_bytes)[0])
        except UnreadableFileError:
            continue
        return "file" in row or "file_name" in row
    return False


_cached = functools.lru_cache(maxsize=8)(read_captions)


def _captions_of(origin: Origin, folder: str, limits: Limits) -> Captions | None:
    if origin.neighbour is None:
        return None
    try:
        data = origin.neighbour(posixpath.join(folder, CAPTIONS))
    except UnreadableFileError:
        return None
    return _cached(data, limits.line_bytes)


def _folders(path: str) -> Iterator[str]:
    """The folders a file is in, from its own up to the source's (empty)."""
    folder = posixpath.dirname(path)
    while folder:
        yield folder
        folder = posixpath.dirname(folder)
    yield ""


def _is_there(origin: Origin, path: str) -> bool:
    if origin.neighbour is None:
        return False
    try:
        origin.neighbour(path)
    except UnreadableFileError:
        return False
    return True
