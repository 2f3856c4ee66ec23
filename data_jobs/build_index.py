"""Building an index on the cluster: dataset -> chunks -> embeddings on a pool of actors -> snapshot -> artefact.

Documents are cut into chunks in groups, a group's chunks are embedded in blocks. Both are counted in characters of the
dataset only, so the result does not depend on the number of workers. Each finished group and block is a file in the
staging folder; a killed build finds them again and has lost some seconds of work. This module only arranges:
``index_blocks.py`` does the work.
"""

from __future__ import annotations

import posixpath
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from cluster.core.access import access_counts
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, EnvironmentFaultError
from cluster.core.progress import Progress
from cluster.core.records import CODE_KINDS, Document, Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.sections.data import EMBEDDING, IndexSection
from cluster.core.storage import Store
from cluster.ray_errors import plain
from data_jobs.corpus.dataset import read_documents
from data_jobs.governance.tombstones import read_tombstones
from data_jobs.indexing.evidence import KeptBytes, add_evidence
from data_jobs.indexing.index_blocks import (
    IndexBlock,
    Piece,
    blocks_of,
    cut,
    embed,
    finding_counts,
    joined,
    pieces_from_bytes,
    pieces_to_bytes,
    with_enclosing,
)
from data_jobs.indexing.update_index import bytes_per_chunk, known_vectors
from data_jobs.retrieval.model_files import ModelFiles, find_model
from data_jobs.retrieval.passage_reader import load_passage_reader, reader_fingerprint
from data_jobs.retrieval.segments import FORMAT, KnownVectors
from data_jobs.retrieval.snapshot import write_snapshot
from data_jobs.safety.passages import scan_version
from data_jobs.tasks import await_start, worker_cpus

GROUP_CHARS = 400_000  # cut into chunks by one call, in a second or two
BLOCK_CHARS = 40_000  # embedded by one call, in two to ten seconds
THREADS = 2  # that ask held-out questions of the finished index
Job = TypeVar("Job")
BlockId = tuple[int, int]  # a group of documents, and which of its blocks
KEY = RunKey(
    "index", (__name__,),
    inside=("index.name", "index.chunk_tokens", "answer.max_risk"),
    outside=(*sections_but("index", "answer"), *EMBEDDING, "answer.max_citations", "answer.max_words",
             "answer.max_names", "answer.prompt_tokens", "answer.min_confidence"),
)  # fmt: skip


