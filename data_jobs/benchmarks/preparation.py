"""Preparing a corpus, extract to tokens: ours on Ray against datatrove's local executor, on the same cores and files.

Every run has a fresh process of its own, pinned to as many cores as it has workers, its children included. Ours starts
a private Ray there; its start is reported, not counted. Time in tasks comes from Ray's own timeline: what is left of
workers x wall clock is what Ray, the driver and waiting cost. Runs take turns, so that a noisy machine disturbs all.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.config import PlinthConfig, available_cpus, configured
from cluster.core.errors import UsageError
from cluster.core.progress import Progress
from cluster.core.storage import Store
from data_jobs.benchmarks import beside_datatrove
from data_jobs.benchmarks.corpus import LOWEST, Corpus, build, recall
from data_jobs.benchmarks.peak_memory import PeakMemory
from data_jobs.corpus.tokens import FILE, Encoder, find_encoder

SMALLER = 10  # Memory is compared with that of a corpus of a tenth of the size.
FILE_MB = 1  # Every file is of this size, so that a larger corpus has more files and not larger ones.
VOCABULARY = 4096
END = "<|endoftext|>"
STEPS = (
    "read jsonl", "normalise (ftfy)", "Gopher, C4 and FineWeb rules",
    "MinHash 128 of 5-word shingles, true Jaccard of candidates", "PII", "write Parquet and hashes", "tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One measurement: preparing ``corpus`` with ``workers`` processes on as many cores."""

    corpus: Corpus
    tokenizer: str
    workers: int
    words: str = "default"
    store: str = ""


