"""Kept answers in memory: bounded by bytes, the longest unasked go first, none is older than so many seconds.

They are in a table of SQLite: in this process's memory, or in a file in the machine's memory (``cluster.core.memory``),
which every gateway there reads and writes. A hit costs about a tenth of a millisecond, a miss a hundredth, and no hop;
no process has to be there for the others to answer. What breaks or is busy is as if nothing were kept.

What makes two questions the same is ``cache_key``'s affair, when an answer is kept and given again is ``recall``'s.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.core.access import Rights
from cluster.core.telemetry import log_event

OVERHEAD = 400  # bytes of an entry beside its data, about: its key, its place in the table, what it rests on
BUSY_S = 0.05  # longest that one waits for what another gateway writes
FILE, LOCK = "answers-1.db", "answers.lock"  # the number is that of the table's form
_PRAGMAS = ("journal_mode = WAL", "synchronous = OFF", "secure_delete = ON")
_TABLE = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, data BLOB NOT NULL, size INTEGER NOT NULL,"
    " collection TEXT NOT NULL, index_version TEXT NOT NULL, forgotten INTEGER NOT NULL, until REAL NOT NULL,"
    " asked INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_asked ON answers (asked, size)",
)
_NOW = "(SELECT coalesce(max(asked), 0) + 1 FROM answers)"  # counts what was put and asked
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


class AnswerCache:
    """Answers by key. For one event loop; not thread-safe.

    Args:
        most_bytes: that all entries take together; an answer that is larger by itself is not kept. 0: none is.
        ttl_s: seconds after which an answer is not given any more, however often it was asked.
        clock: seconds that do not go back, the same for all who share.
        folder: where gateways share what they keep, in a file; None: in this process alone.
    """

    def __init__(
        self,
        most_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        folder: Path | None = None,
    ) -> None:
        self.most_bytes, self._ttl_s, self._clock = most_bytes, ttl_s, clock
        self._removed: Counter[str] = Counter()
        self._broken = False
        self._table = self._opened(folder if most_bytes else None)

    def __len__(self) -> int:
        return self._told("count(*)")

    @property
    def bytes(self) -> int:
        """What all entries take."""
        return self._told("total(size)")

    def get(self, key: str) -> KeptAnswer | None:
        """The answer, which was asked just now; None where there is none, or none young enough."""
        row = None
        with self._trying():
            row = self._table.execute(
                "SELECT data, until, collection, index_version, forgotten FROM answers WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        data, until, *grounds = row
        if until <= self._clock():
            self.drop(key, EXPIRED)
            return None
        with self._trying():
            self._table.execute(f"UPDATE answers SET asked = {_NOW} WHERE key = ?", (key,))  # noqa: S608
        return _answer(data, Grounds(*grounds))

    def put(self, key: str, answer: KeptAnswer) -> None:
        """Keep an answer in place of an earlier one, and make room for it."""
        self._change(lambda: self._put(key, answer))

    def drop(self, key: str, reason: str) -> None:
        """Forget an answer, if it is there."""
        self._change(lambda: self._drop(key, reason))

    def sweep(self, grounds: Collection[Grounds] | None) -> None:
        """Forget what is too old, and what rests on anything but these grounds (None: whatever it rests on)."""
        self._change(lambda: self._sweep(grounds))

    def removed(self) -> dict[str, int]:
        """How many were removed here since this was last asked, by reason."""
        found, self._removed = +self._removed, Counter()
        return dict(found)

    def _put(self, key: str, answer: KeptAnswer) -> None:
        self._table.execute("DELETE FROM answers WHERE key = ?", (key,))
        data, grounds = json.dumps(asdict(answer)).encode(), answer.grounds
        size = len(data) + OVERHEAD
        if size > self.most_bytes:
            return
        while self._sum("total(size)") + size > self.most_bytes:
            oldest = self._table.execute("SELECT key FROM answers ORDER BY asked LIMIT 1").fetchone()
            self._drop(oldest[0], NO_ROOM)
        row = (key, data, size, grounds.collection, grounds.index_version, grounds.forgotten)
        self._table.execute(
            f"INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, {_NOW})",  # noqa: S608
            (*row, self._clock() + self._ttl_s),
        )

    def _drop(self, key: str, reason: str) -> None:
        self._removed[reason] += self._table.execute("DELETE FROM answers WHERE key = ?", (key,)).rowcount

    def _sweep(self, grounds: Collection[Grounds] | None) -> None:
        self._removed[EXPIRED] += self._table.execute("DELETE FROM answers WHERE until <= ?", (self._clock(),)).rowcount
        if grounds is None:
            return
        for row in self._table.execute("SELECT DISTINCT collection, index_version, forgotten FROM answers").fetchall():
            if Grounds(*row) not in grounds:
                self._removed[OUTDATED] += self._table.execute(
                    "DELETE FROM answers WHERE (collection, index_version, forgotten) = (?, ?, ?)", row
                ).rowcount

    def _told(self, what: str) -> int:
        found = 0
        with self._trying():
            found = int(self._sum(what))
        return found

    def _sum(self, what: str) -> Any:
        return self._table.execute(f"SELECT {what} FROM answers").fetchone()[0]  # noqa: S608

    def _opened(self, folder: Path | None) -> sqlite3.Connection:
        """The table, made where it is not there; where the folder holds none, one of this process."""
        if folder is not None:
            with self._trying(), open(folder / LOCK, "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # two that begin at once would find each other's half of a table
                return _made(str(folder / FILE))
        return _made(":memory:")

    def _change(self, what: Callable[[], None]) -> None:
        """One change, whole or not at all, with nobody else's in between."""
        with self._trying():
            self._table.execute("BEGIN IMMEDIATE")
            with self._table:  # commits, or takes back
                what()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """What the table cannot do (busy, no memory left, damaged) is left undone; said once."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not self._broken:
                log_event("gateway", "answers_not_kept", error=f"{type(error).__name__}: {error}"[:300])
            self._broken = True


def _made(path: str) -> sqlite3.Connection:
    table = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    # Nothing has to outlive the machine, and what was removed shall be gone.
    for statement in (*(f"PRAGMA {one}" for one in _PRAGMAS), *_TABLE):
        table.execute(statement)
    return table


def _answer(data: bytes, grounds: Grounds) -> KeptAnswer:
    row = json.loads(data)
    rights = Rights(row["rights"]["tenant"], tuple(row["rights"]["groups"]))
    return KeptAnswer(**{**row, "grounds": grounds, "rights": rights, "texts": tuple(row["texts"])})
