"""Other loops over the same model: bare PyTorch, Hugging Face's Trainer, LitGPT's model in its own environment.

Each runs in a process of its own at training's priority and returns tokens per second after its warm-up. None logs,
evaluates or writes checkpoints: what a platform adds is in the ratio to these.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.errors import EnvironmentFaultError
from cluster.core.sections.train import TrainSection
from train_jobs.models.shape import Shape

TIMEOUT_S = 1800


class AbsentError(EnvironmentFaultError):
    """What would be measured is not installed."""


@dataclass(frozen=True)
class Job:
    """What every loop does: ``steps`` timed steps after ``warm_up`` ones, of the same model on random tokens."""

    shape: Shape
    section: TrainSection
    steps: int
    warm_up: int

    @property
    def rows(self) -> int:
        """Windows of one step."""
        return max(1, self.section.batch_tokens // self.shape.context)

    def windows(self) -> npt.NDArray[np.int64]:
        """Token ids of all steps, int64 [steps, rows, context + 1]."""
        rng = np.random.default_rng(self.section.seed)
        return rng.integers(0, self.shape.vocab, (self.steps + self.warm_up, self.rows, self.shape.context + 1))


def side_by_side(loop: Callable[[Job, int], float], job: Job, threads: int, copies: int) -> float:
    """Tokens per second of ``copies`` fresh processes at once, added up.

    Raises:
        AbsentError: the loop's library is not installed.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(copies) as pool:
        return sum(pool.starmap(loop, [(job, threads)] * copies, chunksize=1))


def bare_loop(job: Job, threads: int) -> float:
    """Nothing but forward, backward and optimizer step of our own model."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from train_jobs.models.spec import LlamaSpec

    _settle(threads)
    model = LlamaSpec(job.shape).build(job.section.seed)
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=job.section.learning_rate, betas=(0.9, 0.95), fused=True)
    started = time.perf_counter()
    for step, window in enumerate(job.windows()):
        if step == job.warm_up:
            started = time.perf_counter()
        both = torch.from_numpy(window)
        logits = model(both[:, :-1].contiguous())
        F.cross_entropy(logits.reshape(-1, job.shape.vocab), both[:, 1:].reshape(-1)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return job.steps * job.rows * job.shape.context / (time.perf_counter() - started)


def hugging_face_trainer(job: Job, threads: int) -> float:
    """transformers' Trainer over its LlamaForCausalLM of the same sizes.

    Raises:
        AbsentError: accelerate is not installed, without which it does not start.
    """
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise AbsentError("Hugging Face's Trainer needs the package accelerate") from None
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    _settle(threads)
    config = {k: v for k, v in job.shape.to_hugging_face(1, 2, 0).items() if k not in ("architectures", "torch_dtype")}
    rows = job.windows().reshape(-1, job.shape.context + 1)[:, :-1]
    data = [{"input_ids": row, "labels": row} for row in rows]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=job.rows, max_steps=job.steps + job.warm_up, use_cpu=True,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_num_workers=0,
            learning_rate=job.section.learning_rate, optim="adamw_torch_fused", weight_decay=0.1, max_grad_norm=1.0,
        )  # fmt: skip
        Trainer(LlamaForCausalLM(LlamaConfig(**config)), arguments, train_dataset=data, callbacks=[Clock()]).train()
    return job.steps * job.rows * job.shape.context / (times[-1] - times[job.warm_up - 1])


# Run by a Python that has litgpt: its GPT under its Fabric, as `litgpt pretrain` steps it (forward, its chunked
# cross-entropy, backward, clipping, fused AdamW).
_LITGPT = """
import json, sys, time
import lightning, numpy, torch
from litgpt.model import GPT, Config
from litgpt.utils import chunked_cross_entropy
job = json.load(open(sys.argv[1])); shape = job["shape"]
torch.set_num_threads(job["threads"])
config = Config(
    block_size=shape["context"], vocab_size=shape["vocab"], padded_vocab_size=shape["vocab"], n_layer=shape["layers"],
    n_head=shape["heads"], n_query_groups=shape["kv_heads"], n_embd=shape["hidden"],
    head_size=shape["hidden"] // shape["heads"],
    intermediate_size=shape["mlp"], rotary_percentage=1.0, parallel_residual=False, bias=False,
    norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", norm_eps=shape["norm_eps"])
fabric = lightning.Fabric(accelerator="cpu", devices=1); fabric.launch()
model = GPT(config); model.lm_head.weight = model.transformer.wte.weight
optimizer = torch.optim.AdamW(model.parameters(), lr=job["rate"], betas=(0.9, 0.95), weight_decay=0.1, fused=True)
model, optimizer = fabric.setup(model, optimizer)
windows = numpy.load(sys.argv[2]); started = 0.0
for step, window in enumerate(windows):
    if step == job["warm_up"]:
        started = time.perf_counter()
    both = torch.from_numpy(window)
    loss = chunked_cross_entropy(model(both[:, :-1].contiguous()), both[:, 1:].contiguous())
    fabric.backward(loss)
    fabric.clip_gradients(model, optimizer, max_norm=1.0)
    optimizer.step(); optimizer.zero_grad()
tokens = job["steps"] * windows.shape[1] * shape["context"]
print(tokens / (time.perf_counter() - started))
"""


def litgpt_loop(python: str, job: Job, threads: int) -> float:
    """LitGPT's model and step in its own environment (``python``).

    Raises:
        AbsentError: no such environment, or it does not run there.
    """
    if not python:
        raise AbsentError("LitGPT wants an environment of its own: give its Python with --litgpt")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        rate = job.section.learning_rate
        told = {
            "shape": asdict(job.shape),
            "steps": job.steps,
            "warm_up": job.warm_up,
            "threads": threads,
            "rate": rate,
        }
        (where / "job.json").write_text(json.dumps(told))
        np.save(where / "windows.npy", job.windows())
        words = [python, "-c", _LITGPT, str(where / "job.json"), str(where / "windows.npy")]
        try:
            done = subprocess.run(  # noqa: S603 (the user names the interpreter)
                ["nice", "-n", "10", *words],  # noqa: S607
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AbsentError(f"LitGPT's environment {python} does not run: {error}") from None
    if done.returncode:
        raise AbsentError(f"LitGPT does not run in {python}: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout.split()[-1])


def _settle(threads: int) -> None:
    """Threads and priority as training has them."""
    import torch

    os.nice(max(0, 10 - os.nice(0)))
    torch.set_num_threads(threads)
