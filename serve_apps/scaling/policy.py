"""How many replicas a deployment needs: what is in flight and how long it waits go in, a number comes out. Pure.

The need is the work in flight over what one replica shall have in flight, the largest over all that is counted
(requests, tokens, texts). More is started quickly, and as early as the rise of the need asks for, given how long a
replica takes to start. Fewer are kept only after the need was lower for a while, and for longer each time that this
was too soon. Work that waits although little is in flight asks for more as well, until more does not help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

MORE_ABOVE, FEWER_BELOW = 1.1, 0.8  # of what the replicas that there are shall carry; between them nothing changes
MUCH = 0.75  # of the replicas: to keep more than that the lower need has to last twice as long
COOL_S = 5.0  # from more replicas to still more
WAITS_S = 10.0  # from replicas that are there to still more because of waits: those of before are forgotten by then
HELPED = 0.7  # of the wait: if it is below that afterwards, the last replicas have helped
LONGEST_PATIENCE_S = 600.0  # with a need that falls only to come back
START_S = (1.0, 300.0)  # a start is taken to last at least and at most so long
RISE_S = (6.0, 60.0)  # how far back the rise is read off: half a start, within these bounds
ROUNDING = 1e-9
FEW = 3  # so many looks say nothing of a rise
SETTLED = 4  # times the patience without more replicas, and it may shrink again


@dataclass(frozen=True)
class Rules:
    """What a deployment may do.

    Attributes:
        least, most: replicas; with ``least`` 0 it sleeps after ``zero_after_s`` without any work.
        targets: name of what is counted -> how much of it one replica shall have in flight.
        wait_s: work that waits longer than this until it is begun asks for more replicas.
        up_after_s, down_after_s: how long a higher and a lower need have to last.
        start_s: how long a replica takes to start, as long as none was seen to.
    """

    least: int
    most: int
    targets: Mapping[str, float]
    wait_s: float = 0.5
    up_after_s: float = 1.0
    down_after_s: float = 30.0
    zero_after_s: float = 300.0
    start_s: float = 10.0

    def need(self, load: Mapping[str, float]) -> float:
        """Replicas, not rounded, that this much in flight keeps busy."""
        return max((load.get(name, 0.0) / target for name, target in self.targets.items()), default=0.0)


@dataclass(frozen=True)
class Look:
    """What is seen at one moment.

    Attributes:
        now: seconds of a clock that all looks share.
        running, target: replicas that answer, and those there shall be.
        load: amounts in flight by the names of the targets: all replicas', and what none of them has yet.
        wait_s: how long work waits until it is begun.
    """

    now: float
    running: int
    target: int
    load: Mapping[str, float]
    wait_s: float = 0.0


@dataclass(frozen=True)
class Memory:
    """What one look leaves for the next.

    Attributes:
        needs: (time, need) of the looks that still count, oldest first.
        above_since: since when more replicas are wanted. busy_at, waited_at: when there last was work, and a wait.
        up_at, down_at: the last events. ready_at: when the last replicas asked for were there.
        starting: (when asked for, replicas that there are once they are there) of those that are not there yet.
        start_s: how long starts take as seen, 0: none was.
        patience_s: how long a lower need has to last now, 0: as the rules say.
        futile_s: the wait that the last replicas were started against, until they helped.
    """

    needs: tuple[tuple[float, float], ...] = ()
    above_since: float | None = None
    busy_at: float | None = None
    waited_at: float = -math.inf
    up_at: float = -math.inf
    down_at: float = -math.inf
    ready_at: float = -math.inf
    starting: tuple[tuple[float, int], ...] = ()
    start_s: float = 0.0
    patience_s: float = 0.0
    futile_s: float = 0.0


@dataclass(frozen=True)
class Decision:
    """How many replicas there shall be from now on, why there shall be others than before, and what to remember."""

    replicas: int
    why: str
    memory: Memory = field(repr=False)


def decide(rules: Rules, memory: Memory, look: Look) -> Decision:
    """The decision that follows from one more look; the same arguments give the same one."""
    memory = _remembered(rules, memory, look)
    within = min(max(look.target, rules.least), rules.most)
    if within != look.target:
        return Decision(within, "bounds", memory)
    wanted, why = _more(rules, memory, look)
    if wanted > look.target:
        since = look.now if memory.above_since is None else memory.above_since
        due = look.now - since >= rules.up_after_s and look.now - memory.up_at >= COOL_S
        if not due and look.target:
            return Decision(look.target, "", replace(memory, above_since=since))
        return Decision(wanted, why, _after_more(rules, memory, look, wanted, why))
    memory = replace(memory, above_since=None)
    wanted = _fewer(rules, memory, look)
    if wanted < look.target:
        return Decision(wanted, "idle" if wanted == 0 else "less load", _after_fewer(rules, memory, look))
    return Decision(look.target, "", memory)


def _remembered(rules: Rules, memory: Memory, look: Look) -> Memory:
    """The memory with this look in it, less what is too old to count."""
    need = rules.need(look.load)
    kept = max(2 * _patience(rules, memory), RISE_S[1]) + COOL_S
    needs = tuple(one for one in memory.needs if look.now - one[0] <= kept)
    memory = replace(memory, needs=(*needs, (look.now, need)))
    if need > 0 or memory.busy_at is None:
        memory = replace(memory, busy_at=look.now)
    if look.wait_s <= rules.wait_s or look.wait_s < HELPED * memory.futile_s:
        memory = replace(memory, futile_s=0.0)
    if look.wait_s > rules.wait_s and not memory.futile_s:
        memory = replace(memory, waited_at=look.now)
    return _with_starts(memory, look)


def _with_starts(memory: Memory, look: Look) -> Memory:
    """The memory, knowing which of the replicas asked for are there now and how long they took."""
    asked = tuple(one for one in memory.starting if one[1] <= look.target)
    there = [at for at, replicas in asked if replicas <= look.running]
    starting, start_s = tuple(one for one in asked if one[1] > look.running), memory.start_s
    for at in there:
        took = min(max(look.now - at, START_S[0]), START_S[1])
        start_s = (start_s + took) / 2 if start_s else took
    if look.running < look.target and not starting:  # woken by Serve, or one died
        starting = ((look.now, look.target),)
    ready_at = look.now if there and not starting else memory.ready_at
    return replace(memory, starting=starting, start_s=start_s, ready_at=ready_at)


def _more(rules: Rules, memory: Memory, look: Look) -> tuple[int, str]:
    """How many replicas the load of now, its rise and its wait ask for, and which of them does."""
    need, start_s = memory.needs[-1][1], memory.start_s or rules.start_s
    expected = min(need + start_s * rise(memory.needs, look.now, start_s), 2 * need)
    wanted, why = look.target, ""
    if expected > MORE_ABOVE * look.target:
        wanted, why = math.ceil(expected - ROUNDING), "load" if need > MORE_ABOVE * look.target else "rise"
    settled = not memory.starting and look.now - max(memory.up_at, memory.ready_at) >= WAITS_S
    if memory.waited_at == look.now and settled:
        by_wait = math.ceil(look.target * min(2.0, look.wait_s / rules.wait_s))
        if by_wait > wanted:
            wanted, why = by_wait, "wait"
    return min(wanted, rules.most), why


def _fewer(rules: Rules, memory: Memory, look: Look) -> int:
    """How few replicas do, by the highest need of a while; as many as there are as long as that is not known."""
    patience = _patience(rules, memory)
    last = max(memory.needs[0][0], memory.up_at, memory.down_at, memory.ready_at, memory.waited_at)
    # Replicas that are still starting are waited for, but not for ever: there may be no room for them.
    if memory.starting and look.now - memory.starting[-1][0] < 2 * (memory.start_s or rules.start_s):
        return look.target
    idle_s = look.now - max(memory.ready_at, look.now if memory.busy_at is None else memory.busy_at)
    asleep = rules.least == 0 and look.target == 1 and idle_s >= rules.zero_after_s
    lowest = 0 if asleep else max(1, rules.least)
    for lasted, enough in ((patience, MUCH), (2 * patience, 1.0)):
        if look.now - last >= lasted:
            peak = max(need for at, need in memory.needs if look.now - at <= lasted)
            wanted = max(lowest, math.ceil(peak / FEWER_BELOW - ROUNDING))
            if wanted < look.target and wanted <= enough * look.target:
                return wanted
    return look.target


def _after_more(rules: Rules, memory: Memory, look: Look, wanted: int, why: str) -> Memory:
    """Fewer replicas that did not suffice for long are not tried again so soon."""
    patience = _patience(rules, memory)
    if look.now - memory.down_at < 2 * patience:
        patience = min(2 * patience, max(LONGEST_PATIENCE_S, rules.down_after_s))
    return replace(
        memory, above_since=None, up_at=look.now, starting=(*memory.starting, (look.now, wanted)),
        patience_s=patience, futile_s=look.wait_s if why == "wait" else 0.0,
    )  # fmt: skip


def _after_fewer(rules: Rules, memory: Memory, look: Look) -> Memory:
    patience = _patience(rules, memory)
    if look.now - memory.up_at > SETTLED * patience:
        patience = max(rules.down_after_s, patience / 2)
    return replace(memory, down_at=look.now, patience_s=patience)


def _patience(rules: Rules, memory: Memory) -> float:
    return memory.patience_s or rules.down_after_s


def rise(needs: Sequence[tuple[float, float]], now: float, start_s: float) -> float:
    """Replicas a second by which the need rises, never below 0.

    A step is no rise, and noise is none: it has to be there in both halves of the time that is looked at, each time
    beyond twice its standard error.
    """
    window = min(max(start_s / 2, RISE_S[0]), RISE_S[1])
    older = [one for one in needs if window / 2 < now - one[0] <= window]
    newer = [one for one in needs if now - one[0] <= window / 2]
    return max(0.0, min(_slope(older), _slope(newer)))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares, less two standard errors."""
    count = len(points)
    if count < FEW:
        return 0.0
    at, value = (sum(column) / count for column in zip(*points, strict=True))
    spread = sum((x - at) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    slope = sum((x - at) * (y - value) for x, y in points) / spread
    left = sum((y - value - slope * (x - at)) ** 2 for x, y in points)
    return slope - 2 * math.sqrt(max(0.0, left) / (count - 2) / spread)
