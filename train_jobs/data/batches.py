"""Training data: a dataset's documents, and batches of examples for fine-tuning (``packing.py`` has pretraining's).

Everything is a pure function of the data, a seed and a step number. So a run that resumes at step n sees exactly what
it would have seen, and any number of workers cuts the same global batches into shares.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import BadInputError
from cluster.core.records import Document, Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from data_jobs.corpus.splits import is_held_out
from data_jobs.governance.policies import check_open

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """One worker's share of a step: ``ids`` [B, T] padded to the right, ``where`` [n] flat positions (into B*T) whose
    next token counts, ``targets`` [n]. Of the whole step, all workers together: ``total`` positions that count and
    ``tokens`` read, padding not included. ``segments`` [B, T] numbers the documents packed in each row, None where
    every row is one document."""

    ids: Ids
    where: Ids
    targets: Ids
    total: int
    tokens: int
    segments: Ids | None = None


@dataclass(frozen=True)
class Read:
    """A document and whether it is kept out of training."""

    document: Document
    held_out: bool


def check_documents(section: TrainSection, *datasets: Manifest, labelled: bool = False) -> None:
    """Refuse a corpus, or several together, that is too small to train on, or, unless ``labelled`` documents may be
    trained on, that not everybody may read."""
    if not labelled:
        check_open(*datasets)
    kept = sum(int(dataset.counts.get("kept", 0)) for dataset in datasets)
    if kept < section.min_documents:
        names = ", ".join(f"{dataset.name}@{dataset.version}" for dataset in datasets)
        raise BadInputError(
            f"{names} has {kept} documents, too few to train on (train.min_documents="
            f"{section.min_documents}); the quote tier answers without a model",
            documents=kept, needed=section.min_documents,
        )  # fmt: skip


def read_documents(store: Store, dataset: Manifest, share: float) -> Iterator[Read]:
    """All documents of a verified dataset in file order, each with its side of the split; none that was forgotten."""
    from data_jobs.corpus.parquet import read_table
    from data_jobs.governance.tombstones import read_tombstones

    store.verify(dataset)
    forgotten = read_tombstones(store)
    folder = store.artefact(dataset)
    for entry in dataset.files:
        if entry.path.startswith("documents-"):
            for row in read_table(store.read(posixpath.join(folder, entry.path))).to_pylist():
                document = Document.from_dict(row)
                if not forgotten.covers(document.id, document.source_name, document.source):
                    yield Read(document, is_held_out(document.id, share))


# -- fine-tuning: examples of a prompt and a completion ----------------------------------------------------------------
def read_examples(store: Store, examples: Manifest) -> dict[str, list[dict[str, Any]]]:
    """The rows of ``train.jsonl`` and ``held_out.jsonl`` of a verified examples artefact."""
    store.verify(examples)
    rows = {}
    for side in ("train", "held_out"):
        path = posixpath.join(store.artefact(examples), f"{side}.jsonl")
        rows[side] = [json.loads(line) for line in store.read(path).decode().splitlines() if line.strip()]
    return rows


def encode_examples(rows: Sequence[dict[str, Any]], tokenizer: Tokenizer, context: int) -> tuple[Arrays, int]:
    """Rows with ``prompt`` and ``completion`` as one flat array; returns it and how many were too long and left out.

    Special tokens in prompt and completion are the format's own, so here they are encoded as such.
    """
    tokenizer.encode_special_tokens = False
    prompts = tokenizer.encode_batch([row["prompt"] for row in rows], add_special_tokens=False)
    completions = tokenizer.encode_batch([row["completion"] for row in rows], add_special_tokens=False)
    kept = [(p.ids, c.ids) for p, c in zip(prompts, completions, strict=True) if 0 < len(p.ids) + len(c.ids) <= context]
    kept = [(p, c) for p, c in kept if p and c]
    flat = np.fromiter((t for p, c in kept for t in (*p, *c)), dtype=np.int32)
    lengths = np.array([(len(p), len(c)) for p, c in kept], dtype=np.int32).reshape(-1, 2)
    return {"ids": flat, "lengths": lengths}, len(rows) - len(kept)


class ByLength:
    """Which rows of ``sizes`` tokens each a step takes: an epoch sorts the shuffled rows by length (ties keep the
    shuffle), cuts them into batches of at most ``batch_tokens`` padded tokens, and takes the batches in a seeded
    order."""

    def __init__(self, sizes: npt.NDArray[np.int64], batch_tokens: int, seed: int) -> None:
        self.sizes, self.batch_tokens, self.seed = sizes, batch_tokens, seed
        self.rows = len(sizes)
        self._epoch: tuple[int, list[Ids]] = (-1, [])
        self.steps_per_epoch = len(self.epoch(0))

    def chosen(self, step: int) -> Ids:
        """The rows of a step (0-based)."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[within]

    def epoch(self, epoch: int) -> list[Ids]:
        """The rows of each step of an epoch; each row once."""
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(self.rows)
            order = order[np.argsort(self.sizes[order], kind="stable")]
            batches = list(self._cut(order))
            # The number of steps of an epoch must not depend on the shuffle; lengths alone decide it.
            self._epoch = (epoch, [batches[i] for i in rng.permutation(len(batches))])
        return self._epoch[1]

    def _cut(self, order: Ids) -> Iterator[Ids]:
        start = 0
        for end in range(1, len(order) + 1):
            # Sorted upwards: the next one would be the longest row of the batch.
            if end == len(order) or self.sizes[order[end]] * (end - start + 1) > self.batch_tokens:
                yield order[start:end]
                start = end


class Examples:
    """Batches of examples of similar length (``ByLength``), padded; only completion tokens count."""

    def __init__(self, arrays: Arrays, batch_tokens: int, seed: int, pad: int) -> None:
        self.flat, self.lengths = arrays["ids"], arrays["lengths"].astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths.sum(axis=1))])
        self.order, self.pad = ByLength(self.lengths.sum(axis=1), batch_tokens, seed), pad
        self.steps_per_epoch = self.order.steps_per_epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of ``rank`` in the step (0-based): rows rank, rank + world, ..."""
        return self._batch(self.order.chosen(step), rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[Batch]:
        """Every example once, for evaluation: a list of equal length on every rank."""
        return [self._batch(rows, rank, world) for rows in self.order.epoch(0)]

    def _batch(self, rows: Ids, rank: int, world: int) -> Batch:
        total = int(self.lengths[rows, 1].sum())
        mine = rows[rank::world]
        sizes = self.lengths[mine].sum(axis=1)
        width = int(sizes.max()) if len(mine) else 2
        ids = np.full((max(1, len(mine)), width), self.pad, dtype=np.int64)
        where, targets = [], []
        for line, row in enumerate(mine):
            tokens = self.flat[self.starts[row] : self.starts[row + 1]].astype(np.int64)
            ids[line, : len(tokens)] = tokens
            first = int(self.lengths[row, 0])
            where.append(line * width + np.arange(first - 1, len(tokens) - 1))
            targets.append(tokens[first:])
        empty = np.zeros(0, dtype=np.int64)
        read = int(self.lengths[rows].sum())
        return Batch(ids, np.concatenate([*where, empty]), np.concatenate([*targets, empty]), total, read)
