"""Building an index on the cluster: dataset -> chunks -> embeddings on a pool of actors -> snapshot -> artefact.

Work is cut into blocks of documents whose number depends on the dataset only, so the result does not depend on the
number of workers. Each finished block is a file in the staging folder; a killed build finds them again. This module
only arranges: ``index_blocks.py`` does the work.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.progress import Progress
from cluster.core.records import Chunk, Document, Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.data import EMBEDDING, IndexSection
from cluster.core.storage import Store
from cluster.ray_errors import plain
from data_jobs.corpus.dataset import read_documents
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.indexing.index_blocks import IndexBlock, cut, embed, with_enclosing
from data_jobs.indexing.update_index import known_vectors
from data_jobs.retrieval.model_files import ModelFiles, find_model
from data_jobs.retrieval.segments import FORMAT, KnownVectors, Unit
from data_jobs.retrieval.snapshot import write_snapshot
from data_jobs.tasks import worker_cpus

BLOCK_DOCUMENTS = 96
KEY = RunKey(
    "index", (__name__,),
    inside=("index.chunk_tokens",),
    outside=(*sections_but("index"), *EMBEDDING, "index.name"),
)  # fmt: skip


def build(config: PlinthConfig, store: Store, dataset: Manifest, progress: Progress) -> Manifest:
    """Build and publish the index of a dataset; ray must be connected. Does not move the ``live`` alias.

    An identical earlier build (same dataset version, embedder, chunker settings and code) is returned as it is. Texts
    that the live or the newest version of this index holds are not embedded again. What was forgotten stays out.

    Raises:
        BadInputError: the dataset holds no document.
        IntegrityError: the dataset's files are damaged.
        EnvironmentFaultError: storage full, or every embedding worker died.
    """
    began = time.monotonic()
    section = config.index
    files = find_model(section)
    settings = {
        **KEY.settings(section),
        "embedder": files.identity,
        "fingerprint": files.fingerprint,
        "format": FORMAT,
    }
    forgotten = read_tombstones(store)
    if forgotten:
        settings["forgotten"] = forgotten.key
    inputs = {"dataset": f"{dataset.name}@{dataset.version}"}
    run_key = KEY(inputs=inputs, config=settings)
    if found := store.find_run(run_key):
        return found
    documents_left = [d for d in read_documents(store, dataset) if not forgotten.covers(d.id, d.source_name, d.source)]
    if not documents_left:
        raise BadInputError(f"every document of {dataset.name}@{dataset.version} was forgotten: nothing to index")
    blocks = _blocks(documents_left)
    staging = store.staging(f"{run_key}-blocks")
    chunks = _run_blocks(section, store, staging, blocks, progress)
    progress.stage("write index", None)
    output, texts, embedded = _write(store, run_key, staging, len(blocks), files)
    documents = sum(len(block) for block in blocks)
    progress.counts(documents=documents, chunks=chunks)
    counts = {
        "documents": documents, "chunks": chunks, "texts": texts, "embedded": embedded,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    manifest = store.publish(
        "indexes", section.name, output, run_key=run_key, inputs=inputs, config=settings, counts=counts
    )
    store.fs.rm(staging, recursive=True)
    return manifest


def _blocks(documents: Sequence[Document]) -> list[list[tuple[Document, str]]]:
    pairs = with_enclosing(documents)
    return [pairs[at : at + BLOCK_DOCUMENTS] for at in range(0, len(pairs), BLOCK_DOCUMENTS)]


class EmbedWorker:
    """One embedding actor: cuts and embeds blocks. The model is loaded with the first block that needs it."""

    def __init__(self, section: IndexSection, store_uri: str) -> None:
        self.section = section
        self.store = Store(store_uri)
        self.files = find_model(section)
        self.embedder: Any = None
        self.known: KnownVectors | None = None

    def ready(self) -> None:
        """Answered once the actor runs."""

    def count(self, documents: list[tuple[Document, str]]) -> int:
        """Number of chunks of a block."""
        return len(cut(documents, self.files, self.section))

    def embed(self, documents: list[tuple[Document, str]], path: str) -> int:
        """Embed a block and write its file; returns its number of chunks."""
        if self.embedder is None:
            from data_jobs.retrieval.embedder import load_embedder

            self.embedder = load_embedder(self.section, threads=1)
            self.known = known_vectors(self.store, self.section.name, self.files.fingerprint)
        block = embed(cut(documents, self.files, self.section), self.embedder, self.section.batch_size, self.known)
        self.store.write(path, block.to_bytes())
        return len(block.chunks)


def _run_blocks(
    section: IndexSection, store: Store, staging: str, blocks: list[list[tuple[Document, str]]], progress: Progress
) -> int:
    """Make the missing blocks on a pool of actors; returns the number of chunks of all blocks."""
    finished = {i: len(block.chunks) for i in range(len(blocks)) if (block := _finished(store, staging, i))}
    missing = [i for i in range(len(blocks)) if i not in finished]
    if not missing:
        return sum(finished.values())
    workers = section.embed_workers or int(ray.cluster_resources().get("CPU", 1))
    # One thread per actor, for torch and for everything below it: processes scale better than threads here.
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}}
    actor: Any = ray.remote(EmbedWorker).options(num_cpus=worker_cpus(), max_restarts=2, runtime_env=environment)
    pool = [actor.remote(section, store.uri) for _ in range(max(1, min(workers, len(missing))))]
    try:
        documents = {i: ray.put(blocks[i]) for i in missing}
        progress.stage("chunk", len(blocks), "blocks")
        counts = dict(finished)
        for i, count in spread_over_pool(pool, missing, lambda worker, i: worker.count.remote(documents[i])):
            counts[i] = count
            progress.advance()
        progress.stage("embed", sum(counts.values()), "chunks")
        progress.advance(sum(finished.values()))
        for _, count in spread_over_pool(
            pool, missing, lambda worker, i: worker.embed.remote(documents[i], _block_path(staging, i))
        ):
            progress.advance(count)
        return sum(counts.values())
    finally:
        for worker in pool:
            ray.kill(worker)


def spread_over_pool(
    pool: Sequence[Any], jobs: Sequence[int], call: Callable[[Any, int], Any]
) -> Iterator[tuple[int, int]]:
    """Run one call per job on whichever worker is free; yields (job, result) as they finish.

    A worker takes jobs once it has started, so one that finds no CPU holds nothing up. The job of a worker that died
    goes back into the queue.
    """
    queue = list(reversed(jobs))
    running: dict[Any, tuple[Any, int | None]] = {worker.ready.remote(): (worker, None) for worker in pool}
    left = len(jobs)
    while left:
        if not running:
            raise EnvironmentFaultError("every embedding worker died (out of memory?): see `plinth logs data`")
        done, _ = ray.wait(list(running))
        worker, job = running.pop(done[0])
        try:
            result = ray.get(done[0])
        except RayActorError:
            if job is not None:
                queue.append(job)
            if _lives(worker):
                running[worker.ready.remote()] = (worker, None)
            continue
        except RayTaskError as error:
            raise plain(error, "building the index") from None
        if job is not None:
            left -= 1
            yield job, result
        if queue:
            following = queue.pop()
            running[call(worker, following)] = (worker, following)


def _lives(worker: Any) -> bool:
    """Whether a worker that failed once was restarted."""
    try:
        ray.get(worker.ready.remote(), timeout=60)
    except (RayActorError, ray.exceptions.GetTimeoutError):
        return False
    return True


def _block_path(staging: str, number: int) -> str:
    return posixpath.join(staging, f"block-{number:06d}.npz")


def _finished(store: Store, staging: str, number: int) -> IndexBlock | None:
    path = _block_path(staging, number)
    if not store.exists(path):
        return None
    try:
        return IndexBlock.from_bytes(store.read(path))
    except ValueError:
        return None  # a damaged file from an earlier run: the block is made again


def _write(store: Store, run_key: str, staging: str, number: int, files: ModelFiles) -> tuple[str, int, int]:
    """Join the blocks into a snapshot in a folder ready to publish; that folder, its texts and how many are new."""
    chunks: list[Chunk] = []
    aliases: list[tuple[str, ...]] = []
    questions: list[tuple[str, ...]] = []
    units: list[Unit] = []
    vectors: list[np.ndarray] = []
    embedded = 0
    for i in range(number):
        block = IndexBlock.from_bytes(store.read(_block_path(staging, i)))
        units.extend(Unit(u.chunk + len(chunks), u.kind, u.start, u.end) for u in block.units)
        chunks.extend(block.chunks)
        aliases.extend(block.aliases)
        questions.extend(block.questions)
        vectors.append(block.vectors)
        embedded += block.embedded
    if not chunks:
        raise BadInputError("the dataset's documents hold no text: nothing to index")
    output = store.staging(run_key)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = (chunks, aliases, questions)
        write_snapshot(folder, *texts, units, np.concatenate(vectors), files.identity, files.fingerprint)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            store.write(posixpath.join(output, path.relative_to(folder).as_posix()), path.read_bytes())
    return output, len(units), embedded
