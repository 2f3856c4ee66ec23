"""The records of a log, checked and decrypted."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from actors.audit.audit_log import AuditLog
from actors.audit.chain import Walk, damaged, keys_path
from actors.audit.entries import Record, about
from actors.audit.key_ring import KeyRing, unseal
from actors.audit.segment_keys import SegmentKeys
from cluster.core.errors import IntegrityError


@dataclass(frozen=True)
class Wanted:
    """Which records somebody wants to see; what is empty does not matter. ``since`` is a time (ISO, UTC)."""

    tenant: str = ""
    kind: str = ""
    request: str = ""
    since: str = ""

    def fits(self, record: Record) -> bool:
        """Whether a record is one of them. Of erased ones nothing is known: they fit nobody who wants some."""
        if record.payload is None:
            return not (self.tenant or self.kind or self.request) and record.at >= self.since
        names = (("tenant", self.tenant), ("kind", self.kind), ("request_id", self.request))
        return record.at >= self.since and all(record.payload.get(name) == value for name, value in names if value)

    def told(self) -> dict[str, str]:
        """What matters, as the record of the reading says it."""
        return {name: value for name, value in asdict(self).items() if value}


def row(record: Record) -> dict[str, Any]:
    """A record as it is shown."""
    return {"n": record.n, "at": record.at, **(record.payload or {"kind": "(erased)"})}


def newest(log: AuditLog, wanted: Wanted, count: int) -> list[dict[str, Any]]:
    """The newest records that are wanted, oldest first. Reads no more segments than it takes to find them.

    Raises:
        DamagedError: a record cannot be trusted.
        IntegrityError: head or keys were changed.
    """
    if not log.head_file.raw():
        return []
    ring = log.ring()
    head = log.head_file.read(ring)
    found: list[dict[str, Any]] = []
    if head is None:
        return found
    step, first = 1, max(head.end.segment, head.begin.segment)
    while True:
        start = head.begin
        if first > head.begin.segment:
            start = replace(log.place_behind(first - 1), segment=first, bytes=0)
        fitting = (row(one) for one in opened(log, Walk(log.folder, head, ring, start=start), ring) if wanted.fits(one))
        found = list(deque(fitting, maxlen=count))
        if len(found) >= count or first == head.begin.segment:
            return found
        first, step = max(head.begin.segment, first - step), 2 * step


def records(log: AuditLog) -> Iterator[Record]:
    """Every record, oldest first.

    Raises:
        DamagedError: the next one cannot be trusted.
        IntegrityError: head or keys were changed.
    """
    if not log.head_file.raw():
        return
    ring = log.ring()
    head = log.head_file.read(ring)
    if head is not None:
        yield from opened(log, Walk(log.folder, head, ring), ring)


def opened(log: AuditLog, walk: Walk, ring: KeyRing, present: set[str] | None = None) -> Iterator[Record]:
    """The records of a walk, decrypted where their key is there; the ids of all keys are put into ``present``.

    Raises:
        DamagedError: the next one cannot be trusted.
    """
    segment, book = 0, None
    for line in walk.lines():
        if line.behind.segment != segment:
            segment = line.behind.segment
            book = SegmentKeys(keys_path(log.folder, segment), ring)
            if book.damaged:
                raise damaged(segment, line.fields.get("first", line.behind.last), f"its keys: {book.damaged[0]}")
            if present is not None:
                present.update(key.id for key in book.keys.values() if not key.destroyed)
        if "n" not in line.fields or book is None:
            continue
        n, at, name = line.fields["n"], line.fields["at"], line.fields["key"]
        if name not in book.keys and n > walk.acknowledged:  # somebody writes at this moment
            book = SegmentKeys(keys_path(log.folder, segment), ring)
        key = book.keys.get(name)
        if key is None:
            raise damaged(segment, n, "its key is gone, and not by an erasure")
        if key.destroyed:
            yield Record(n, at, segment, name, None)
            continue
        try:
            payload = json.loads(unseal(key.cipher, line.fields["data"], about(n, at, name)))
        except (IntegrityError, ValueError):
            raise damaged(segment, n, "it does not open with its key: it was changed") from None
        yield Record(n, at, segment, name, payload, key.single)
