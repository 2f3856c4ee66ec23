"""Rows to pretrain on: windows of token streams, the documents in each told apart.

A stream is documents one behind the other, each ending with the end token; a window takes whole documents and what it
cuts of the first and the last. With ``end`` given, a row's documents are numbered (``Batch.segments``): none sees
another and each begins at position 0, so that what a document is learnt from does not depend on its neighbours. Nothing
is padded and no token is left out. Every position predicts the next one; after an end token that is a begin token,
which is learnt in no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from train_jobs.data.batches import Batch
from train_jobs.data.order import Ids, Order, Permutation, Places, Share
from train_jobs.data.shards import ArrayStream, ShardStream, Stream


@dataclass(frozen=True)
class Corpus:
    """A stream to be trained on, how much of it in a mixture and for how many epochs at most (0: no limit)."""

    stream: Stream
    weight: float = 1.0
    epochs: int = 0


class Windows:
    """Batches of token streams: rows of ``context`` tokens, each predicting the next token everywhere.

    Every epoch of a corpus takes each of its windows once, in an order of its own, and cuts the stream at another
    offset. A step is the next ``rows`` samples, whatever epochs they are of; the last step of a run whose corpora all
    have a limit may have fewer.

    Attributes:
        steps_per_epoch: steps until every corpus was read once.
        last_step: how many steps there are at all; 0 where a corpus has no limit.
    """

    def __init__(
        self, data: npt.NDArray[Any] | Sequence[Corpus], context: int, batch_tokens: int, seed: int,
        end: int | None = None,
    ) -> None:  # fmt: skip
        corpora = [Corpus(ArrayStream(data))] if isinstance(data, np.ndarray) else list(data)
        self.streams = [corpus.stream for corpus in corpora]
        self.context = min(context, *(max(1, len(stream) - 1) for stream in self.streams))
        self.rows = max(1, batch_tokens // self.context)
        self.seed, self.end = seed, end
        shares = [Share(windows_of(len(c.stream), self.context), c.weight, c.epochs) for c in corpora]
        self.order = Order(shares, seed)
        self.steps_per_epoch = -(-self.order.epoch // self.rows)
        self.last_step = -(-self.order.samples // self.rows)
        self.tokens_per_step = self.rows * self.context

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of ``rank`` in the step (0-based): rows rank, rank + world, ..."""
        numbers = self.samples(step)
        mine = numbers[rank::world]
        return self._batch(self._read(self.order(mine)), len(numbers))

    def samples(self, step: int) -> Ids:
        """The numbers of a step's samples."""
        last = (step + 1) * self.rows
        return np.arange(step * self.rows, min(last, self.order.samples) if self.order.samples else last)

    def in_order(self, rank: int = 0, world: int = 1) -> list[Batch]:
        """All streams once, for evaluation: a list of equal length on every rank."""
        found = []
        for stream in self.streams:
            starts = np.arange(max(1, (len(stream) - 1) // self.context)) * self.context
            for at in range(0, len(starts), self.rows):
                step = starts[at : at + self.rows]
                found.append(self._batch(stream.rows(step[rank::world], self.context + 1), len(step)))
        return found

    def _read(self, places: Places) -> Ids:
        """The windows at ``places``: [n, context + 1]."""
        found = np.empty((len(places.window), self.context + 1), dtype=np.int64)
        for corpus, epoch in sorted(set(zip(places.corpus.tolist(), places.epoch.tolist(), strict=True))):
            these = np.flatnonzero((places.corpus == corpus) & (places.epoch == epoch))
            stream = self.streams[corpus]
            offset = offset_of(len(stream), self.context, (self.seed, corpus, epoch))
            found[these] = stream.rows(offset + places.window[these] * self.context, self.context + 1)
        return found

    def _batch(self, both: Ids, rows_of_step: int) -> Batch:
        total = rows_of_step * self.context
        if not len(both):  # more workers than rows: a row that does not count
            nothing = np.zeros(0, dtype=np.int64)
            return Batch(np.zeros((1, self.context), dtype=np.int64), nothing, nothing, total, total)
        ids, targets = both[:, :-1], both[:, 1:].reshape(-1)
        return Batch(ids, np.arange(len(targets)), targets, total, total, segments_of(ids, self.end))


def windows_of(tokens: int, context: int) -> int:
    """How many windows an epoch of a stream has: one less than fit, so that every offset leaves as many."""
    return max(1, (tokens - 1) // context - 1)


def offset_of(tokens: int, context: int, key: Sequence[int]) -> int:
    """Where the first window of an epoch begins."""
    slack = tokens - 1 - windows_of(tokens, context) * context
    return int(np.random.SeedSequence([*key, 1]).generate_state(1, np.uint64)[0] % max(1, min(context, slack + 1)))


def segments_of(ids: Ids, end: int | None) -> Ids | None:
    """The number of the document that each token of ``ids`` [B, T] is of, in its row: [B, T]. None where no row has
    more than one document, or documents are not told apart."""
    if end is None:
        return None
    after = np.zeros_like(ids)
    np.cumsum(ids[:, :-1] == end, axis=1, out=after[:, 1:])
    return after if after[:, -1].any() else None


def sampled(stream: ShardStream, tokens: int, seed: int) -> Ids:
    """At most ``tokens`` tokens of documents from all over a stream, the same ones every time."""
    order, parts, found = Permutation(stream.documents, (seed,)), [], 0
    for number in range(stream.documents):
        parts.append(stream.document(int(order(np.array([number]))[0])))
        found += len(parts[-1])
        if found >= tokens:
            break
    return np.concatenate(parts)[:tokens]
