"""What happens to a log besides being written: old segments go, tenants and documents are erased, keys change.

Each of these is itself a record, written before it is done: who looks later sees that, when and by whom. The chain
stays whole: of an erased record the encrypted bytes stay, which nothing opens any more.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from actors.audit.audit_log import AuditLog
from actors.audit.chain import Place, keys_path, segment_path, segments
from actors.audit.entries import Entry
from actors.audit.reading import records
from cluster.core.storage import sync_folder, utc_now


def erase_tenant(log: AuditLog, tenant: str, by: str, why: str = "") -> int:
    """Destroy all keys of a tenant; how many they were (one a segment, and one each sampled request).

    Raises:
        EnvironmentFaultError, IntegrityError: the log cannot be written.
    """
    with log.changing() as change:
        keys = [key for _, book in change.books() for key in book.keys.values() if not key.destroyed]
        ids = {key.id for key in keys if tenant and key.tenant == tenant}
        if ids:
            change.erase(ids, Entry.of("erased", what="tenant", name=tenant, by=by, why=why, keys=sorted(ids)))
    return len(ids)


def erase_samples(
    log: AuditLog, concerns: Callable[[dict[str, Any]], bool], what: str, name: str, by: str, why: str = ""
) -> int:
    """Destroy the keys of sampled requests; how many they were.

    Args:
        concerns: decides by a sample's fields. what, name: what is erased, as the record of it says.

    Raises:
        DamagedError: the log was changed: a sample that cannot be read cannot be chosen.
        EnvironmentFaultError, IntegrityError: the log cannot be written.
    """
    with log.changing() as change:
        ids = {r.key for r in records(log) if r.single and r.payload is not None and concerns(r.payload)}
        if ids:
            change.erase(ids, Entry.of("erased", what=what, name=name, by=by, why=why, keys=sorted(ids)))
    return len(ids)


def retire(log: AuditLog, days: int, now: str = "") -> int:
    """Remove the segments whose records are all older than these days; how many they were.

    Raises:
        EnvironmentFaultError, IntegrityError: the log cannot be written, or the segment to go was changed.
    """
    today = datetime.datetime.fromisoformat(now or utc_now())
    cutoff = (today - datetime.timedelta(days=days)).isoformat(timespec="milliseconds")
    with log.changing() as change:
        there = [n for n in segments(log.folder) if n >= change.head.begin.segment]
        old = [n for n, after in pairwise(there) if log.began(after) <= cutoff]
        if old:
            begin = log.place_behind(old[-1])
            said = Entry.of("retired", segments=old, last=begin.last, days=days)
            change.write(said, begin=Place(old[-1] + 1, 0, begin.last, begin.hash))
        for number in segments(log.folder):  # those of an earlier time that a crash left too
            if (old and number <= old[-1]) or number < change.head.begin.segment:
                keys_path(log.folder, number).unlink(missing_ok=True)
                segment_path(log.folder, number).unlink(missing_ok=True)
        sync_folder(str(log.folder))
    return len(old)


def rotate(log: AuditLog, by: str) -> dict[str, str]:
    """New keys to encrypt and to sign with: all data keys are wrapped anew, the old secret keys are destroyed.

    Returns ``{"master", "signing"}``: the names of the new ones. After a crash, again finishes it.

    Raises:
        EnvironmentFaultError, IntegrityError: the log cannot be written, or a data key was changed.
    """
    with log.changing() as change:
        ring = change.ring.renewed()
        names = {"master": ring.current, "signing": ring.signed_by}
        change.write(Entry.of("keys_rotated", by=by, master=names["master"], signing=names["signing"]))
        ring.write()
        for _, book in change.books():
            book.rewrap(ring)
        ring.without_old().write()
    return names
