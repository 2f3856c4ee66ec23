"""Whether a key walks the corpus: how many different documents it was shown within a window, in bounded memory.

Counted with HyperLogLog (Flajolet and others 2007): 1 KB a key, standard error 3 %. One answer shows few documents, so
that a key which was shown thousands copies rather than asks. It is flagged once a window and goes on: whether that is
an evaluation or a theft is for people to say. Each gateway counts what went through it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from cluster.core.identity import LOCAL, NOBODY
from cluster.core.sections.trust import TrustSection
from cluster.core.telemetry import log_event
from serve_apps.gateway.protocols import Recorder
from serve_apps.gateway.request_log import RequestRecord

BITS = 10  # of a hash that choose the register
REGISTERS = 1 << BITS
MOST_KEYS = 4096  # the one that was seen longest ago makes room


class Distinct:
    """An estimate of how many different texts were added."""

    def __init__(self) -> None:
        self._longest = bytearray(REGISTERS)

    def add(self, text: str) -> None:
        """Count a text, unless it was counted before."""
        found = int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")
        place, rest = found & (REGISTERS - 1), found >> BITS
        zeros = 64 - BITS - rest.bit_length() + 1
        self._longest[place] = max(self._longest[place], zeros)

    def count(self) -> float:
        """The estimate; for few texts by linear counting."""
        empty = self._longest.count(0)
        raw = 0.7213 / (1 + 1.079 / REGISTERS) * REGISTERS**2 / sum(2.0**-zeros for zeros in self._longest)
        return REGISTERS * math.log(REGISTERS / empty) if empty and raw <= 2.5 * REGISTERS else raw


class _Walk:
    def __init__(self, began: float) -> None:
        self.began, self.seen, self.told = began, Distinct(), False


class CorpusWalks:
    """Looks at every request that ended.

    Args:
        tell: writes an action into the audit log: its name, the tenant, details.
        clock: seconds.
    """

    def __init__(
        self,
        section: TrustSection,
        recorder: Recorder,
        tell: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._section, self._recorder, self._tell, self._clock = section, recorder, tell, clock
        self._walks: OrderedDict[str, _Walk] = OrderedDict()

    def __len__(self) -> int:
        return len(self._walks)

    def note(self, record: RequestRecord) -> None:
        """Count the documents that whoever asked was shown; flag the key whose window has too many of them."""
        who = record.principal
        if not record.documents or record.status >= 400 or who in (LOCAL, NOBODY):
            return
        now, walk = self._clock(), self._walks.pop(who.key_id, None)
        if walk is None or now - walk.began >= self._section.scraping_hours * 3600:
            walk = _Walk(now)
        self._walks[who.key_id] = walk
        if len(self._walks) > MOST_KEYS:
            self._walks.popitem(last=False)
        if walk.told:
            return
        for document, source in record.documents:
            walk.seen.add(f"{record.collection}\0{source}\0{document}")
        if (count := walk.seen.count()) >= self._section.scraping_documents:
            walk.told = True
            self._flag(record, round(count), now - walk.began)

    def _flag(self, record: RequestRecord, documents: int, within_s: float) -> None:
        said: dict[str, Any] = {
            "key_id": record.principal.key_id, "documents": documents, "minutes": round(within_s / 60, 1),
            "request_id": record.request_id,
        }  # fmt: skip
        self._recorder.record("plinth_scraping_total", 1, {})
        self._tell("scraping_suspected", record.tenant, **said)
        log_event("gateway", "scraping_suspected", **said)
