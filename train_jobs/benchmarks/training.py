"""What training through the platform costs: speed beside other loops, start, a kill, memory; all in one run.

Everything goes through ``launch.pretrain`` on ``fit.Workers``, as a user's run does, over a corpus of random words in a
store that can be thrown away. The ways to train take turns, round by round, so that a noisy machine disturbs all of
them alike; a model is the same everywhere, and so are tokens, threads and priority.
"""

from __future__ import annotations

import functools
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from actors.registry.runs import Run, cancel, list_runs, read_metrics
from cluster.core.config import PlinthConfig, available_cpus
from cluster.core.errors import TrainingError
from cluster.core.progress import Progress, Silent
from cluster.core.records import Document, Manifest
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.benchmarks import rivals
from train_jobs.models.shape import Shape
from train_jobs.planning.flops import flops_per_token, measured_peak
from train_jobs.planning.sizes import Sizes

WARM_UP_STEPS = 3
WORDS_A_DOCUMENT, LETTERS = 400, "etaoinshrdlucmfwypvbgkqjxz"
WAIT_S = 900.0
PARTS = ("speed", "start", "kill", "memory")


class Marks:
    """A progress that notes when each stage began: the parts of a start."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.stages: list[tuple[str, float]] = []

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """A stage begins now."""
        del total, unit
        self.stages.append((name, time.perf_counter() - self.began))

    def advance(self, amount: int = 1) -> None:
        """Not noted."""
        del amount

    def counts(self, **counts: float) -> None:
        """Not noted."""
        del counts

    def waits(self, what: str) -> None:
        """Not noted."""
        del what

    def parts(self, end: float) -> dict[str, float]:
        """Seconds of each stage up to ``end`` (seconds since the beginning)."""
        edges = [*(at for _, at in self.stages), end]
        found = {"before": edges[0]} if edges[0] > 0 else {}
        for (name, at), after in zip(self.stages, edges[1:], strict=True):
            if after > at:
                found[name.replace(" ", "_")] = round(found.get(name, 0.0) + min(after, end) - at, 2)
        return {name: round(seconds, 2) for name, seconds in found.items()}


def corpus(store: Store, name: str, tokens: int, seed: int = 0) -> Manifest:
    """A dataset of about ``tokens`` tokens of random words, published as the data jobs publish theirs."""
    from data_jobs.corpus.contracts import DOCUMENT_SCHEMA
    from data_jobs.corpus.parquet import parquet_bytes

    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list(LETTERS), rng.integers(2, 9))) for _ in range(3000)])
    count = max(60, tokens // (2 * WORDS_A_DOCUMENT))
    ranks = np.minimum(len(words) - 1, rng.zipf(1.3, (count, WORDS_A_DOCUMENT)))  # words are as rare as in a language
    rows = [
        Document(id=f"{name}.{number}", title="", text=" ".join(words[line]), source=name).to_dict()
        for number, line in enumerate(ranks)
    ]
    folder = store.staging(f"bench-{name}")
    store.write(f"{folder}/documents-00000.parquet", parquet_bytes(rows, DOCUMENT_SCHEMA))
    return store.publish("datasets", name, folder, run_key=f"bench-{name}", counts={"kept": len(rows)})


class Bench:
    """One model over one throwaway store; needs a Ray connection."""

    def __init__(self, section: TrainSection, store: Store, steps: int, progress: Progress) -> None:
        from train_jobs.data.tokenizer import train_tokenizer

        # No checkpoint, evaluation or learning rate by the clock in the steps that are timed.
        fixed = {"steps": steps + WARM_UP_STEPS, "checkpoint_s": 3600.0, "precision": "fp32", "min_documents": 10}
        self.section = section.model_copy(update=fixed)
        self.store, self.steps, self.progress = store, steps, progress
        progress.stage("make a corpus")
        self.data = corpus(store, "bench", max(200_000, 2 * self.section.steps * section.batch_tokens))
        self.tokenizer = train_tokenizer(PlinthConfig(train=self.section), store, self.data, Silent())
        self.shape = Shape.of(self.section, int(self.tokenizer.counts["tokens"]))

    def pretrain(self, workers: Any, progress: Progress | None = None, dataset: Manifest | None = None,
                 **changes: Any) -> Manifest:  # fmt: skip
        """One run of its own (its seed tells it from others)."""
        from train_jobs.launch import pretrain

        config = PlinthConfig(train=self.section.model_copy(update=changes))
        return pretrain(config, self.store, dataset or self.data, self.tokenizer, progress or Silent(), workers=workers)

    def group(self, workers: int) -> Any:
        """A group of so many workers, to be entered."""
        from train_jobs.fit import Workers

        return Workers(self.section.model_copy(update={"workers": workers}), self.store)

    def rate(self, made: Manifest) -> float:
        """Tokens per second after the warm-up, from the rows that the run published."""
        from train_jobs.publishing.artefact import read_rows

        rows = [
            r for r in read_rows(self.store, made) if r.get("train_loss") is not None and r["step"] >= WARM_UP_STEPS
        ]
        if len(rows) < 2:
            raise TrainingError("the run logged too few steps to time: give it more --steps")
        return (rows[-1]["tokens"] - rows[0]["tokens"]) / (rows[-1]["seconds"] - rows[0]["seconds"])

    def speed(self, rounds: int, litgpt: str) -> dict[str, Any]:
        """Tokens per second of every way to train, medians and all rounds; ratios as the goals are written."""
        rates: dict[str, list[float]] = {}
        absent: dict[str, str] = {}
        threads, job = available_cpus(), rivals.Job(self.shape, self.section, self.steps, WARM_UP_STEPS)

        def take(name: str, work: Callable[[], float]) -> None:
            self.progress.stage(f"{name.replace('_', ' ')}")
            try:
                rates.setdefault(name, []).append(work())
            except rivals.AbsentError as error:
                absent[name] = error.message

        for number in range(rounds):
            for size, name in ((1, "ray_1_worker"), (2, "ray_2_workers")):
                with self.group(size) as group:
                    take(name, functools.partial(self._round, group, 10 * number + size))
            take("bare_loop", lambda: rivals.side_by_side(rivals.bare_loop, job, threads, 1))
            take("two_bare_loops_of_1_thread", lambda: rivals.side_by_side(rivals.bare_loop, job, 1, 2))
            take("hugging_face_trainer", lambda: rivals.side_by_side(rivals.hugging_face_trainer, job, threads, 1))
            take("litgpt", lambda: rivals.litgpt_loop(litgpt, job, threads))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        pairs = (("ray_1_worker", "bare_loop"), ("ray_2_workers", "two_bare_loops_of_1_thread"),
                 ("ray_1_worker", "hugging_face_trainer"), ("ray_1_worker", "litgpt"))  # fmt: skip
        peak, each = measured_peak(threads=threads), flops_per_token(Sizes.of(self.shape), self.section.context_tokens)
        return {
            "tokens_per_s": {name: round(value) for name, value in medians.items()},
            "ratio": {f"{a}/{b}": round(medians[a] / medians[b], 3) for a, b in pairs if b in medians},
            "mfu": {name: round(value * each / peak, 3) for name, value in medians.items()},
            "not_run": absent, "all": {name: [round(v) for v in values] for name, values in rates.items()},
        }  # fmt: skip

    def _round(self, group: Any, seed: int) -> float:
        return self.rate(self.pretrain(group, seed=seed))

    def start(self) -> dict[str, Any]:
        """Seconds from the call on a running cluster to the first step, by part."""
        marks = Marks()
        with self.group(0) as group:
            marks.stage("ask_for_workers")
            watched = _Watched(self.store, lambda: self.pretrain(group, marks, seed=501))
            watched.wait(lambda run: any(row["step"] >= 1 for row in read_metrics(self.store, run.id)))
            end = time.perf_counter() - marks.began
            watched.result()
        return {"seconds": round(end, 2), "parts": marks.parts(end)}

    def kill(self) -> dict[str, Any]:
        """Seconds from a kill -9 of the first worker, in the middle of a run, to the next step that is logged."""
        changes: dict[str, Any] = {"seed": 502, "checkpoint_s": 1.0, "steps": 4 * self.section.steps}
        pattern = self.store.path("staging", "*", "checkpoints", "*", "manifest.json")
        with self.group(0) as group:
            watched = _Watched(self.store, lambda: self.pretrain(group, **changes))
            victim = watched.wait(lambda run: bool(self.store.fs.glob(pattern)))
            os.kill(victim.pid, signal.SIGKILL)
            killed = time.time()

            def stepped(run: Run) -> bool:
                return any(_at(row) > killed and row.get("train_loss") for row in read_metrics(self.store, run.id))

            after = watched.wait(stepped)
            took = next(_at(r) for r in read_metrics(self.store, after.id) if _at(r) > killed and r.get("train_loss"))
            cancel(self.store, after.id, "bench")
            with suppress(TrainingError):  # cancelled: all that is measured has happened
                watched.result()
        return {"seconds": round(took - killed, 2), "attempts": after.attempts}

    def memory(self, factor: int = 10) -> dict[str, Any]:
        """Peak resident memory of a worker (VmHWM, MiB) with the corpus and with one ``factor`` times as large."""
        peaks = {}
        for times in (1, factor):
            self.progress.stage(f"memory, corpus x {times}")
            base = max(200_000, 2 * self.section.steps * self.section.batch_tokens)
            peaks[f"x{times}"] = self._peak(corpus(self.store, f"bench-x{times}", times * base, seed=times))
        return {"vm_hwm_mb": peaks, "ratio": round(peaks[f"x{factor}"] / max(1e-9, peaks["x1"]), 3)}

    def _peak(self, dataset: Manifest) -> float:
        with self.group(1) as group:
            watched = _Watched(self.store, lambda: self.pretrain(group, dataset=dataset, seed=503))
            worker, peak = watched.wait(lambda run: True), 0.0
            while not watched.done():
                with suppress(OSError, ValueError, IndexError):  # the worker has ended
                    status = Path(f"/proc/{worker.pid}/status").read_text()
                    peak = max(peak, float(status.split("VmHWM:")[1].split()[0]) / 1024)
                time.sleep(0.02)
            watched.result()
        return round(peak, 1)


def measure(
    section: TrainSection, store: Store, steps: int, rounds: int, progress: Progress, parts: tuple[str, ...] = PARTS,
    litgpt: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Everything that ``parts`` names, of one model; needs a Ray connection.

    Args:
        store: is written to and can be thrown away afterwards.
        litgpt: path of a Python that has litgpt (it wants other versions than ours); empty: that is not run.
    """
    bench = Bench(section, store, steps, progress)
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: bench.speed(rounds, litgpt), "start": bench.start, "kill": bench.kill, "memory": bench.memory,
    }  # fmt: skip
    found: dict[str, Any] = {
        "parameters": bench.shape.parameters, "batch_tokens": section.batch_tokens,
        "context_tokens": section.context_tokens, "cpus": available_cpus(), "steps": steps, "rounds": rounds,
    }  # fmt: skip
    for part in parts:
        progress.stage(part)
        found[part] = work[part]()
    return found


