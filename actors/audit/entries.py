"""What is written into the log, and what is read out of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What is to be written down.

    Attributes:
        tenant: whose it is; who is erased by tenant loses it. Empty: the installation's own, which stays.
        payload: JSON object with at least ``kind``.
        single: it has a key of its own, so that it can be erased alone.
    """

    tenant: str
    payload: bytes
    single: bool = False

    @classmethod
    def of(cls, kind: str, tenant: str = "", single: bool = False, **fields: Any) -> Entry:
        """An entry of plain values; those that are None are left out."""
        said = {name: value for name, value in fields.items() if value is not None}
        row = {"kind": kind, **({"tenant": tenant} if tenant else {}), **said}
        return cls(tenant, json.dumps(row, separators=(",", ":"), default=str).encode(), single)


@dataclass(frozen=True)
class Record:
    """A record as it was read; ``payload`` is None where its key was destroyed."""

    n: int
    at: str
    segment: int
    key: str
    payload: dict[str, Any] | None
    single: bool = False


def about(n: int, at: str, key: str) -> str:
    """What the encryption of a record authenticates besides its text: its place, its time, its key."""
    return f"{n} {at} {key}"
