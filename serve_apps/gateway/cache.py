"""Kept answers in memory: bounded by bytes, the longest unasked go first, none is older than so many seconds. Pure.

What makes two questions the same is ``cache_key``'s affair, when an answer is kept and given again is ``recall``'s.
"""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.access import Rights

OVERHEAD = 400  # bytes of an entry beside its data, about: its key, its place in the table, what it rests on
EXPIRED, NO_ROOM, OUTDATED, CHECKED_ANEW = "expired", "no_room", "outdated", "checked_anew"


@dataclass(frozen=True)
class Grounds:
    """What an answer rests on: a version of a collection's index, and how many decisions to forget were heeded when it
    was searched."""

    collection: str
    index_version: str
    forgotten: int


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as it left: its pieces of checked text, and what its end said.

    Attributes:
        rights: of who asked, and nobody else is given it.
        checked: hash of the conversation as guard(in) let it go on, which is what was answered.
        texts: in the order in which a stream sent them.
        plinth: plain JSON.
        labelled: it is made of documents that not everybody may read.
    """

    grounds: Grounds
    rights: Rights
    checked: str
    texts: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    plinth: dict[str, Any]
    labelled: bool = False


@dataclass(frozen=True)
class _Entry:
    data: bytes  # as bytes its size is known, and nobody can change it
    grounds: Grounds
    until: float


class AnswerCache:
    """Answers by key. For one event loop; not thread-safe.

    Args:
        most_bytes: that all entries take together; an answer that is larger by itself is not kept. 0: none is.
        ttl_s: seconds after which an answer is not given any more, however often it was asked.
        clock: seconds that do not go back.
    """

    def __init__(self, most_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_bytes, self._ttl_s, self._clock = most_bytes, ttl_s, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._removed: Counter[str] = Counter()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> KeptAnswer | None:
        """The answer, which was asked just now; None where there is none, or none young enough."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock():
            self.drop(key, EXPIRED)
            return None
        self._entries.move_to_end(key)
        row = json.loads(entry.data)
        rights = Rights(row["rights"]["tenant"], tuple(row["rights"]["groups"]))
        return KeptAnswer(**{**row, "grounds": entry.grounds, "rights": rights, "texts": tuple(row["texts"])})

    def put(self, key: str, answer: KeptAnswer) -> None:
        """Keep an answer in place of an earlier one, and make room for it."""
        entry = _Entry(json.dumps(asdict(answer)).encode(), answer.grounds, self._clock() + self._ttl_s)
        if (before := self._entries.pop(key, None)) is not None:
            self.bytes -= _size(before)
        if _size(entry) > self.most_bytes:
            return
        while self.bytes + _size(entry) > self.most_bytes:
            self.drop(next(iter(self._entries)), NO_ROOM)
        self._entries[key] = entry
        self.bytes += _size(entry)

    def drop(self, key: str, reason: str) -> None:
        """Forget an answer, if it is there."""
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= _size(entry)
            self._removed[reason] += 1

    def sweep(self, grounds: Collection[Grounds] | None) -> None:
        """Forget what is too old, and what rests on anything but these grounds (None: whatever it rests on)."""
        now = self._clock()
        for key, entry in list(self._entries.items()):
            if entry.until <= now:
                self.drop(key, EXPIRED)
            elif grounds is not None and entry.grounds not in grounds:
                self.drop(key, OUTDATED)

    def removed(self) -> dict[str, int]:
        """How many were removed since this was last asked, by reason."""
        found, self._removed = self._removed, Counter()
        return dict(found)


def _size(entry: _Entry) -> int:
    return len(entry.data) + OVERHEAD
