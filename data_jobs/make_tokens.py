"""Tokenises a dataset on the cluster: arranges ``tokens.write_shard`` as tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import ray

from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.corpus import tokens
from data_jobs.corpus.tokens import Encoder, Entries, Shard
from data_jobs.tasks import await_cpu, spread


def tokenise(store: Store, dataset: Manifest, encoder: Encoder, share: float, progress: Progress) -> Manifest:
    """As ``tokens.tokenise``, its shards written by tasks; ray must be connected."""
    return tokens.tokenise(store, dataset, encoder, share, progress, on_cluster)


def on_cluster(shards: list[Shard], encoder: Encoder, progress: Progress) -> Iterator[tuple[int, Entries]]:
    """Write shards as tasks, each with one CPU."""
    await_cpu(progress)
    shared = ray.put(encoder)
    yield from spread(_write_alone, [(shard, shared) for shard in shards], "making tokens")


def _write_alone(shard: Shard, encoder: Encoder) -> Entries:
    # A task has one core: the library's thread pool would take those of its neighbours.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return tokens.write_shard(shard, encoder)
