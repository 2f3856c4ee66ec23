"""Whether a log is what was written: every line, every record, every key, against the signed head.

What is found, and named by the record: any edit, removal, insertion or exchange of records, of whole segments, of keys
and of the head; the log cut off anywhere before its head.

What cannot be found here: log **and** head together put back to an earlier state (a restored backup, say) are a log
that was whole once. Whoever keeps a head elsewhere (``plinth audit verify`` prints it) finds that with ``since``. And
whoever has the keys of the installation can write another log altogether: they are as worth protecting as the log.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from actors.audit.audit_log import AuditLog
from actors.audit.chain import DamagedError, Head, Place, Walk, damaged, segments
from actors.audit.key_ring import KeyRing
from actors.audit.reading import opened
from cluster.core.errors import BadInputError, IntegrityError


@dataclass(frozen=True)
class Verified:
    """What was looked at.

    Attributes:
        first, last: the records that are kept. segments: how many there are. erased: records whose key was destroyed.
        torn: bytes behind the head of a write that was cut off; the next writer removes them.
        unfinished: keys that an erasure should have destroyed; `plinth audit erase` again finishes it.
        head: to be kept elsewhere.
    """

    first: int = 0
    last: int = 0
    segments: int = 0
    erased: int = 0
    torn: int = 0
    unfinished: int = 0
    head: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def verify(log: AuditLog, since: dict[str, Any] | None = None) -> Verified:
    """Check a log from its first record to its head.

    Args:
        since: a head that was printed earlier: the log must be the continuation of that one.

    Raises:
        DamagedError: names the first record that cannot be trusted.
        IntegrityError: the head or the keys were changed or are gone.
        BadInputError: ``since`` is no head of this log.
    """
    there, raw = segments(log.folder), log.head_file.raw()
    if not raw and not there and not log.keys_path.exists():
        if since is not None:
            raise IntegrityError("there is no audit log any more: it was removed")
        return Verified()
    ring = log.ring()
    head = log.head_file.read(ring, strict=True)
    if head is None:
        what = "there are segments without a head" if there else "the log was removed: its keys are there"
        raise IntegrityError(f"{log.head_file.path} is gone: {what}", path=str(log.head_file.path))
    earlier = _earlier(since, head, ring) if since is not None else None
    try:
        return _walked(log, head, ring, earlier, len(there))
    except DamagedError:
        now = log.head_file.read(ring)
        if now is None or now.begin == head.begin:
            raise
    return verify(log, since)  # old segments were removed meanwhile


def _walked(log: AuditLog, head: Head, ring: KeyRing, earlier: Head | None, there: int) -> Verified:
    walk = Walk(log.folder, head, ring, marks=[earlier.end] if earlier else [])
    gone: dict[str, tuple[int, int]] = {}  # the first record of each key that is not there
    destroyed, present, erased = set[str](), set[str](), 0
    for record in opened(log, walk, ring, present):
        if record.payload is None:
            erased += 1
            gone.setdefault(record.key, (record.n, record.segment))
        elif record.payload.get("kind") == "erased":
            destroyed.update(record.payload["keys"])
    if unexplained := [place for key, place in gone.items() if key not in destroyed]:
        n, segment = min(unexplained)
        raise damaged(segment, n, "its key was destroyed, and no record of an erasure says why")
    unfinished, printed = len(destroyed & present), head.to_json(ring)
    return Verified(head.begin.last + 1, walk.place.last, there, erased, walk.torn, unfinished, printed)


def read_head(text: str) -> dict[str, Any]:
    """A head that was printed by ``verify``. Raises BadInputError: it is none."""
    try:
        row = json.loads(text)
        row = row.get("head", row)
        Place(**row["begin"]), Place(**row["end"]), int(row["turn"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInputError("this is no head of an audit log: `plinth audit verify --json` prints one") from None
    found: dict[str, Any] = row
    return found


def _earlier(since: dict[str, Any], head: Head, ring: KeyRing) -> Head:
    try:
        earlier = Head.of(since, ring)
    except IntegrityError:
        raise BadInputError("the earlier head is not signed with a key of this log") from None
    if earlier.turn > head.turn:
        raise damaged(
            head.end.segment, head.end.last + 1,
            f"it is missing: the log ended with record {earlier.end.last} when the earlier head was printed",
        )  # fmt: skip
    return earlier
