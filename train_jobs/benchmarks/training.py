"""Training tokens per second: Ray Train with one and two workers against a bare PyTorch loop of the same model.

All take the same steps of the same random tokens at the same priority. They take turns, round by round, so that a
noisy machine disturbs all of them alike. The bare loop has neither clock, log, checkpoint nor evaluation: what Ray
Train and the loop add is in the ratio.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import posixpath
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.config import available_cpus
from cluster.core.progress import Progress
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.data.packing import Windows
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec
from train_jobs.trainer.plan import RunPlan

WARM_UP_STEPS = 2


def measure(section: TrainSection, store: Store, steps: int, rounds: int, progress: Progress) -> dict[str, Any]:
    """Tokens per second of each way, the median over ``rounds``, with every round's numbers; needs a Ray connection.

    ``store`` is written to and can be thrown away afterwards.
    """
    from train_jobs.fit import Workers

    shape = Shape.of(section, section.vocab_size)
    stream = random_tokens(shape, section, steps)
    seconds: dict[str, float] = {}
    rates: dict[str, list[float]] = {"bare": [], "ray_1_worker": [], "ray_2_workers": []}
    sizes = {1: "ray_1_worker", 2: "ray_2_workers"}
    groups = {size: Workers(section.model_copy(update={"workers": size}), store) for size in sizes}
    for size, name in sizes.items():
        with groups[size] as group:
            for number in range(rounds):
                progress.stage(f"{name}, round {number + 1} of {rounds}")
                plan = make_plan(section, shape, stream, store, steps, f"{name.replace('_', '-')}-{number}")
                rate, startup = through_ray(group, plan, progress)
                rates[name].append(rate)
                seconds.setdefault(name, startup)
                progress.stage(f"bare loop, round {number + 1} of {rounds}")
                rates["bare"].append(bare_in_a_process(section, shape, stream, steps))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "parameters": shape.parameters, "batch_tokens": section.batch_tokens, "context_tokens": section.context_tokens,
        "cpus": available_cpus(), "steps": steps, "rounds": rounds,
        "tokens_per_s": {name: round(value) for name, value in medians.items()},
        "ratio": {name: round(medians[name] / medians["bare"], 3) for name in sizes.values()},
        "startup_seconds": {name: round(value, 2) for name, value in seconds.items()},
        "all": {name: [round(value) for value in values] for name, values in rates.items()},
    }  # fmt: skip


def random_tokens(shape: Shape, section: TrainSection, steps: int) -> npt.NDArray[np.int32]:
    """A stream long enough that no step repeats a window."""
    length = (steps + 2) * section.batch_tokens + 2 * shape.context
    return np.random.default_rng(section.seed).integers(0, shape.vocab, length, dtype=np.int32)


def make_plan(
    section: TrainSection, shape: Shape, stream: npt.NDArray[np.int32], store: Store, steps: int, key: str
) -> RunPlan:
    """A pretraining plan of ``steps`` steps after the warm-up, with its data written to a staging folder of its own.

    Args:
        stream: token ids, int32 [n]. The held-out side is only its first window: quality is not what is measured.
        key: names the folder and the run.

    Raises:
        EnvironmentFaultError: the store is full or not writable.
    """
    from safetensors.numpy import save

    folder = store.staging(key)
    body = save({"train": stream, "held_out": stream[: shape.context + 1]})
    data = posixpath.join(folder, "data.safetensors")
    store.write(data, body)
    return RunPlan(
        stage="pretrain", objective="next_token", run_id=key, store=store.uri, folder=folder, data=data,
        data_sha256=hashlib.sha256(body).hexdigest(), initial="", initial_files={}, model=LlamaSpec(shape), pad=0,
        batch_tokens=section.batch_tokens, optimizer=section.optimizer, learning_rate=section.learning_rate,
        seed=section.seed, steps=steps + WARM_UP_STEPS, passes=0, budget_s=600.0, started_at=time.time(),
        checkpoint_s=section.checkpoint_s, precision="fp32", **RunPlan.loop_settings(section),
    )  # fmt: skip


def through_ray(group: Any, plan: RunPlan, progress: Progress) -> tuple[float, float]:
    """Tokens per second after the warm-up, and seconds of start-up."""
    from train_jobs.trainer import checkpoint

    group.carry_out(plan, progress)
    last = checkpoint.latest(group.store, plan.folder)
    if last is None:
        raise RuntimeError(f"{plan.run_id} left no checkpoint")
    timed = [row for row in last.state.rows if row["step"] >= WARM_UP_STEPS]
    tokens = timed[-1]["tokens"] - timed[0]["tokens"]
    return tokens / (timed[-1]["seconds"] - timed[0]["seconds"]), last.state.startup_s


def bare_in_a_process(section: TrainSection, shape: Shape, stream: npt.NDArray[np.int32], steps: int) -> float:
    """``bare_loop`` in a fresh process with all CPUs, as a script of one's own would have it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(bare_loop, (section, shape, stream, steps, available_cpus()))


def bare_loop(section: TrainSection, shape: Shape, stream: npt.NDArray[np.int32], steps: int, threads: int) -> float:
    """Tokens per second of nothing but forward, backward and optimizer step."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from train_jobs.models.llama import Llama
    from train_jobs.trainer.loop import be_nice
    from train_jobs.trainer.optimizer import make_optimizers

    be_nice()
    torch.set_num_threads(threads)
    model = Llama(shape, section.seed)
    (optimizer,) = make_optimizers("adamw", model, (), section.learning_rate)
    windows = Windows(stream, shape.context, section.batch_tokens, section.seed)
    started, tokens = time.perf_counter(), 0
    for step in range(steps + WARM_UP_STEPS):
        if step == WARM_UP_STEPS:
            started, tokens = time.perf_counter(), 0
        batch = windows.batch(step)
        logits = model(torch.from_numpy(batch.ids))
        loss = F.cross_entropy(logits.reshape(-1, shape.vocab), torch.from_numpy(batch.targets))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.tokens
    return tokens / (time.perf_counter() - started)
