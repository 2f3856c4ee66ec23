"""Who asks: what a key stands for once it was recognised. Values only; ``actors/ledger`` keeps the keys themselves.

With keys switched off (``trust.keys=false``, loopback only) everybody is ``LOCAL``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

DEFAULT_TENANT = "default"
Scope = Literal["chat", "search", "feedback", "metrics", "admin", "audit", "registry"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a key may be allowed: ask; search, embed and list; send feedback; read metrics and what goes on; keep keys and
other people's usage, review what guards found; read the audit log; change models."""


@dataclass(frozen=True)
class Limits:
    """What a key, or a tenant as a whole, may use; None: as much as it likes. Money is in the currency of
    ``TierConfig.price`` and counted by calendar month, tokens by UTC day, both as prompt and completion together."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    money_per_month: float | None = None


@dataclass(frozen=True)
class Principal:
    """Whom a request comes from.

    Attributes:
        key_id: the public name of the key; never the key.
        tenant: whose documents, budget, cache and books it uses.
        groups: inside the tenant, for documents that only some may read.
        scopes: what it may do; nothing else.
        models, collections: the names it may ask; empty: all of them.
        limits: of this key; those of the tenant hold besides.
        streams: requests that it may have under way at once at one gateway; None: as many as any key
            (``trust.streams_per_key``).
    """

    key_id: str
    tenant: str = DEFAULT_TENANT
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    streams: int | None = None

    def may(self, scope: str) -> bool:
        """Whether the key has this scope."""
        return scope in self.scopes

    def to_json(self) -> dict[str, Any]:
        """Plain values, sorted, as they are stored."""
        values = asdict(self)
        return {**values, "groups": sorted(self.groups), "scopes": sorted(self.scopes)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Principal:
        """The reverse of ``to_json``."""
        return cls(
            key_id=values["key_id"],
            tenant=values["tenant"],
            groups=frozenset(values["groups"]),
            scopes=frozenset(values["scopes"]),
            models=tuple(values["models"]),
            collections=tuple(values["collections"]),
            limits=Limits(**values["limits"]),
            streams=values.get("streams"),
        )


LOCAL = Principal("local", scopes=frozenset(SCOPES))
"""Everybody, where keys are switched off."""
NOBODY = Principal("")
"""Who has not been recognised: no scope at all."""
