"""In which order training takes its samples: computed for each sample on its own, at any size, on any worker.

An epoch of a corpus is a pseudo-random permutation of its windows. It is never drawn: a Feistel network over a domain
just larger than the number of windows maps a place to a window, and what falls outside is mapped again (cycle walking).
Both are Black and Rogaway's ("Ciphers with Arbitrary Finite Domains", CT-RSA 2002, methods 2 and 3); four rounds and
more with pseudo-random functions give a pseudo-random permutation (Luby and Rackoff 1988). The round function is the
finaliser of splitmix64 (Steele, Lea and Flood 2014).

Several corpora are mixed by weights: an integer sequence, not a coin, says which corpus a sample is of, so that the
shares hold in every stretch of a run and the place in each corpus is known for any sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
ROUNDS = 8
# Weights are rounded to this many parts; a sample's number times it stays below 2^63 up to 10^12 samples.
PARTS = 1_000_000


class Permutation:
    """A pseudo-random permutation of ``range(size)``, chosen by ``key``; computed for the indices asked for."""

    def __init__(self, size: int, key: Sequence[int]) -> None:
        if size < 1:
            raise ValueError(f"there is no permutation of {size} things")
        self.size = size
        left = math.isqrt(size - 1) + 1
        self._left, self._right = np.uint64(left), np.uint64(-(-size // left))
        keys = np.random.SeedSequence([*key, size]).generate_state(2 * ROUNDS, np.uint64)
        self._rounds = tuple(zip(keys[::2], keys[1::2], strict=True))

    def __call__(self, indices: Ids) -> Ids:
        """Where ``indices`` [n], each in ``range(size)``, go."""
        found = self._once(indices.astype(np.uint64))
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            found[outside] = self._once(found[outside])
            outside = outside[found[outside] >= self.size]
        return found.astype(np.int64)

    def _once(self, at: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """One pass through the network: a permutation of ``range(left * right)``."""
        right, left = np.divmod(at, self._left)
        for one, other in self._rounds:
            left = (left + mixed(right + one) % self._left) % self._left
            right = (right + mixed(left + other) % self._right) % self._right
        return right * self._left + left


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of the results depends on every bit of ``values``."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class Share:
    """What a corpus brings to a run: how many windows an epoch has, its weight, and most epochs (0: no limit)."""

    windows: int
    weight: float = 1.0
    epochs: int = 0


@dataclass(frozen=True)
class Phase:
    """A stretch of a run in which the same corpora are mixed.

    Attributes:
        start: number of its first sample.
        parts: of each corpus, out of ``sum(parts)``; 0 for one that is used up.
        taken: samples of each corpus before it.
    """

    start: int
    parts: tuple[int, ...]
    taken: tuple[int, ...]

    def counts(self, corpus: int, numbers: Ids) -> Ids:
        """How many of the samples before ``numbers`` (counted from the run's start) are of a corpus."""
        left, whole = numbers - self.start, sum(self.parts)
        for part in self.parts[:corpus]:  # each corpus takes its share of what those before it leave
            left = left - left * part // max(1, whole)
            whole -= part
        return self.taken[corpus] + left * self.parts[corpus] // max(1, whole)


@dataclass(frozen=True)
class Places:
    """Where samples are: [n] each."""

    corpus: Ids
    epoch: Ids
    window: Ids


class Order:
    """Which window of which corpus is each sample of a run.

    Attributes:
        samples: how many there are until every corpus has reached its limit; 0 where one has none.
        epoch: samples until every corpus was read once.
    """

    def __init__(self, shares: Sequence[Share], seed: int) -> None:
        self.shares, self.seed = tuple(shares), seed
        self._phases, self.samples = _phases(self.shares)
        self.epoch = self._first_epoch()
        self._permutation = lru_cache(maxsize=4 * len(self.shares))(self._drawn)

    def __call__(self, numbers: Ids) -> Places:
        """The places of samples ``numbers`` [n], counted from the run's start."""
        corpus, nth = self._mixed(numbers)
        windows = np.array([share.windows for share in self.shares], dtype=np.int64)[corpus]
        epoch, within = np.divmod(nth, windows)
        window = np.empty_like(within)
        for one, turn in sorted(set(zip(corpus.tolist(), epoch.tolist(), strict=True))):
            these = np.flatnonzero((corpus == one) & (epoch == turn))
            window[these] = self._permutation(one, turn)(within[these])
        return Places(corpus, epoch, window)

    def taken(self, samples: int) -> list[int]:
        """How many of the first ``samples`` are of each corpus."""
        phase = self._phases[max(0, sum(phase.start <= samples for phase in self._phases) - 1)]
        at = np.array([samples], dtype=np.int64)
        return [int(phase.counts(corpus, at)[0]) for corpus in range(len(self.shares))]

    def _mixed(self, numbers: Ids) -> tuple[Ids, Ids]:
        """(corpus, number of the sample among those of its corpus), [n] each."""
        corpus, nth = np.zeros_like(numbers), numbers.copy()
        if len(self.shares) == 1:
            return corpus, nth
        starts = np.array([phase.start for phase in self._phases])
        inside = np.searchsorted(starts, numbers, side="right") - 1
        for number, phase in enumerate(self._phases):
            these = np.flatnonzero(inside == number)
            for one in range(len(self.shares)):
                before, after = phase.counts(one, numbers[these]), phase.counts(one, numbers[these] + 1)
                mine = these[after > before]
                corpus[mine], nth[mine] = one, before[after > before]
        return corpus, nth

    def _drawn(self, corpus: int, epoch: int) -> Permutation:
        return Permutation(self.shares[corpus].windows, (self.seed, corpus, epoch))

    def _first_epoch(self) -> int:
        """The smallest number of samples in which each corpus is read once (or up to its limit)."""
        low, high = 1, 1
        while not self._read_once(high):
            high *= 2
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._read_once(middle) else (middle + 1, high)
        return low

    def _read_once(self, samples: int) -> bool:
        return all(n >= share.windows for n, share in zip(self.taken(samples), self.shares, strict=True))


def _phases(shares: Sequence[Share]) -> tuple[list[Phase], int]:
    """The stretches of a run, and how many samples it has (0: no end). One ends where a corpus reaches its limit."""
    parts = as_parts([share.weight for share in shares])
    limits = [share.windows * share.epochs for share in shares]
    phases = [Phase(0, parts, (0,) * len(shares))]
    while any(phases[-1].parts):
        last = phases[-1]
        ends = [_reached(last, n, limit) for n, limit in enumerate(limits) if limit and last.parts[n]]
        if not ends:
            return phases, 0
        end = np.array([min(ends)], dtype=np.int64)
        taken = tuple(int(last.counts(n, end)[0]) for n in range(len(shares)))
        left = tuple(
            0 if limit and n >= limit else part for part, n, limit in zip(last.parts, taken, limits, strict=True)
        )
        phases.append(Phase(int(end[0]), left, taken))
    return phases[:-1], phases[-1].start


def _reached(phase: Phase, corpus: int, limit: int) -> int:
    """The number of samples after which a corpus has given ``limit``."""
    low, high = phase.start, phase.start + 1
    while phase.counts(corpus, np.array([high]))[0] < limit:
        high = phase.start + 2 * (high - phase.start)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if phase.counts(corpus, np.array([middle]))[0] >= limit else (middle + 1, high)
    return low


def as_parts(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole parts of ``PARTS``, none of them 0.

    Raises:
        ValueError: a weight is not a positive number.
    """
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights must be positive numbers, not {list(weights)}")
    whole = sum(weights)
    return tuple(max(1, round(weight / whole * PARTS)) for weight in weights)
