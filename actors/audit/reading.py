"""The records of a log, checked and decrypted."""

from __future__ import annotations

import json
from collections.abc import Iterator

from actors.audit.audit_log import AuditLog
from actors.audit.chain import Walk, damaged, keys_path
from actors.audit.entries import Record, about
from actors.audit.key_ring import KeyRing, unseal
from actors.audit.segment_keys import SegmentKeys
from cluster.core.errors import IntegrityError


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
