"""The requests of the last minutes, as the gateways' log tells of them: exact, of all gateways, and older than a page
that is opened now. Nothing of what people asked is in it."""

from __future__ import annotations

import datetime
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT_S, STEP_S = 600, 10
LATELY_S, NOW_S = 300, 60  # over which percentiles and the rate are taken
MOST_BYTES, MOST_KEPT = 8_000_000, 50_000  # of the log at one look; of requests
REFUSED = (429, 503)


@dataclass(frozen=True)
class Seen:
    """One request that ended ``at`` (seconds since 1970): its tier (empty: none had a part in it), the status of its
    reply, milliseconds as a whole and until its first text (None: it had none)."""

    at: float
    tier: str
    status: int
    ms: float
    first_ms: float | None

    @property
    def outcome(self) -> str:
        """What became of it: answered, refused (for want of room), failed, or wrong (a fault of the client's)."""
        if self.status in REFUSED:
            return "refused"
        return "failed" if self.status >= 500 else "wrong" if self.status >= 400 else "answered"


class RequestLog:
    """Follows the gateways' log.

    Args:
        path: of the log; it need not be there yet, and may be another file from one look to the next.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._read_to = 0, 0  # which file, and how far it was read
        self._seen: deque[Seen] = deque(maxlen=MOST_KEPT)

    def look(self, now: float) -> list[Seen]:
        """The work of the last KEPT_S seconds, in the log's order: whoever sent something to be worked on. Blocking."""
        for line in self._new_lines():
            if (seen := seen_in(line)) is not None:
                self._seen.append(seen)
        while self._seen and self._seen[0].at < now - KEPT_S:
            self._seen.popleft()
        return [one for one in self._seen if one.at >= now - KEPT_S]

    def _new_lines(self) -> list[bytes]:
        """What was written since, up to the last line's end; of very much the newest, whose first line may be cut."""
        try:
            with self._path.open("rb") as log:
                found = os.fstat(log.fileno())
                if found.st_ino != self._file or found.st_size < self._read_to:
                    self._file, self._read_to = found.st_ino, 0
                begin = max(self._read_to, found.st_size - MOST_BYTES)
                log.seek(begin)
                whole, end, _ = log.read(MOST_BYTES).rpartition(b"\n")
        except OSError:
            return []
        if not end:
            return []
        self._read_to = begin + len(whole) + 1
        return whole.split(b"\n")


def seen_in(line: bytes) -> Seen | None:
    """What a line of the log tells of; None for lines that are cut, or of no work."""
    if b'"request"' not in line:
        return None
    try:
        told = json.loads(line)
        if told["event"] != "request" or told["method"] != "POST" or not told["route"].startswith("/v1/"):
            return None
        at = datetime.datetime.fromisoformat(told["ts"]).timestamp()
        ms, first = float(told["timings_ms"]["total"]), told.get("first_text_ms")
        return Seen(at, told.get("tier") or "", int(told["status"]), ms, None if first is None else float(first))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def lately(seen: Iterable[Seen], now: float) -> dict[str, Any]:
    """Rates of the last NOW_S seconds; outcomes and percentiles, of each tier too, of the last LATELY_S."""
    recent = [one for one in seen if one.at >= now - LATELY_S]
    outcomes = Counter(one.outcome for one in recent)
    tiers = sorted({one.tier for one in recent if one.tier})
    return {
        "window_s": LATELY_S,
        "per_s": round(sum(one.at >= now - NOW_S for one in recent) / NOW_S, 3),
        **{name: outcomes[name] for name in ("answered", "refused", "failed", "wrong")},
        **_latencies(recent),
        "tiers": {tier: _latencies([one for one in recent if one.tier == tier]) for tier in tiers},
    }


def _latencies(seen: Sequence[Seen]) -> dict[str, Any]:
    answered = [one for one in seen if one.outcome == "answered"]
    whole, first = [one.ms for one in answered], [one.first_ms for one in answered if one.first_ms is not None]
    return {
        "answers": len(answered),
        **{f"p{q}_ms": percentile(whole, q) for q in (50, 95, 99)},
        **{f"first_p{q}_ms": percentile(first, q) for q in (50, 95)},
    }


def history(seen: Iterable[Seen], now: float) -> dict[str, Any]:
    """The last KEPT_S seconds in steps of STEP_S, oldest first, up to ``until`` (seconds since 1970), where the newest
    whole step ends: requests that ended in each, of them refused and failed, P50 and P95 of those answered (ms)."""
    last = int(now // STEP_S)
    steps: list[list[Seen]] = [[] for _ in range(KEPT_S // STEP_S)]
    for one in seen:
        place = int(one.at // STEP_S) - last + len(steps)
        if 0 <= place < len(steps):
            steps[place].append(one)
    answered = [[one.ms for one in step if one.outcome == "answered"] for step in steps]
    return {
        "step_s": STEP_S,
        "until": last * STEP_S,
        "requests": [len(step) for step in steps],
        **{name: [sum(one.outcome == name for one in step) for step in steps] for name in ("refused", "failed")},
        **{f"p{q}_ms": [percentile(step, q) for step in answered] for q in (50, 95)},
    }


def percentile(values: Sequence[float], q: float) -> float | None:
    """Nearest-rank percentile, to a tenth; None for no values."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))], 1) if ordered else None
