"""Who may come in: a request that would wait too long for its turn is refused at once and told when to come back.

It is asked before anything is done for a request, and how much room there is goes out with every reply, so that the
edge refuses what is beyond it (``cluster/haproxy_edge.py``): a gateway that is busy says no as late as it says
anything. What a request would wait is read off what came out lately (Little 1961: those inside, times the time between
two that leave, is how long one stays), less what one takes that meets nobody. Only the longest wait is configured.
While several keys ask, none of them takes more than half of the places, which the edge is told, too; and one with
hardly any inside comes in although the others are too many: its turn comes before theirs (``turns``).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

from cluster.haproxy_edge import ALWAYS, BEYOND, FEW
from serve_apps.errors import UnavailableError

UNKNOWN = 64  # so many may be inside as long as nobody knows how quickly they leave
ALONE_S = 60.0  # a key is alone where no other one has asked for so long
SHARE = 0.1  # of a new observation in the running mean
WAITED = 1.5  # whoever stays so much longer than the shortest has waited for others
FORGETS_A_SECOND = 0.001  # of the shortest stay: a crowd of an hour shall not pass for the usual


class Admission:
    """What one gateway knows of the queue behind it. For one event loop; not thread-safe.

    Args:
        longest_wait_s: a request that is expected to wait longer is refused.
        clock: seconds that do not go back.
    """

    def __init__(self, longest_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest, self._clock = longest_wait_s, clock
        self._inside = 0
        self._between = 0.0
        self._shortest = math.inf
        self._last = clock()  # when somebody left, or came into an empty house
        self._first = True  # nobody left since the house was empty
        self._of: Counter[str] = Counter()  # those inside, by key
        self._asked: dict[str, float] = {}  # when each key asked last

    @property
    def inside(self) -> int:
        """Requests whose turn has not come yet."""
        return self._inside

    @property
    def expected_wait_s(self) -> float:
        """What a request that came now would wait beyond what it takes by itself."""
        if math.isinf(self._shortest):
            return self._silent_s
        return max(0.0, (self._inside + 1) * self._pace_s - self._shortest)

    @property
    def room(self) -> int:
        """How many more may come now; less than 0 where too many are inside."""
        return self._most - self._inside

    @property
    def share(self) -> int:
        """How many a key may have inside; 0: as many as there are places, as nobody else asks."""
        return max(ALWAYS, self._most // 2) if self._several else 0

    @property
    def _several(self) -> bool:
        """Whether several keys asked lately."""
        now = self._clock()
        self._asked = {one: at for one, at in self._asked.items() if now - at < ALONE_S}
        return len(self._asked) > 1

    @property
    def _most(self) -> int:
        if math.isinf(self._shortest):
            most = UNKNOWN if self._silent_s <= self._longest else 0
        else:
            most = math.floor((self._longest + self._shortest) / pace) if (pace := self._pace_s) else UNKNOWN
        return max(ALWAYS, most if self._between else min(most, UNKNOWN))

    @property
    def _silent_s(self) -> float:
        return self._clock() - self._last if self._inside else 0.0

    @property
    def _pace_s(self) -> float:
        """Seconds between two that leave, as if the next left now: a silence longer than usual slows the pace, and a
        pause is not taken for the pace."""
        return max(self._between, self._between + SHARE * (self._silent_s - self._between))

    def ask(self, key: str = "") -> None:
        """Whether somebody may come in.

        Raises:
            UnavailableError: the wait would be too long, or this key has its share; with the seconds after which to try
                again.
        """
        now, most = self._clock(), self._most
        self._asked[key] = now
        if self._inside < most:
            if self._of[key] < max(ALWAYS, most // 2) or not self._several:
                return
        elif self._of[key] < FEW and self._inside < most + BEYOND:
            return  # it is not one of those that are too many
        wait = self.expected_wait_s
        why = f"this one would wait {wait:.1f} s, {self._longest:g} s at most" if wait else f"{self._inside} at once"
        raise UnavailableError(
            f"too many requests are waiting ({why})", retry_after_s=max(1, math.ceil(wait - self._longest))
        )

    def come(self, key: str = "") -> Place:
        """A place inside, until ``Place.leave``. Raises as ``ask``."""
        self.ask(key)
        now = self._clock()
        if self._inside == 0:
            self._last, self._first = now, True
        self._inside += 1
        self._of[key] += 1
        return Place(self, now, key)

    def _left(self, came: float, key: str, served: bool) -> None:
        now = self._clock()
        self._of[key] -= 1
        if not self._of[key]:
            del self._of[key]
        beside = self._inside  # those that were inside, itself included
        self._inside -= 1
        if not served:  # who gave up says nothing about those that are served
            return
        gap, stay = now - self._last, now - came
        self._shortest = min(stay, self._shortest * (1 + gap * FORGETS_A_SECOND))
        waited = stay > WAITED * self._shortest
        if not waited:  # few came: that says nothing of how many could, but that it were twice as many at least
            gap = min(self._between, stay / (2 * beside))
        if not self._first and (waited or self._between):  # the first met nobody: it takes as long as it takes
            # The first gap by itself says little; where one at a time is served, none is longer than the shortest stay.
            before = self._between or min(gap, self._shortest)
            self._between = before + SHARE * (gap - before)
        self._last, self._first = now, False


class Place:
    """One request's place inside."""

    def __init__(self, admission: Admission, came: float, key: str) -> None:
        self._admission, self._came, self._key, self._here = admission, came, key, True

    def leave(self, served: bool = True) -> None:
        """Make room: its turn came, or it ended without one (not ``served``). Later calls do nothing."""
        if self._here:
            self._here = False
            self._admission._left(self._came, self._key, served)
