"""Training data: documents and examples as token arrays, and which of them make up which step.

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

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]
HELD_OUT_TOKENS = 8_192  # of the held-out stream: enough for a loss to two digits, a fraction of a second to compute
HELD_OUT_EXAMPLES = 128


@dataclass(frozen=True)
class Batch:
    """One worker's share of a step: ``ids`` [B, T] padded to the right, ``where`` [n] flat positions (into B*T) whose
    next token counts, ``targets`` [n]. Of the whole step, all workers together: ``total`` positions that count and
    ``tokens`` read, padding not included."""

    ids: Ids
    where: Ids
    targets: Ids
    total: int
    tokens: int


@dataclass(frozen=True)
class Read:
    """A document and whether it is kept out of training."""

    document: Document
    held_out: bool


def check_documents(section: TrainSection, dataset: Manifest) -> None:
    """Refuse a corpus that is too small to train on."""
    kept = int(dataset.counts.get("kept", 0))
    if kept < section.min_documents:
        raise BadInputError(
            f"{dataset.name}@{dataset.version} has {kept} documents, too few to train on (train.min_documents="
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


def document_text(document: Document) -> str:
    """A document as the model reads it in pretraining: its name, its title where that adds to it, its text."""
    head = document.id if document.title in ("", document.id) else f"{document.id}\n{document.title}"
    return f"{head}\n{document.text}"


# -- pretraining: one stream of tokens, cut into windows ---------------------------------------------------------------
def token_streams(
    store: Store, dataset: Manifest, tokenizer: Tokenizer, section: TrainSection, bos: int, eos: int
) -> Arrays:
    """``train`` and ``held_out``: int32 streams ``<bos> document <eos> <bos> ...``; documents in a seeded order.

    Text that looks like a special token is encoded as text.

    Raises:
        BadInputError: the training side holds less than one window, or the held-out side nothing.
    """
    tokenizer.encode_special_tokens = True
    sides: dict[bool, list[str]] = {False: [], True: []}
    for read in read_documents(store, dataset, section.held_out):
        sides[read.held_out].append(document_text(read.document))
    streams = {}
    for name, texts in (("train", sides[False]), ("held_out", sides[True])):
        order = np.random.default_rng([section.seed, len(texts)]).permutation(len(texts))
        encoded = [e.ids for e in tokenizer.encode_batch([texts[i] for i in order], add_special_tokens=False)]
        streams[name] = np.fromiter((t for ids in encoded for t in (bos, *ids, eos)), dtype=np.int32)
    if len(streams["train"]) <= section.context_tokens or not len(streams["held_out"]):
        raise BadInputError(
            f"{dataset.name}@{dataset.version} is too small to train on: {len(streams['train'])} tokens to train on, "
            f"{len(streams['held_out'])} held out, and one window takes train.context_tokens={section.context_tokens}"
        )
    streams["held_out"] = streams["held_out"][:HELD_OUT_TOKENS]
    return streams


class Windows:
    """Batches of a token stream: windows of ``context`` tokens, each predicting the next token everywhere.

    Every epoch takes each window once in an order of its own, and cuts the stream at another offset.
    """

    def __init__(self, stream: npt.NDArray[np.int32], context: int, batch_tokens: int, seed: int) -> None:
        self.context = min(context, max(1, len(stream) - 1))
        self.stream, self.seed = stream, seed
        self.rows = max(1, batch_tokens // self.context)
        # One window less than fit, so that every offset leaves as many.
        self.windows = max(1, (len(stream) - 1) // self.context - 1)
        self.steps_per_epoch = max(1, self.windows // self.rows)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of ``rank`` in the step (0-based): rows rank, rank + world, ..."""
        epoch, within = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng([self.seed, epoch])
        slack = len(self.stream) - 1 - self.windows * self.context
        offset = int(rng.integers(0, max(1, min(self.context, slack + 1))))
        chosen = rng.permutation(self.windows)[within * self.rows : (within + 1) * self.rows]
        return self._batch(offset + chosen * self.context, rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[Batch]:
        """The whole stream once, for evaluation: a list of equal length on every rank."""
        starts = np.arange(max(1, (len(self.stream) - 1) // self.context)) * self.context
        return [self._batch(starts[i : i + self.rows], rank, world) for i in range(0, len(starts), self.rows)]

    def _batch(self, starts: Ids, rank: int, world: int) -> Batch:
        mine = starts[rank::world]
        taken = mine[:, None] + np.arange(self.context + 1)[None, :]
        both = self.stream[taken].astype(np.int64)
        ids, targets = both[:, :-1], both[:, 1:].reshape(-1)
        total = len(starts) * self.context
        return Batch(ids, np.arange(len(targets)), targets, total, tokens=total)


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


class Examples:
    """Batches of examples of similar length, padded; only completion tokens count.

    An epoch sorts the shuffled examples by length (ties keep the shuffle), cuts them into batches of at most
    ``batch_tokens`` padded tokens, and takes the batches in a seeded order.
    """

    def __init__(self, arrays: Arrays, batch_tokens: int, seed: int, pad: int) -> None:
        self.flat, self.lengths = arrays["ids"], arrays["lengths"].astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths.sum(axis=1))])
        self.batch_tokens, self.seed, self.pad = batch_tokens, seed, pad
        self._epoch: tuple[int, list[Ids]] = (-1, [])
        self.steps_per_epoch = len(self._batches(0))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of ``rank`` in the step (0-based): rows rank, rank + world, ..."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return self._batch(self._batches(epoch)[within], rank, world)

    def in_order(self, rank: int = 0, world: int = 1) -> list[Batch]:
        """Every example once, for evaluation: a list of equal length on every rank."""
        return [self._batch(rows, rank, world) for rows in self._batches(0)]

    def _batches(self, epoch: int) -> list[Ids]:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.lengths))
            order = order[np.argsort(self.lengths.sum(axis=1)[order], kind="stable")]
            batches = list(self._cut(order))
            # The number of steps of an epoch must not depend on the shuffle; lengths alone decide it.
            self._epoch = (epoch, [batches[i] for i in rng.permutation(len(batches))])
        return self._epoch[1]

    def _cut(self, order: Ids) -> Iterator[Ids]:
        sizes, start = self.lengths.sum(axis=1), 0
        for end in range(1, len(order) + 1):
            # Sorted upwards: the next one would be the longest row of the batch.
            if end == len(order) or sizes[order[end]] * (end - start + 1) > self.batch_tokens:
                yield order[start:end]
                start = end

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
