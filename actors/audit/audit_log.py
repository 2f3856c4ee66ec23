"""The audit log: appended to and read, never changed.

What ``append`` returned from survives kill -9 and a power cut: the records, their keys and the signed head are synced
before. Writers that come at once share one sync (group commit). Several processes may write, one at a time: each takes
the lock for a commit and looks whether the log is as it left it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from actors.audit.chain import (
    Head,
    HeadFile,
    Place,
    Walk,
    damaged,
    ended,
    keys_path,
    linked,
    segment_path,
    segments,
)
from actors.audit.entries import Entry, about
from actors.audit.key_ring import KeyRing, seal
from actors.audit.segment_keys import SegmentKeys, write_all
from cluster.core.errors import EnvironmentFaultError, IntegrityError, PlinthError
from cluster.core.home import Home
from cluster.core.storage import sync_folder, utc_now

SEGMENT_BYTES = 16 << 20


@dataclass
class _Ticket:
    """A writer that waits for a commit."""

    entries: Sequence[Entry]
    done: bool = False
    last: int = 0
    error: PlinthError | None = None


@dataclass
class _Tail:
    """Where the next record goes."""

    head: Head
    raw: bytes
    place: Place
    day: str
    closed: bool
    keys: SegmentKeys
    ring: KeyRing
    inode: int
    notes: list[Entry] = field(default_factory=list)


class AuditLog:
    """One log.

    Args:
        folder: of the segments.
        keys: the file of the keys. head: the file of the head; both apart from the folder.
        segment_bytes: size at which a segment is closed.
    """

    def __init__(self, folder: Path, keys: Path, head: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.keys_path, self._segment_bytes = folder, keys, segment_bytes
        self.head_file = HeadFile(head)
        self._gather, self._writing = threading.Lock(), threading.Lock()
        self._waiting: list[_Ticket] = []
        self._tail: _Tail | None = None

    @classmethod
    def of(cls, home: Home, segment_bytes: int = SEGMENT_BYTES) -> AuditLog:
        """The log of this installation."""
        keys = home.folder("keys")
        return cls(home.folder("audit"), keys / "audit.json", keys / "audit.head", segment_bytes)

    # -- writing -------------------------------------------------------------------------------------------------------
    def append(self, entries: Sequence[Entry]) -> int:
        """Write entries down, all or none, and return the number of the last one once they are safe.

        Raises:
            EnvironmentFaultError: the disk is full or not writable; nothing of them is in the log.
            IntegrityError: the log's end or its keys were changed; nothing more can be written.
        """
        ticket = _Ticket(entries)
        with self._gather:
            self._waiting.append(ticket)
        with self._writing:
            if not ticket.done:  # else whoever had the turn before has written it too
                with self._gather:
                    batch, self._waiting = self._waiting, []
                self._commit(batch)
        if ticket.error is not None:
            raise ticket.error
        return ticket.last

    def _commit(self, batch: list[_Ticket]) -> None:
        try:
            with self._exclusive() as tail:
                last = self._write(tail, [entry for ticket in batch for entry in ticket.entries])
        except PlinthError as error:
            for ticket in batch:
                ticket.done, ticket.error = True, error
        else:
            for ticket in batch:
                ticket.done, ticket.last = True, last

    @contextmanager
    def _exclusive(self) -> Iterator[_Tail]:
        """The end of the log, for one process at a time.

        Raises:
            EnvironmentFaultError, IntegrityError: see ``append``.
        """
        try:
            with open(os.open(self.folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if self._tail is None or not self._as_left(self._tail):
                    self._tail = self._opened()
                try:
                    yield self._tail
                except BaseException:
                    self._tail = None  # whatever was half done is looked at anew
                    raise
        except OSError as error:
            message = f"the audit log in {self.folder} cannot be written: {error.strerror or error}"
            raise EnvironmentFaultError(message, path=str(self.folder)) from error

    def _as_left(self, tail: _Tail) -> bool:
        """Whether nobody else has touched the log."""
        try:
            found = os.stat(segment_path(self.folder, tail.place.segment))
        except FileNotFoundError:
            return False
        same = (found.st_ino, found.st_size) == (tail.inode, tail.place.bytes)
        return same and self.head_file.raw() == tail.raw

    def _opened(self) -> _Tail:
        """The end of the log as it is on disk: what is torn behind the head is cut, a new log is begun."""
        there = segments(self.folder)
        fresh = not there and not self.keys_path.exists()
        ring = KeyRing.make(self.keys_path) if fresh else self.ring()
        notes: list[Entry] = []
        try:
            head = self.head_file.read(ring, strict=True)
        except IntegrityError as error:
            head = self.head_file.read(ring)
            notes.append(Entry.of("recovered", problem=error.message))
        if head is None:
            head = self._begun(there)
            if not fresh:
                notes.append(Entry.of("recovered", problem="the log begins anew, although its keys were there"))
            self.head_file.write(head, ring)  # before the first record: without a head none may be there
        walk = Walk(self.folder, head, ring, start=head.end)
        for _ in walk.lines():
            pass  # whole records behind the head: their writer died before it could acknowledge them
        path = segment_path(self.folder, walk.place.segment)
        if walk.torn:
            os.truncate(path, walk.place.bytes)
            notes.append(Entry.of("recovered", after_record=walk.place.last, cut_bytes=walk.torn))
        return self._tail_of(head, walk.place, self.began(walk.place.segment)[:10], walk.ended, ring, notes)

    def _tail_of(self, head: Head, place: Place, day: str, closed: bool, ring: KeyRing, notes: list[Entry]) -> _Tail:
        keys = SegmentKeys(keys_path(self.folder, place.segment), ring)
        inode = os.stat(segment_path(self.folder, place.segment)).st_ino
        return _Tail(head, self.head_file.raw(), place, day, closed, keys, ring, inode, notes)

    def _begun(self, there: list[int]) -> Head:
        """The head of a log that has none: of a new one, or of one whose first writer died before the first record."""
        begun = segment_path(self.folder, 1)
        if there and (there != [1] or begun.read_bytes().count(b"\n") > 1):
            raise IntegrityError(f"{self.head_file.path}, the head of the log, is gone: see `plinth audit verify`")
        place, _ = self._begin(Place())
        return Head(1, Place(), place)

    def ring(self) -> KeyRing:
        """The keys. IntegrityError: they are gone, or no keys."""
        try:
            return KeyRing.read(self.keys_path)
        except FileNotFoundError:
            message = f"{self.keys_path} is gone: without it the audit log can be neither read nor continued"
            raise IntegrityError(message, path=str(self.keys_path)) from None

    def _write(self, tail: _Tail, entries: Sequence[Entry], begin: Place | None = None) -> int:
        """Append records and move the head; OSError where the disk does not take them (and then none of them is there).

        Args:
            begin: where the log begins from now on.
        """
        now = utc_now()
        if tail.closed or tail.day != now[:10] or tail.place.bytes >= self._segment_bytes:
            self._roll(tail)
        path = segment_path(self.folder, tail.place.segment)
        start, lines, place = tail.place, [], tail.place
        for entry in (*tail.notes, *entries):
            key = tail.keys.of(entry.tenant, entry.single)
            n = place.last + 1
            data = seal(key.cipher, entry.payload, about(n, now, key.id))
            line, digest = linked(place.hash, {"n": n, "at": now, "key": key.id, "data": data})
            lines.append(line)
            place = Place(place.segment, place.bytes + len(line), n, digest)
        descriptor = os.open(path, os.O_WRONLY)
        try:
            tail.keys.flush()
            write_all(descriptor, b"".join(lines), start.bytes)
            head = Head(tail.head.turn + 1, begin or tail.head.begin, place)
            self.head_file.write(head, tail.ring)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, start.bytes)
            raise
        finally:
            os.close(descriptor)
        tail.place, tail.head, tail.raw, tail.notes = place, head, self.head_file.raw(), []
        return place.last

    def _roll(self, tail: _Tail) -> None:
        """Sign the end of the segment and begin the next one."""
        place = tail.place
        if not tail.closed:
            signature = tail.ring.sign(ended(place.segment, place.last, place.hash))
            fields = {"end": place.segment, "last": place.last, **signature}
            line, digest = linked(place.hash, fields)
            descriptor = os.open(segment_path(self.folder, place.segment), os.O_WRONLY)
            try:
                write_all(descriptor, line, place.bytes)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, place.bytes)
                raise
            finally:
                os.close(descriptor)
            place = replace(place, bytes=place.bytes + len(line), hash=digest)
        begun, day = self._begin(replace(place, segment=place.segment + 1, bytes=0))
        new = self._tail_of(tail.head, begun, day, False, tail.ring, tail.notes)
        tail.place, tail.day, tail.closed, tail.keys, tail.inode = new.place, new.day, new.closed, new.keys, new.inode

    def _begin(self, place: Place) -> tuple[Place, str]:
        """A new segment with its first line: all of it is there, or nothing. The place behind the line, and its day."""
        now = utc_now()
        line, digest = linked(place.hash, {"segment": place.segment, "first": place.last + 1, "at": now})
        path = segment_path(self.folder, place.segment)
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(descriptor, line, 0)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        sync_folder(str(self.folder))
        return replace(place, bytes=len(line), hash=digest), now[:10]

    # -- reading -------------------------------------------------------------------------------------------------------
    def began(self, segment: int) -> str:
        """When a segment was begun. Raises DamagedError: it does not say."""
        with suppress(ValueError, KeyError, TypeError), open(segment_path(self.folder, segment), "rb") as lines:
            return str(json.loads(lines.readline())["at"])
        raise damaged(segment, 0, "the segment's first line was changed")

    def place_behind(self, segment: int) -> Place:
        """The end of a closed segment. Raises DamagedError: it has none."""
        data = segment_path(self.folder, segment).read_bytes()
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(data.rstrip(b"\n").rpartition(b"\n")[2])
            return Place(segment, len(data), int(row["last"]), str(row["hash"]))
        raise damaged(segment, 0, "the segment's signed end is missing")

    # -- what the keeping of a log needs (``housekeeping``) ------------------------------------------------------------
    @contextmanager
    def changing(self) -> Iterator[_Change]:
        """The log with nobody else writing.

        Raises:
            EnvironmentFaultError, IntegrityError: see ``append``.
        """
        with self._writing, self._exclusive() as tail:
            try:
                yield _Change(self, tail)
            finally:
                self._tail = None  # keys and segments may be others now


class _Change:
    """What may be done while nobody else writes."""

    def __init__(self, log: AuditLog, tail: _Tail) -> None:
        self._log, self._tail = log, tail
        self.ring, self.head = tail.ring, tail.head

    def write(self, entry: Entry, begin: Place | None = None) -> int:
        """Append a record; from then on the log begins at ``begin``."""
        return self._log._write(self._tail, [entry], begin)

    def erase(self, keys: set[str], entry: Entry) -> None:
        """Append the record that says so, then destroy data keys."""
        self.write(entry)
        for _, book in self.books():
            if keys & book.keys.keys():
                book.destroy(keys)

    def books(self) -> Iterator[tuple[int, SegmentKeys]]:
        """The keys of every segment that is there."""
        for number in segments(self._log.folder):
            yield number, SegmentKeys(keys_path(self._log.folder, number), self.ring)