class _Watched:
    """A run in a thread of its own, seen through its books; its error is raised where it is waited for."""

    def __init__(self, store: Store, work: Callable[[], Any]) -> None:
        self._store, self._work = store, work
        self._before = {run.id for run in list_runs(store)}
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._carry_out, daemon=True)
        self._thread.start()

    def _carry_out(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 (raised again by ``result``)
            self._error = error

    def done(self) -> bool:
        """Whether it ended."""
        return not self._thread.is_alive()

    def result(self) -> None:
        """Wait for its end.

        Raises:
            Exception: what it raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error

    def wait(self, condition: Callable[[Run], bool]) -> Run:
        """Poll until the run has begun and ``condition`` holds for it.

        Raises:
            TrainingError: the run ended, or too long a time passed, before that.
        """
        deadline = time.monotonic() + WAIT_S
        while True:
            ended = self.done()
            new = [run for run in list_runs(self._store) if run.id not in self._before]
            if new and condition(new[-1]):
                return new[-1]
            if ended:
                self.result()
                raise TrainingError("the measured run ended before what was waited for came: give it more --steps")
            if time.monotonic() > deadline:
                raise TrainingError(f"what was measured did not come within {WAIT_S:.0f} s")
            time.sleep(0.02)


def _at(row: dict[str, Any]) -> float:
    """When a row was logged, in seconds since the epoch."""
    return datetime.fromisoformat(row["at"]).timestamp()