def measure(
    source: Path, size_mb: float, workers: Sequence[int], progress: Progress, *, seed: int = 0, rounds: int = 1,
    datatrove: bool = True, words: str = "default", memory: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Documents per second of both at every number of workers, with recall, scaling, memory and where the time goes.

    Args:
        rounds: measurements of each; the fastest counts, all are reported.
        words: how datatrove splits words, ``default`` (spaCy) or ``simple``.
        memory: also measure peak memory on a corpus of a tenth of the size.

    Raises:
        UsageError: more workers than cores.
        BadInputError: ``source`` holds too little text.
    """
    most = available_cpus()
    if not workers or min(workers) < 1 or max(workers) > most:
        raise UsageError(f"--workers must be from 1 to {most}, the cores of this machine")
    if size_mb <= 0 or rounds < 1:
        raise UsageError("--size-mb must be above 0, --rounds 1 or more")
    with tempfile.TemporaryDirectory(prefix="plinth-bench-") as folder:
        scratch = Path(folder)
        progress.stage("build corpus")
        corpus = build(source, scratch / "corpus", size_mb, seed, _files(size_mb, workers))
        tokenizer = _train_tokenizer(corpus, scratch)
        sides: dict[str, list[dict[str, Any]]] = {"plinth": [], "datatrove": []}
        for count in workers:
            for number in range(rounds):
                run = Run(corpus, str(tokenizer), count, words)
                for side in ("plinth", "datatrove") if datatrove else ("plinth",):
                    progress.stage(f"{side}, {count} workers, round {number + 1} of {rounds}")
                    sides[side].append(in_a_process(_SIDES[side], run))
        found = {name: _by_workers(corpus, runs) for name, runs in sides.items() if runs}
        small = None
        if memory:
            progress.stage("memory on a tenth")
            part = build(source, scratch / "small", size_mb / SMALLER, seed, _files(size_mb / SMALLER, workers))
            small = in_a_process(_ours, Run(part, str(tokenizer), max(workers)))
        return _report(corpus, found, small, workers, words)


def _files(size_mb: float, workers: Sequence[int]) -> int:
    return max(max(workers), round(size_mb / FILE_MB))


def _report(
    corpus: Corpus, found: dict[str, dict[int, dict[str, Any]]], small: dict[str, Any] | None, workers: Sequence[int],
    words: str,
) -> dict[str, Any]:  # fmt: skip
    ours = found["plinth"]
    theirs = found.get("datatrove", {})
    most, least = max(workers), min(workers)
    base = ours[least]["documents_per_s"] / least
    result: dict[str, Any] = {
        "corpus": {
            "documents": corpus.documents, "bytes": corpus.bytes, "files": corpus.files, "copies": corpus.copies,
            "unique_share": round(corpus.unique, 4), "pairs": len(corpus.pairs), "pairs_from_jaccard": LOWEST,
        },
        "steps": {"plinth": STEPS, "datatrove": beside_datatrove.STEPS, "datatrove_words": words},
        "runs": {name: list(runs.values()) for name, runs in found.items()},
        "efficiency": {str(n): round(ours[n]["documents_per_s"] / n / base, 3) for n in workers},
        "ratio": {str(n): round(ours[n]["documents_per_s"] / theirs[n]["documents_per_s"], 3) for n in theirs},
    }  # fmt: skip
    if small is not None:
        result |= _against_small(corpus, ours[most], small)
    return result


def _against_small(corpus: Corpus, large: dict[str, Any], small: dict[str, Any]) -> dict[str, Any]:
    """What ten times the documents cost: memory, and how much of the time is fixed (workers' start, imports)."""
    documents = corpus.documents - small["documents_in"]
    marginal = documents / max(1e-6, large["seconds"] - small["seconds"])
    return {
        "memory": {
            "workers": large["workers"], "documents": [small["documents_in"], corpus.documents],
            "peak_worker_mib": [small["peak_worker_mib"], large["peak_worker_mib"]],
            "peak_driver_mib": [small["peak_driver_mib"], large["peak_driver_mib"]],
            "ratio": round(large["peak_worker_mib"] / max(1.0, small["peak_worker_mib"]), 3),
        },
        "fixed": {
            "seconds": [small["seconds"], large["seconds"]],
            "marginal_documents_per_s": round(marginal, 1),
            "fixed_s": round(max(0.0, small["seconds"] - small["documents_in"] / marginal), 2),
        },
    }  # fmt: skip


def _by_workers(corpus: Corpus, runs: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The fastest run of each number of workers, with recall and rate; the others' seconds beside it."""
    best: dict[int, dict[str, Any]] = {}
    for run in sorted(runs, key=lambda one: one["seconds"]):
        if run["workers"] not in best:
            kept = set(run.pop("kept_ids"))
            rate = round(corpus.documents / run["seconds"], 1)
            best[run["workers"]] = {**run, "documents_per_s": rate, "kept": len(kept), **recall(corpus, kept)}
    for workers, chosen in best.items():
        chosen["all_seconds"] = [run["seconds"] for run in runs if run["workers"] == workers]
    return dict(sorted(best.items()))


def _train_tokenizer(corpus: Corpus, scratch: Path) -> Path:
    """A small byte-level BPE tokenizer of the corpus itself; both sides use it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(Path(corpus.folder) / "part-0000.jsonl")], trainer)
    folder = scratch / "tokenizer"
    folder.mkdir()
    tokenizer.save(str(folder / FILE))
    return folder / FILE


# -- one run, in a process of its own ----------------------------------------------------------------------------------
def in_a_process(side: Any, run: Any) -> dict[str, Any]:
    """``side(run)`` in a fresh process that may have children."""
    # Not a multiprocessing.Pool: its processes may not have children of their own.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(side, run).result()
    return found


@contextmanager
def quiet_and_pinned(workers: int) -> Iterator[Path]:
    """This process and its children on ``workers`` cores, one thread each, their chatter in a file; a scratch folder
    with a short name (Unix sockets lie in it)."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:workers])
    os.environ.update(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1")
    scratch = Path(tempfile.mkdtemp(prefix="pb"))
    said = os.open(scratch / "said.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1), os.dup2(said, 2)
    try:
        yield scratch
    finally:
        os.close(said)
        shutil.rmtree(scratch, ignore_errors=True)


def _datatrove(run: Run) -> dict[str, Any]:
    with (
        quiet_and_pinned(run.workers) as scratch,
        PeakMemory(lambda command: "resource_tracker" not in command) as memory,
    ):
        found = beside_datatrove.run(
            Path(run.corpus.folder), scratch, run.workers, run.corpus.files, Path(run.tokenizer), END, run.words
        )
    kept = found.pop("kept")
    return {"workers": run.workers, **found, "kept_ids": kept, "peak_worker_mib": memory.largest()}


def _ours(run: Run) -> dict[str, Any]:
    from cluster.connect import private

    with quiet_and_pinned(run.workers) as scratch:
        store = Store(str(scratch / "store"))
        encoder = find_encoder(store, run.tokenizer)
        section = {
            "source": run.corpus.folder, "name": "bench", "near_duplicate_jaccard": LOWEST, "blocks": run.corpus.files,
            "quality": "web",
        }  # fmt: skip
        config = configured(PlinthConfig(), [f"data.{name}={value}" for name, value in section.items()])
        worker = PeakMemory(lambda command: command.startswith("ray::"))
        with private(run.workers, str(scratch / "ray")) as started, worker:
            return _prepare(run, config, store, encoder, started, worker)


def _prepare(
    run: Run, config: PlinthConfig, store: Store, encoder: Encoder, started: float, memory: PeakMemory
) -> dict[str, Any]:
    from data_jobs.benchmarks.peak_memory import peak_mib
    from data_jobs.make_tokens import tokenise
    from data_jobs.prepare_corpus import prepare

    stages = _Seconds()
    began = time.perf_counter()
    dataset = prepare(config, store, stages)
    tokens = tokenise(store, dataset, encoder, config.train.held_out, stages)
    seconds = time.perf_counter() - began
    busy, tasks = _time_in_tasks()
    return {
        "workers": run.workers, "seconds": round(seconds, 3), "stages": stages.finish(),
        "ray_start_s": round(started, 2), "time_in_tasks_s": busy, "tasks": tasks,
        "busy_share": round(sum(busy.values()) / (run.workers * seconds), 3),
        "overhead_s": round(seconds - sum(busy.values()) / run.workers, 3),
        "tokens": tokens.counts["tokens"], "duplicates": dataset.counts["duplicates"],
        "filtered": dataset.counts["filtered"], "documents_in": dataset.counts["records_in"],
        "kept_ids": _kept(store, dataset), "peak_worker_mib": memory.largest(),
        "peak_driver_mib": round(peak_mib(os.getpid(), lambda command: True) or 0.0, 1),
    }  # fmt: skip


def _kept(store: Store, dataset: Any) -> list[str]:
    """The corpus's own ids of the documents that are left (ours are ``file#id``)."""
    from data_jobs.corpus.parquet import read_table

    folder = store.artefact(dataset)
    names = [f.path for f in dataset.files if f.path.startswith("documents-")]
    rows = (row for name in names for row in read_table(store.read(f"{folder}/{name}"), ["id"]).to_pylist())
    return [row["id"].rpartition("#")[2] for row in rows]


def _time_in_tasks() -> tuple[dict[str, float], int]:
    """Seconds that workers spent inside our tasks, by name, and their number, from Ray's timeline.

    Calls of actors are Ray Data's own (its statistics and its autoscaler's coordinator): overhead, not counted.
    """
    import ray

    busy: dict[str, float] = {}
    number = 0
    for event in ray.timeline() or []:
        kind, _, name = str(event.get("cat")).partition("::")
        if kind == "task" and name and "." not in name:
            busy[name] = busy.get(name, 0.0) + event["dur"] / 1e6
            number += 1
    return {name: round(value, 3) for name, value in sorted(busy.items(), key=lambda item: -item[1])}, number


class _Seconds:
    """A ``Progress`` that keeps how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._began = "start", time.perf_counter()

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        del total, unit
        now = time.perf_counter()
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._began
        self._name, self._began = name, now

    def advance(self, amount: int = 1) -> None:
        del amount

    def counts(self, **counts: float) -> None:
        del counts

    def waits(self, what: str) -> None:
        del what

    def finish(self) -> dict[str, float]:
        self.stage("end")
        return {name: round(value, 3) for name, value in self.seconds.items() if value >= 0.001}


_SIDES = {"plinth": _ours, "datatrove": _datatrove}
