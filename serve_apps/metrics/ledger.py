"""Counters that never fall: what every exporter counted, kept beyond its life. Pure.

Prometheus takes a counter that falls for one that began anew, and ``rate()`` shows work that nobody did. A sum over
processes falls whenever one of them is gone, or its node does not answer once. So each exporter's last word is kept
while it may come back, and added to what is settled when it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_apps.metrics.text import GROWS, Family, Reading

SETTLED_AFTER_S = 600.0  # an exporter that is missing on its node's page for so long does not come back


@dataclass
class Account:
    """What one exporter counted of one series: up to its last restart, since then, and when it was last seen."""

    before: float
    now: float
    seen: float


@dataclass
class Ledger:
    """All counters and histograms.

    Attributes:
        settled: by series, of exporters that are gone.
        open: by node, exporter and series, of those that may come back.
        families: by name, of every series here.
    """

    settled: dict[str, float] = field(default_factory=dict)
    open: dict[tuple[str, str, str], Account] = field(default_factory=dict)
    families: dict[str, Family] = field(default_factory=dict)

    def enter(self, pages: Mapping[str, Iterable[Reading]], alive: Collection[str], now: float) -> None:
        """Take what the nodes that answered told.

        Args:
            pages: by node; a node is another one after it restarted.
            alive: all nodes there are, those that did not answer included.
            now: seconds, of any clock that every caller shares.
        """
        for node, found in pages.items():
            for one in found:
                if one.family.kind in GROWS:
                    self.families[one.family.name] = one.family
                    self._count((node, one.exporter, one.series), one.value, now)
        for key, account in list(self.open.items()):
            gone = key[0] not in alive or (key[0] in pages and now - account.seen > SETTLED_AFTER_S)
            if gone:
                del self.open[key]
                self.settled[key[2]] = self.settled.get(key[2], 0.0) + account.before + account.now

    def _count(self, key: tuple[str, str, str], value: float, now: float) -> None:
        account = self.open.setdefault(key, Account(0.0, 0.0, now))
        if value < account.now:  # it began anew
            account.before += account.now
        account.now, account.seen = value, now

    def totals(self) -> dict[str, float]:
        """By series, over all exporters that ever were."""
        found = dict(self.settled)
        for (_, _, series), account in self.open.items():
            found[series] = found.get(series, 0.0) + account.before + account.now
        return found

    def dumps(self) -> str:
        """As JSON."""
        accounts = [[*key, one.before, one.now, one.seen] for key, one in self.open.items()]
        families = [[one.name, one.kind, one.help] for one in self.families.values()]
        return json.dumps({"settled": self.settled, "open": accounts, "families": families})

    @classmethod
    def loads(cls, text: str) -> Ledger:
        """What ``dumps`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            accounts = {(node, who, series): Account(*sums) for node, who, series, *sums in found["open"]}
            return cls(found["settled"], accounts, {row[0]: Family(*row) for row in found["families"]})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no ledger: {error}") from None