def build(config: PlinthConfig, store: Store, dataset: Manifest, progress: Progress) -> Manifest:
    """Build and publish the index of a dataset; ray must be connected. Does not move the ``live`` alias.

    An identical earlier build (same dataset version, embedder, chunker settings and code) is returned as it is. Texts
    that the live or the newest version of this index holds are not embedded again. What was forgotten stays out.

    Raises:
        BadInputError: the dataset holds no document.
        IntegrityError: the dataset's files are damaged.
        EnvironmentFaultError: storage full, every embedding worker died, or there is no GPU for ``index.gpus``.
    """
    began = time.monotonic()
    section = config.index
    if section.gpus and config.cluster.single_node and not ray.cluster_resources().get("GPU"):
        raise EnvironmentFaultError(
            f"index.gpus={section.gpus:g} asks for a GPU, and this machine, the only one, has none: set index.gpus=0"
        )
    files = find_model(section)
    settings = {
        **KEY.settings(section),
        "embedder": files.identity,
        "fingerprint": files.fingerprint,
        "format": FORMAT,
        "scan": scan_version(),
    }
    reader = reader_fingerprint(config.retrieval.reader)
    if reader:
        settings["risk"] = {"reader": reader, **KEY.settings(config.answer)}
    forgotten = read_tombstones(store)
    if forgotten:
        settings["forgotten"] = forgotten.key
    inputs = {"dataset": f"{dataset.name}@{dataset.version}"}
    run_key = KEY(inputs=inputs, config=settings)
    if found := store.find_run(run_key):
        return found
    documents_left = forgotten.left(read_documents(store, dataset))
    if not documents_left:
        raise BadInputError(f"every document of {dataset.name}@{dataset.version} was forgotten: nothing to index")
    staging = store.staging(f"{run_key}-blocks")
    blocks = _run_blocks(section, store, staging, _groups(documents_left), progress)
    progress.stage("write index", None)
    documents, chunks = len(documents_left), sum(blocks.values())

    prose = any(document.kind not in CODE_KINDS for document in documents_left)  # of code a reader is never asked

    def promise(folder: Path) -> dict[str, Any]:
        kept = KeptBytes(store, posixpath.join(staging, "held-out.json"))
        loaded = load_passage_reader(config.retrieval.reader, threads=THREADS, required=True)
        return add_evidence(config, folder, documents_left, loaded, progress, kept)

    output, texts, embedded, found_in = _write(
        store, run_key, staging, blocks, files, promise if reader and prose else None
    )
    progress.counts(documents=documents, chunks=chunks)
    counts = {
        "documents": documents, "chunks": chunks, "texts": texts, "embedded": embedded, **found_in,
        **access_counts(Counter(document.access for document in documents_left)),
        **bytes_per_chunk(store, output, chunks), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    manifest = store.publish(
        "indexes", section.name, output, run_key=run_key, inputs=inputs, config=settings, counts=counts
    )
    store.fs.rm(staging, recursive=True)
    return manifest


def _groups(documents: Sequence[Document]) -> list[list[tuple[Document, str]]]:
    groups: list[list[tuple[Document, str]]] = []
    held = GROUP_CHARS
    for document, about in with_enclosing(documents):
        if held >= GROUP_CHARS:
            groups.append([])
            held = 0
        groups[-1].append((document, about))
        held += len(document.text)
    return groups


class EmbedWorker:
    """One embedding actor: cuts and embeds. The model is loaded with the first block that needs it."""

    def __init__(self, section: IndexSection, store_uri: str) -> None:
        self.section = section
        self.store = Store(store_uri)
        self.files = find_model(section)
        self.embedder: Any = None
        self.known: KnownVectors | None = None
        self._group: tuple[str, list[list[Piece]]] = ("", [])

    def ready(self) -> None:
        """Answered once the actor runs."""

    def cut(self, documents: list[tuple[Document, str]], path: str) -> list[int]:
        """Cut a group of documents and write its file; returns the number of chunks of each of its blocks."""
        pieces = cut(documents, self.files, self.section)
        self.store.write(path, pieces_to_bytes(pieces))
        return [len(block) for block in blocks_of(pieces, BLOCK_CHARS)]

    def embed(self, group: str, number: int, path: str) -> int:
        """Embed block ``number`` of the group in file ``group`` and write its file; returns its number of chunks."""
        if self.embedder is None:
            from data_jobs.retrieval.embedder import load_embedder

            self.embedder = load_embedder(self.section, threads=1)
            self.known = known_vectors(self.store, self.section.name, self.files)
        if self._group[0] != group:  # one long document may be a group of thousands of blocks
            self._group = group, blocks_of(pieces_from_bytes(self.store.read(group)), BLOCK_CHARS)
        pieces = self._group[1][number]
        self.store.write(path, embed(pieces, self.embedder, self.known).to_bytes())
        return len(pieces)


def _run_blocks(
    section: IndexSection, store: Store, staging: str, groups: list[list[tuple[Document, str]]], progress: Progress
) -> dict[BlockId, int]:
    """Make the missing blocks on a pool of actors; returns every block, in order, with its number of chunks."""
    blocks: dict[int, list[int]] = {i: found for i in range(len(groups)) if (found := _cut_before(store, staging, i))}
    finished = {b for b in _ids(blocks) if _finished(store, staging, b) is not None}
    if len(blocks) == len(groups) and len(finished) == len(_ids(blocks)):
        return _ids(blocks)
    chars = sum(len(document.text) for group in groups for document, _ in group)
    workers = min(section.embed_workers or _places(section), 1 + chars // BLOCK_CHARS)
    # One thread per actor, for torch and for everything below it: processes scale better than threads here.
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}}
    actor: Any = ray.remote(EmbedWorker).options(
        num_cpus=worker_cpus(), num_gpus=section.gpus, max_restarts=2, runtime_env=environment
    )
    pool = [actor.remote(section, store.uri) for _ in range(max(1, workers))]
    try:
        progress.stage("cut into chunks", sum(map(len, groups)), "documents")
        progress.advance(sum(len(groups[i]) for i in blocks))
        await_start([worker.ready.remote() for worker in pool], worker_cpus(), progress)
        uncut = [i for i in range(len(groups)) if i not in blocks]
        documents = {i: ray.put(groups[i]) for i in uncut}
        for i, counts in spread_over_pool(
            pool, uncut, lambda worker, i: worker.cut.remote(documents[i], _group_path(staging, i))
        ):
            blocks[i] = counts
            progress.advance(len(groups[i]))
        documents.clear()
        sizes = _ids(blocks)
        missing = [b for b in sizes if b not in finished]
        progress.stage("embed", sum(sizes.values()), "chunks")
        progress.advance(sum(sizes[b] for b in finished))
        for _, count in spread_over_pool(
            pool,
            missing,
            lambda worker, b: worker.embed.remote(_group_path(staging, b[0]), b[1], _block_path(staging, b)),
        ):
            progress.advance(count)
        return sizes
    finally:
        for worker in pool:
            ray.kill(worker)


