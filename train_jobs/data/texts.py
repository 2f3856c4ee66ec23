"""Many short texts as token arrays, and epochs over rows that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from train_jobs.data.batches import Arrays, Ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Texts:
    """Texts by number, as token ids.

    Args:
        ids: all texts' tokens, one after the other.
        starts: where each begins; one more for the end.
    """

    def __init__(self, ids: npt.NDArray[Any], starts: npt.NDArray[Any]) -> None:
        self.ids, self.starts = ids, starts.astype(np.int64)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self, chosen: Ids) -> Ids:
        """How many tokens each of the chosen texts has."""
        return self.starts[chosen + 1] - self.starts[chosen]

    def padded(self, chosen: Ids, pad: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Ids [n, T], padded to the right, and which of them are real; at least one row and one column."""
        lengths = self.lengths(chosen)
        width = int(lengths.max()) if len(chosen) else 1
        mask = np.arange(width)[None, :] < lengths[:, None]
        ids = np.full((len(chosen), width), pad, dtype=np.int64)
        if len(chosen):
            ids[mask] = np.concatenate([self.ids[self.starts[i] : self.starts[i + 1]] for i in chosen])
            return ids, mask
        return np.full((1, 1), pad, dtype=np.int64), np.ones((1, 1), dtype=np.bool_)


def encoded(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> tuple[Arrays, int]:
    """Arrays ``ids`` and ``starts`` of ``Texts``, special tokens included, each text cut at ``longest`` tokens; and how
    many were cut."""
    tokenizer.enable_truncation(longest)
    rows = tokenizer.encode_batch(list(texts))
    tokenizer.no_truncation()
    cut = sum(bool(row.overflowing) for row in rows)
    return flat([row.ids for row in rows]), cut


def flat(rows: Sequence[Sequence[int]]) -> Arrays:
    """Lists of numbers as one array ``ids`` and where each begins, ``starts``."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(lengths.sum()))
    return {"ids": ids, "starts": np.concatenate([[0], np.cumsum(lengths)])}


def part(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with ``prefix.``, without it."""
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


class Epochs:
    """Which rows make up which step: every epoch takes each row once, in an order of its own; the last step of an epoch
    may be smaller.

    Args:
        rows: how many there are.
        size: rows of a step, all workers together.
        seed: of the order.
    """

    def __init__(self, rows: int, size: int, seed: int) -> None:
        self.rows, self.size, self.seed = rows, max(1, min(size, rows)), seed
        self.steps_per_epoch = -(-rows // self.size)

    def chosen(self, step: int) -> Ids:
        """The rows of a step (0-based)."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return order[within * self.size : (within + 1) * self.size]
