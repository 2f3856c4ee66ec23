"""How often an address was refused of late: enough to make who tries keys wait, in memory that is bounded. Pure.

A window begins with an address's first refusal and ends ``WINDOW_S`` later, whatever comes in it; each gateway counts
for itself. Of IPv6 a network of 64 bits is one address, since one client has so many.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

WINDOW_S = 60.0
MOST_ADDRESSES = 10_000  # the window that began first makes room
ELSEWHERE = "elsewhere"  # whoever did not come through our edge: all of them together


class Refusals:
    """Counts.

    Args:
        most: refusals of one address within a window; from then on it waits.
        clock: seconds; one that is set back ends the windows.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def note(self, address: str) -> None:
        """Count one refusal."""
        now = self._clock()
        began, count = self._windows.get(address, (now, 0))
        if not 0 <= now - began < WINDOW_S:
            del self._windows[address]  # a new window stands at the end
            began, count = now, 0
        self._windows[address] = began, count + 1
        if len(self._windows) > MOST_ADDRESSES:
            self._windows.popitem(last=False)

    def wait_s(self, address: str) -> int:
        """How long an address has to wait until it is refused as others are; 0: it need not."""
        began, count = self._windows.get(address, (0.0, 0))
        left = began + WINDOW_S - self._clock()
        return math.ceil(left) if count >= self._most and 0 < left <= WINDOW_S else 0


def network(text: str) -> str:
    """What counts as one address: an IPv4 address, a network of 64 bits; ``ELSEWHERE`` for what is no address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ELSEWHERE
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))