def _places(section: IndexSection) -> int:
    """How many embedding actors the cluster has room for now: one a CPU, or one for each share of a GPU."""
    total = ray.cluster_resources()
    if section.gpus:
        return max(1, int(total.get("GPU", 0) / section.gpus))
    return int(total.get("CPU", 1))


def _ids(blocks: dict[int, list[int]]) -> dict[BlockId, int]:
    return {(group, number): size for group in sorted(blocks) for number, size in enumerate(blocks[group])}


def spread_over_pool(
    pool: Sequence[Any], jobs: Sequence[Job], call: Callable[[Any, Job], Any]
) -> Iterator[tuple[Job, Any]]:
    """Run one call per job on whichever worker is free; yields (job, result) as they finish.

    A worker takes jobs once it has started, so one that finds no CPU holds nothing up. The job of a worker that died
    goes back into the queue.
    """
    queue = list(reversed(jobs))
    running: dict[Any, tuple[Any, Job | None]] = {worker.ready.remote(): (worker, None) for worker in pool}
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


def _group_path(staging: str, group: int) -> str:
    return posixpath.join(staging, f"chunks-{group:06d}.json")


def _block_path(staging: str, block: BlockId) -> str:
    return posixpath.join(staging, f"block-{block[0]:06d}-{block[1]:04d}.npz")


def _cut_before(store: Store, staging: str, group: int) -> list[int] | None:
    """The sizes of a group's blocks where an earlier run cut it; a damaged file is made again."""
    path = _group_path(staging, group)
    if not store.exists(path):
        return None
    try:
        return [len(block) for block in blocks_of(pieces_from_bytes(store.read(path)), BLOCK_CHARS)]
    except ValueError:
        return None


def _finished(store: Store, staging: str, block: BlockId) -> IndexBlock | None:
    path = _block_path(staging, block)
    if not store.exists(path):
        return None
    try:
        return IndexBlock.from_bytes(store.read(path))
    except ValueError:
        return None  # a damaged file from an earlier run: the block is made again


def _write(
    store: Store,
    run_key: str,
    staging: str,
    blocks: Iterable[BlockId],
    files: ModelFiles,
    promise: Callable[[Path], dict[str, Any]] | None,
) -> tuple[str, int, int, dict[str, Any]]:
    """Join the blocks into a snapshot in a folder ready to publish; that folder, its texts, how many are new, and what
    was found in its chunks and counted by ``promise``, which adds its files to the snapshot's folder."""
    parts = (IndexBlock.from_bytes(store.read(_block_path(staging, name))) for name in blocks)
    block = joined(parts, int(files.identity["dim"]))
    if not block.chunks:
        raise BadInputError("the dataset's documents hold no text: nothing to index")
    output = store.staging(run_key)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = (block.chunks, block.aliases, block.questions)
        write_snapshot(folder, *texts, block.units, block.vectors, files.identity, files.fingerprint)
        promised = promise(folder) if promise else {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            store.write(posixpath.join(output, path.relative_to(folder).as_posix()), path.read_bytes())
    return output, len(block.units), block.embedded, {**finding_counts(block.chunks), **promised}
