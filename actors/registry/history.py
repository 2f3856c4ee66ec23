"""What happened to a model, append-only: one small file an event below ``models/<name>/history/``.

A file an event works on object stores too, and a kill leaves whole events. The history is written before the aliases
move, so that it is also the journal from which a half-done promotion is completed (``models.py``). Nothing here changes
or removes an event.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from cluster.core.code import code_commit
from cluster.core.errors import UsageError
from cluster.core.storage import Store, check_name, utc_now

EventName = Literal[
    "registered", "candidate", "gate_passed", "gate_refused", "promoted", "rolled_back", "tainted"
]  # fmt: skip
MOVES = ("promoted", "rolled_back")


@dataclass(frozen=True)
class Event:
    """One thing that happened to a version.

    Attributes:
        seq: its place in the history of the model, from 1.
        event: what happened.
        version: to which version (``rolled_back``: the one that was taken out).
        at: when (ISO, UTC); never earlier than the event before it.
        actor: user@host on whose behalf.
        commit: of the code that did it.
        reason: why, for a person.
        gate: for gate events: ``{"report": "name@version" or "", "passed", "checks": [...], "reason"}``.
        champion, previous: for promoted and rolled_back: what the aliases are after it ("" is none).
    """

    seq: int
    event: EventName
    version: str
    at: str
    actor: str = ""
    commit: str = ""
    reason: str = ""
    gate: dict[str, Any] = field(default_factory=dict)
    champion: str = ""
    previous: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What the event's file holds, field by field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Event:
        """The event in a file. Fields that this code does not know are ignored, absent ones take their defaults."""
        return cls(**{f.name: row[f.name] for f in dataclasses.fields(cls) if f.name in row})


def read(store: Store, name: str) -> list[Event]:
    """All events of a model, oldest first."""
    paths = sorted(store.fs.glob(store.path("models", check_name(name), "history", "*.json")))
    return [Event.from_dict(store.read_json(path)) for path in paths]


def append(store: Store, name: str, past: Sequence[Event], event: EventName, version: str, **details: Any) -> Event:
    """Write the event that follows ``past``. The caller holds the model's lock (``writing``)."""
    at = max(utc_now(), past[-1].at) if past else utc_now()  # a clock set back must not reorder the history
    seq = past[-1].seq + 1 if past else 1
    details.setdefault("actor", who())
    made = Event(seq=seq, event=event, version=version, at=at, commit=code_commit(), **details)
    # The random part keeps both events where two writers of an object store took the same number.
    path = store.path("models", name, "history", f"{seq:08d}-{event}-{secrets.token_hex(3)}.json")
    store.write(path, json.dumps(made.to_dict(), indent=1, default=str).encode())
    return made


@contextmanager
def writing(store: Store, name: str) -> Iterator[None]:
    """One writer of a model's history at a time on this machine. On object stores the registry actor is that writer."""
    with store.locked("models", check_name(name), "history"):
        yield


def champion_at(events: Sequence[Event], moment: datetime) -> str:
    """The version that was champion at ``moment``; empty before the first promotion."""
    champion = ""
    for event in events:
        if datetime.fromisoformat(event.at) > moment:
            break
        if event.event in MOVES:
            champion = event.champion
    return champion


def champions(events: Sequence[Event]) -> list[str]:
    """The champions one after the other as a stack: a promotion pushes, a rollback pops."""
    stack: list[str] = []
    for event in events:
        if event.event == "promoted":
            stack.append(event.version)
        elif event.event == "rolled_back" and stack:
            stack.pop()
    return stack


def parse_time(text: str) -> datetime:
    """An ISO date or time; without a zone it is UTC, a bare date is its first moment.

    Raises:
        UsageError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no ISO time: write 2026-11-22 or 2026-11-22T14:30:00+01:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def who() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


__all__ = ["MOVES", "Event", "EventName", "append", "champion_at", "champions", "parse_time", "read", "who", "writing"]
