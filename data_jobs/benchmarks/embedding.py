"""Embedding: the index's pool of actors against as many independent processes of the same model, on the same cores.

Both run the same class (``build_index.EmbedWorker``: cut into chunks, embed chunks and sentences, write the block) with
one thread each on the same blocks, models loaded and warmed before the clock starts. The pool hands blocks to whichever
actor is free; the processes have fixed shares and never hear of Ray. What Ray costs is in the ratio.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cluster.core.config import available_cpus
from cluster.core.errors import BadInputError, UsageError
from cluster.core.progress import Progress
from cluster.core.records import Document
from cluster.core.sections.data import IndexSection
from data_jobs.benchmarks.corpus import endless_documents
from data_jobs.benchmarks.preparation import in_a_process, quiet_and_pinned

GROUP_DOCUMENTS = 8
WARM_UP = 4  # documents embedded before the clock starts
START_S = 600.0  # longest wait for the models to load

Pairs = list[tuple[Document, str]]


@dataclass(frozen=True)
class Job:
    """One measurement: embedding ``groups`` (documents with what encloses them) with ``workers`` processes."""

    section: IndexSection
    groups: tuple[Pairs, ...]
    workers: int


def measure(
    section: IndexSection, source: Path, workers: Sequence[int], documents: int, rounds: int, progress: Progress
) -> dict[str, Any]:
    """Chunks per second of both at every number of workers, ``documents`` a worker; the median of ``rounds``.

    Raises:
        UsageError: more workers than cores, or nothing to do.
        BadInputError: ``source`` holds too little text.
    """
    from data_jobs.retrieval.model_files import find_model

    most = available_cpus()
    if not workers or min(workers) < 1 or max(workers) > most:
        raise UsageError(f"--workers must be from 1 to {most}, the cores of this machine")
    if documents < GROUP_DOCUMENTS or rounds < 1:
        raise UsageError(f"--documents must be {GROUP_DOCUMENTS} or more, --rounds 1 or more")
    progress.stage("build documents")
    made: Pairs = [
        (Document(name, name, text, name), "")
        for name, text in islice(endless_documents(source), documents * max(workers))
    ]
    if not made:
        raise BadInputError(f"{source} holds no text")
    levels = []
    for count in workers:
        part = made[: documents * count]
        groups = tuple(part[at : at + GROUP_DOCUMENTS] for at in range(0, len(part), GROUP_DOCUMENTS))
        job = Job(section, groups, count)
        rates: dict[str, list[float]] = {"pool": [], "processes": []}
        for number in range(rounds):
            for name, side in (("pool", _pool), ("processes", _processes)):
                progress.stage(f"{name}, {count} workers, round {number + 1} of {rounds}")
                found = in_a_process(side, job)
                rates[name].append(found["chunks"] / found["seconds"])
        pool, processes = statistics.median(rates["pool"]), statistics.median(rates["processes"])
        levels.append({
            "workers": count, "documents": len(part), "groups": len(groups), "chunks": found["chunks"],
            "pool_chunks_per_s": round(pool, 2), "processes_chunks_per_s": round(processes, 2),
            "ratio": round(pool / processes, 3),
            "all": {name: [round(rate, 2) for rate in found_rates] for name, found_rates in rates.items()},
        })  # fmt: skip
    return {"embedder": find_model(section).identity["name"], "levels": levels}


def _pool(job: Job) -> dict[str, Any]:
    """The blocks through actors, as ``build_index`` runs them."""
    from cluster.connect import private

    with quiet_and_pinned(job.workers) as scratch, private(job.workers, str(scratch / "ray")):
        import ray

        from data_jobs.build_index import EmbedWorker, spread_over_pool
        from data_jobs.tasks import worker_cpus

        environment = {"env_vars": {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}}
        actor: Any = ray.remote(EmbedWorker).options(num_cpus=worker_cpus(), runtime_env=environment)
        store = str(scratch / "store")
        pool = [actor.remote(job.section, store) for _ in range(job.workers)]
        for number, worker in enumerate(pool):
            ray.get(worker.cut.remote(job.groups[0][:WARM_UP], f"{store}/warm"))
            ray.get(worker.embed.remote(f"{store}/warm", 0, f"{store}/warm-{number}"))
        began = time.perf_counter()
        groups = [ray.put(group) for group in job.groups]
        sizes = spread_over_pool(pool, range(len(groups)), lambda w, i: w.cut.remote(groups[i], f"{store}/{i}"))
        blocks = [(i, number) for i, counts in sizes for number in range(len(counts))]
        embedded = spread_over_pool(
            pool, blocks, lambda w, b: w.embed.remote(f"{store}/{b[0]}", b[1], f"{store}/{b[0]}-{b[1]}")
        )
        chunks = sum(count for _, count in embedded)
        return {"chunks": chunks, "seconds": time.perf_counter() - began}


def _processes(job: Job) -> dict[str, Any]:
    """The blocks in fixed shares through processes that start together once every model is loaded."""
    with quiet_and_pinned(job.workers) as scratch:
        context = multiprocessing.get_context("spawn")
        with context.Manager() as shared:
            barrier = shared.Barrier(job.workers)
            with ProcessPoolExecutor(job.workers, mp_context=context) as pool:
                shares = [job.groups[n :: job.workers] for n in range(job.workers)]
                running = [
                    pool.submit(_alone, job.section, share, str(scratch / f"store{n}"), barrier)
                    for n, share in enumerate(shares)
                ]
                found = [one.result() for one in running]
    seconds = max(end for _, _, end in found) - min(begin for _, begin, _ in found)
    return {"chunks": sum(count for count, _, _ in found), "seconds": seconds}


def _alone(section: IndexSection, groups: Sequence[Pairs], store: str, barrier: Any) -> tuple[int, float, float]:
    """(chunks, begin, end) of one process's share; times are of the machine's monotonic clock."""
    from data_jobs.build_index import EmbedWorker

    worker = EmbedWorker(section, store)
    worker.cut(groups[0][:WARM_UP], f"{store}/warm")
    worker.embed(f"{store}/warm", 0, f"{store}/warm-0")
    barrier.wait(START_S)
    began, chunks = time.monotonic(), 0
    for group, documents in enumerate(groups):
        for number in range(len(worker.cut(documents, f"{store}/{group}"))):
            chunks += worker.embed(f"{store}/{group}", number, f"{store}/{group}-{number}")
    return chunks, began, time.monotonic()
