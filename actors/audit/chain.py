"""The lines of a log, how each proves the ones before it, and the signed head that says where the log ends.

A segment is a file of JSON lines, ``00000012.log``::

    {"segment": 12, "first": 4711, "at": "...", "hash": "..."}                          how it begins
    {"n": 4711, "at": "...", "key": "...", "data": "...", "hash": "..."}                a record, encrypted
    {"end": 12, "last": 5800, "signed_by": "...", "signature": "...", "hash": "..."}    how it ends, once it is full

``hash`` is the sha256 of the hash before it and of the rest of the line: an edited line does not fit its hash, a
removed or a moved one does not fit its neighbour. ``n``, time and key are authenticated by the encryption as well
(AES-GCM), so that whoever computes all hashes anew is still found at the record, and without the signing key at the
segment's end.

The head lies apart from the log: two places of a file, written in turn, each signed. What lies before it was
acknowledged and must be whole; what lies behind it was promised to nobody, and may be torn.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from actors.audit.key_ring import KeyRing
from actors.audit.segment_keys import write_all
from cluster.core.errors import IntegrityError

GENESIS = "0" * 64
PLACE_BYTES = 1024  # of each of the head's two places
BEGIN = ("segment", "first", "at", "hash")  # the fields of the three kinds of lines
RECORD = ("n", "at", "key", "data", "hash")
END = ("end", "last", "signed_by", "signature", "hash")
_NAME = re.compile(r"\d{8}\.log")


class DamagedError(IntegrityError):
    """The log was changed. ``extras``: ``segment`` and ``record``, the first that cannot be trusted."""


def damaged(segment: int, record: int, problem: str) -> DamagedError:
    """The error that names the first bad record."""
    return DamagedError(f"record {record} (segment {segment}): {problem}", segment=segment, record=record)


def linked(previous: str, fields: dict[str, Any]) -> tuple[bytes, str]:
    """A line and its hash."""
    body = json.dumps(fields, separators=(",", ":"))
    digest = hashlib.sha256((previous + body).encode()).hexdigest()
    return f'{body[:-1]},"hash":"{digest}"}}\n'.encode(), digest


@dataclass(frozen=True)
class Place:
    """A place between two lines: in which segment, at which byte, after which record, with which hash before it."""

    segment: int = 1
    bytes: int = 0
    last: int = 0
    hash: str = GENESIS


@dataclass(frozen=True)
class Head:
    """Where the log begins and where what was acknowledged ends. ``turn`` counts the commits."""

    turn: int
    begin: Place
    end: Place

    def to_json(self, ring: KeyRing) -> dict[str, Any]:
        """Signed."""
        return {**asdict(self), **ring.sign(self._text())}

    @classmethod
    def of(cls, row: dict[str, Any], ring: KeyRing) -> Head:
        """The head of ``to_json``.

        Raises:
            IntegrityError: it is not one that was signed here.
        """
        try:
            head = cls(int(row["turn"]), Place(**row["begin"]), Place(**row["end"]))
        except (TypeError, KeyError, ValueError):
            raise IntegrityError("it is no head of an audit log") from None
        if not ring.signed(row, head._text()):
            raise IntegrityError("the head of the audit log is not signed with one of its keys: it was changed")
        return head

    def _text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


class HeadFile:
    """The head on disk. A write that is cut off leaves the other place as it was."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def raw(self) -> bytes:
        """The file's bytes; none where there is no file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    def read(self, ring: KeyRing, strict: bool = False) -> Head | None:
        """The newest head; None where there never was one.

        Args:
            strict: a damaged place is an error even where the other one is whole; else it counts as a write that was
                cut off.

        Raises:
            IntegrityError: it was changed.
        """
        for _ in range(3):
            raw = self.raw()
            try:
                return self._parsed(raw, ring, strict) if raw else None
            except IntegrityError:
                if raw == self.raw():  # else it was read while somebody wrote it
                    raise
        raise IntegrityError(f"{self.path} changes all the time", path=str(self.path))

    def _parsed(self, raw: bytes, ring: KeyRing, strict: bool) -> Head:
        found: list[Head] = []
        wrong = IntegrityError(f"{self.path} is damaged: it was changed", path=str(self.path))
        for at in (0, PLACE_BYTES):
            place = raw[at : at + PLACE_BYTES].rstrip(b"\0")
            if not place and at:  # there was one commit only
                continue
            try:
                row = json.loads(place)
                if _encoded(row) != place:
                    raise ValueError("it is written otherwise")
                found.append(Head.of(row, ring))
            except (ValueError, IntegrityError) as error:
                wrong = error if isinstance(error, IntegrityError) else wrong
                if strict:
                    raise wrong from None
        turns = sorted(head.turn for head in found)
        if not turns or (strict and turns != [1] and turns[1:] != [turns[0] + 1]):
            raise wrong
        return max(found, key=lambda head: head.turn)

    def write(self, head: Head, ring: KeyRing) -> None:
        """Put a head on disk, synced. OSError: the one before it stands."""
        place = _encoded(head.to_json(ring)).ljust(PLACE_BYTES, b"\0")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            write_all(descriptor, place, (head.turn + 1) % 2 * PLACE_BYTES)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Line:
    """A line that fits: its fields without the hash, and the place behind it."""

    fields: dict[str, Any]
    behind: Place


class Walk:
    """Goes through a log line by line and checks that each fits.

    Args:
        start: by default the log's begin. marks: places that it must come through, besides the head's.

    Attributes:
        place: how far it is. torn: bytes behind the head that are no whole lines.
        ended: whether the last segment has its signed end.
    """

    def __init__(
        self, folder: Path, head: Head, ring: KeyRing, start: Place | None = None, marks: Sequence[Place] = ()
    ) -> None:
        self._folder, self._head, self._ring = folder, head, ring
        self._marks = {(mark.segment, mark.bytes): mark for mark in marks}
        self.place = start or head.begin
        self.torn, self.ended = 0, False

    @property
    def acknowledged(self) -> int:
        """The last record before the head."""
        return self._head.end.last

    def lines(self) -> Iterator[Line]:
        """Every line from the start on. Raises DamagedError: the next one does not fit."""
        known = segments(self._folder)
        segment = self.place.segment
        while segment <= self._head.end.segment or segment in known:
            if segment not in known:
                raise self._wrong(segment, "the segment's file is missing")
            if segment != self.place.segment:
                self.place = replace(self.place, segment=segment, bytes=0)
            yield from self._segment(segment)
            if not self.ended:
                break
            segment += 1
        if segment < self._head.end.segment or (beyond := [n for n in known if n > segment]):
            problem = "the segment's signed end is missing" if not self.ended else f"there is no segment {segment}"
            raise self._wrong(segment if not self.ended else min(beyond), problem)

    def _segment(self, number: int) -> Iterator[Line]:
        data, end = segment_path(self._folder, number).read_bytes(), self._head.end
        acknowledged = end.bytes if number == end.segment else len(data) if number < end.segment else 0
        self.ended = False
        at = self.place.bytes
        if at:  # it begins in the middle: after a line whose hash must be the one that is known
            self._meet(number, data, at)
        while at < len(data):
            cut = data.find(b"\n", at) + 1
            line = data[at : cut or len(data)]
            found = self._checked(number, at, line)
            if isinstance(found, str):
                if at < acknowledged:
                    raise self._wrong(number, found)
                self.torn = len(data) - at
                break
            self.place, at = found.behind, found.behind.bytes
            if self._marks.get((number, at), self.place) != self.place:
                raise self._wrong(number, "it is not the one that the earlier head names", self.place.last)
            if number == end.segment and at >= end.bytes > at - len(line) and found.behind != end:
                raise self._wrong(number, "it is not the one that the signed head names", self.place.last)
            yield found
        if at < acknowledged:
            raise self._wrong(number, "it is missing: the log was cut off before its signed head")

    def _meet(self, number: int, data: bytes, at: int) -> None:
        line = data[data.rfind(b"\n", 0, at - 1) + 1 : at]
        if len(data) < at:
            raise self._wrong(number, "it is missing: the log was cut off before its signed head", self.place.last)
        if not line.endswith(f'"hash":"{self.place.hash}"}}\n'.encode()):
            raise self._wrong(number, "it is not the one that the signed head names", self.place.last)

    def _checked(self, segment: int, at: int, line: bytes) -> Line | str:
        """The line, or what is wrong with it."""
        try:
            fields = json.loads(line)
            again, digest = linked(self.place.hash, {k: v for k, v in fields.items() if k != "hash"})
        except (ValueError, AttributeError):
            return "it is no line of a log: it was changed"
        last = self.place.last
        if "n" in fields and fields["n"] != last + 1 and at:
            return f"it is missing or not in its place: {fields['n']!r} stands there"
        if again != line:
            return "it does not fit its hash and the record before it: it was changed"
        names = tuple(fields)
        if not at:
            fits = names == BEGIN and (fields["segment"], fields["first"]) == (segment, last + 1)
        elif self.ended:
            fits = False
        elif "end" in fields:
            fits = names == END and (fields["end"], fields["last"]) == (segment, last)
            if fits and not self._ring.signed(fields, ended(segment, last, self.place.hash)):
                return "the segment's end is not signed with one of the log's keys: the segment was changed"
            self.ended = fits
        else:
            fits = names == RECORD
            last += 1
        if not fits:
            return "it is no line that belongs here: it was changed"
        return Line(fields, Place(segment, at + len(line), last, digest))

    def _wrong(self, segment: int, problem: str, record: int = 0) -> DamagedError:
        return damaged(segment, record or self.place.last + 1, problem)


def _encoded(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()


def ended(segment: int, last: int, before: str) -> str:
    """What the end of a segment signs."""
    return f"segment {segment} ends with record {last} and {before}"


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}.log"


def keys_path(folder: Path, number: int) -> Path:
    """The file with its data keys."""
    return folder / f"{number:08d}.keys"


def segments(folder: Path) -> list[int]:
    """The numbers of all segments that are there."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name[:8]) for path in folder.iterdir() if _NAME.fullmatch(path.name))
