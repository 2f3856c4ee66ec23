"""What an extractor is, and what all of them share: limits that are enforced while streaming, reasons, provenance.

An extractor turns the bytes of one file into documents, or into reasons why there are none. It trusts nothing in the
file: what a parser raises on hostile bytes becomes a quarantined record with a reason, never a traceback.
"""

from __future__ import annotations

import re
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from cluster.core.records import Document, Quarantined

MAX_TITLE_CHARS = 200
MAX_ID_CHARS = 128
SKIPPED = "skipped:"
TEXT_FIELDS = ("text", "content", "body", "document")
# Why one record, or the rest of a file, was left out while it was read. File-level reasons: ``files.FILE_REASONS``.
EXTRACT_REASONS = (
    "bad_json", "not_an_object", "no_text", "text_not_string", "nul_bytes", "invalid_utf8", "invalid_utf16",
    "long_line", "damaged", "encrypted", "image_only", "empty_page", "too_much_text", "too_many_pages", "too_many_rows",
    "too_many_entries", "too_slow", "bomb", "not_a_notebook", "no_header", "ragged_row", "bad_row", "bad_digest",
    "http_status", "unsupported_kind", "no_caption", "no_image", "bad_image", "bad_name", "link", "device", "duplicate",
    "nested_archive", "empty", "too_large",
)  # fmt: skip
# What parsers written in Python raise on bytes they did not expect, wherever they happen to trip. Only used around
# calls into such a parser, through ``parsing``.
PARSER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


class UnreadableFileError(Exception):
    """A file or record cannot be used; ``args`` are the reason and a detail. Never leaves this package."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost. ``text_bytes`` is the most UTF-8 text out of it, ``ratio`` the most bytes out per byte in
    (for formats that compress; the first MiB is free), ``seconds`` the most time spent on it."""

    file_bytes: int = 32 << 20
    line_bytes: int = 1 << 20
    text_bytes: int = 64 << 20
    ratio: int = 100
    pages: int = 5_000
    rows: int = 2_000_000
    entries: int = 20_000
    seconds: float = 120.0


class Skipped(Counter[str]):
    """How many of which kind of thing in one document are no text of it; they are told in its steps.

    What was read of it stands, and nothing goes silently: ``plinth data report`` adds the steps up by format.
    """

    def steps(self) -> tuple[str, ...]:
        """A step ``skipped:KIND:NUMBER`` for each kind."""
        return tuple(f"{SKIPPED}{kind}:{count}" for kind, count in sorted(self.items()) if count)


@dataclass(frozen=True)
class Origin:
    """The file that ``data`` is of: its path below the source folder, its source's name, its sha256 and size.

    ``neighbour`` reads another file of the same source by path (an image's captions); it raises UnreadableFileError.
    ``span`` are the bytes of the raw file that hold this one, where it was packed in another; empty: all of it.
    """

    path: str
    source_name: str
    sha256: str
    size: int
    neighbour: Callable[[str], bytes] | None = None
    span: tuple[int, ...] = ()
    steps: tuple[str, ...] = ()

    def document(self, title: str, text: str, **fields: Any) -> Document:
        """The whole file as one document."""
        given = {"id": self.path, "source": self.path, "kind": "file", "span": (0, self.size), **fields}
        if self.span:
            given["span"] = self.span  # offsets in an unpacked file mean nothing in the raw one
        given["steps"] = (*self.steps, *fields.get("steps", ()))
        return Document(
            title=clean_title(title) or self.stem, text=text, source_name=self.source_name,
            file_sha256=self.sha256, **given,
        )  # fmt: skip

    def record(self, name: str, where: str, title: str, text: str, **fields: Any) -> Document:
        """One record of the file: ``name`` makes its id, ``where`` (line, page) its source."""
        document = f"{self.path}#{name}"
        given = {"id": document, "source": f"{self.path}:{where}", "kind": "record", **fields}
        return self.document(title or document, text, **given)

    def refused(self, record: str, reason: str, detail: str = "") -> Quarantined:
        """A record of this file that cannot be used, or the whole file where ``record`` is empty; long details are
        cut.
        """
        return Quarantined(self.path, record, reason, detail[:300])

    @property
    def stem(self) -> str:
        """The file's name as a title."""
        return PurePosixPath(self.path).stem.replace("_", " ").replace("-", " ").strip() or self.path


