"""A deployment in simulated time, with the real policy deciding: clients, a queue, replicas that take a while to start.

Each replica works on ``AT_ONCE`` requests at a time, which take ``SERVICE_S`` seconds on average.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from serve_apps.scaling.policy import Look, Memory, Rules, decide

TICK_S, LOOK_S = 0.25, 1.0
AT_ONCE, SERVICE_S = 4, 0.5
RULES = Rules(least=1, most=10, targets={"requests": AT_ONCE})
Clients = Callable[[float], float]


@dataclass
class Run:
    """What happened.

    Attributes:
        events: (second, replicas before, after, why).
        running: (second, replicas that run), every second.
        latencies: (second it ended, how long it took), of every request.
    """

    events: list[tuple[float, int, int, str]] = field(default_factory=list)
    running: list[tuple[float, int]] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    def most(self, begin: float, end: float) -> int:
        """The most replicas that ran at once within these seconds."""
        return max(count for at, count in self.running if begin <= at < end)

    def p95(self, begin: float, end: float) -> float:
        """The 95th percentile of the seconds that requests took which ended within these seconds."""
        took = sorted(seconds for at, seconds in self.latencies if begin <= at < end)
        return took[int(0.95 * len(took))]

    @property
    def turns(self) -> int:
        """How often more replicas came after fewer, or fewer after more."""
        ways = [after > before for _, before, after, _ in self.events]
        return sum(way != earlier for way, earlier in zip(ways[1:], ways, strict=False))


def run(clients: Clients, seconds: float, start_s: float = 5.0, rules: Rules = RULES, seed: int = 0) -> Run:
    """``clients(second)`` clients, each of which sends its next request when the one before is answered."""
    chance, seen = random.Random(seed), Run()
    target = running = max(1, rules.least)
    starting: list[float] = []
    queue: deque[float] = deque()  # when each came
    working: list[tuple[float, float]] = []  # (when it is done, when it came), the first to be done first
    waits: deque[tuple[float, float]] = deque()
    memory = Memory()
    for tick in range(int(seconds / TICK_S)):
        now = tick * TICK_S
        while starting and starting[0] <= now:
            starting.pop(0)
            running += 1
        while working and working[0][0] <= now:
            done, came = heapq.heappop(working)
            seen.latencies.append((done, done - came))
        queue.extend([now] * max(0, round(clients(now)) - len(queue) - len(working)))
        while queue and len(working) < running * AT_ONCE:
            came = queue.popleft()
            heapq.heappush(working, (now + chance.expovariate(1 / SERVICE_S), came))
            waits.append((now, now - came))
        if tick % round(LOOK_S / TICK_S):
            continue
        while waits and now - waits[0][0] > 5:
            waits.popleft()
        waited = [wait for _, wait in waits] + [now - came for came in queue]
        wait_s = sum(waited) / len(waited) if waited else 0.0
        look = Look(now, running, target, {"requests": len(queue) + len(working)}, wait_s)
        decision = decide(rules, memory, look)
        memory = decision.memory
        seen.running.append((now, running))
        if decision.replicas == target:
            continue
        seen.events.append((now, target, decision.replicas, decision.why))
        starting += [now + start_s] * (decision.replicas - target)
        gone = max(0, target - decision.replicas)
        called_off = min(gone, len(starting))
        starting = starting[: len(starting) - called_off]
        running -= gone - called_off
        target = decision.replicas
    return seen