@dataclass(frozen=True)
class Format:
    """What the rest of the pipeline has to know of a file format.

    Attributes:
        kind: its name in sources.yaml.
        suffixes: of its files, lower case with a dot; the longest suffix that fits a name decides who reads the file.
        holds_records: whether its files hold records, whose ids are ``PATH#RECORD``.
        content_types: what servers declare such files as, and the suffix such a file gets where it has none.
        libraries: packages that decide what is read out of a file; with other versions it is read again.
    """

    kind: str
    suffixes: tuple[str, ...]
    holds_records: bool = False
    content_types: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()


class Extractor(Protocol):
    """Reads files of one format."""

    @property
    def format(self) -> Format:
        """Which format it reads."""
        ...

    def extract(self, data: bytes, origin: Origin, limits: Limits) -> Iterator[Document | Quarantined]:
        """The records of one file in order.

        A ``Quarantined`` without ``record`` stands for the whole file and is then the only thing yielded.

        Raises:
            UnreadableFileError: the file, or what is left of it, cannot be used.
        """
        ...


@dataclass
class Budget:
    """Counts what comes out of one file against its limits while it comes."""

    limits: Limits
    bytes_in: int
    out: int = 0
    started: float = field(default_factory=time.monotonic)

    def take(self, size: int) -> None:
        """Account for ``size`` more bytes of output.

        Raises:
            UnreadableFileError: ``bomb`` (over the ratio), ``too_much_text``, ``too_slow``.
        """
        self.out += size
        if self.out > self.limits.text_bytes:
            raise UnreadableFileError("too_much_text", f"over {self.limits.text_bytes} bytes of text")
        if self.out > max(1 << 20, self.bytes_in * self.limits.ratio):
            raise UnreadableFileError("bomb", f"over {self.limits.ratio} bytes out of each byte in")
        self.check_time()

    def take_text(self, text: str) -> None:
        """Account for a text by its size in UTF-8.

        Raises:
            UnreadableFileError: as ``take``.
        """
        self.take(len(text.encode("utf-8", "surrogatepass")))

    def check_time(self) -> None:
        """Stop where the file has taken too long.

        Raises:
            UnreadableFileError: ``too_slow``.
        """
        if time.monotonic() - self.started > self.limits.seconds:
            raise UnreadableFileError("too_slow", f"over {self.limits.seconds:g} s")


@contextmanager
def parsing(what: str, *also: type[Exception]) -> Iterator[None]:
    """Turn what a parser raises on bad bytes into ``damaged``. ``also``: errors of the parser's own families."""
    try:
        yield
    except UnreadableFileError:
        raise
    except (*PARSER_ERRORS, *also) as error:
        raise UnreadableFileError("damaged", f"{what}: {type(error).__name__}: {printable(str(error))[:160]}") from None


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that can be printed and stored: control characters and undecodable bytes are escaped."""
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), text)


def has_control(text: str) -> bool:
    """Whether a text holds control characters or undecodable bytes."""
    return _CONTROL.search(text) is not None


def clean_title(title: str) -> str:
    """A title on one line, at most MAX_TITLE_CHARS long."""
    return " ".join(title.split())[:MAX_TITLE_CHARS]


def record_name(given: object, number: int, used: set[str]) -> str:
    """The record's own id where it is a whole number or short, printable text that no earlier record has; else its
    place in the file."""
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    name = given if isinstance(given, str) and 0 < len(given) <= MAX_ID_CHARS and given.isprintable() else str(number)
    while name in used:
        name = f"{name}~{number}"
    used.add(name)
    return name
