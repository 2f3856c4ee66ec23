"""Training on one accelerator, in a few minutes: how near the peak, and whether every strategy takes a step.

    python -m train_jobs.benchmarks.gpu        the same as `plinth bench train --gpu`; no cluster, no store

bf16 autocast with torch.compile, a 125M and a 1B model at 2,048 tokens against the ceiling of a matrix product that is
measured in the same run; one step under FSDP2 and under ZeRO-3; the first losses equal to the CPU's; vLLM, where it is
installed, answering with the weights. A part that fails is reported as such and the rest goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec
from train_jobs.planning.flops import flops_per_token, listed_peak, measured_peak
from train_jobs.planning.sizes import Sizes

CONTEXT = 2048
MODELS = {
    "125M": (Shape(32_000, 768, 12, 12, 12, 2048, CONTEXT), 32, 20),
    "1B": (Shape(32_000, 2048, 20, 16, 16, 5632, CONTEXT), 8, 10),
}  # shape, rows of a step, timed steps
SMALL = Shape(1024, 256, 4, 4, 2, 704, 256)
SAME_STEPS, SAME = 5, 1e-3  # relative difference of float32 losses, GPU against CPU
BUDGET_S = 460.0


def no_gpu() -> str:
    """Why nothing can be measured here; empty where a GPU is."""
    import torch

    return "" if torch.cuda.is_available() else "no GPU"


def measure(say: Callable[[str], None], device: str = "cuda") -> dict[str, Any]:
    """All parts, each with its seconds; those for which no time is left are named as not run."""
    import torch

    began = time.monotonic()
    torch.set_float32_matmul_precision("highest")
    name = torch.cuda.get_device_name(device)
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "listed_peak": listed_peak(name)}
    peak = measured_peak(device, "bf16", seconds=2.0)
    found["matmul_peak"] = peak
    say(f"{name}: matrix products in bf16 reach {peak / 1e12:.0f} TFLOP/s")
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "same_losses_as_cpu": lambda: same_losses(device),
        "125M": lambda: speed(*MODELS["125M"], peak, device),
        "1B": lambda: speed(*MODELS["1B"], peak, device),
        "fsdp2": lambda: one_step_fsdp2(MODELS["125M"][0], device),
        "zero3": lambda: one_step_zero3(MODELS["125M"][0], device),
        "vllm": lambda: vllm_answers(device),
    }
    for part, run in work.items():
        if time.monotonic() - began > BUDGET_S * 0.85:
            found[part] = {"not_run": "no time left"}
            continue
        started = time.monotonic()
        try:
            found[part] = run()
        except (RuntimeError, ImportError, AssertionError, ValueError, OSError) as error:
            found[part] = {
                "failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
            }
        found[part]["seconds"] = round(time.monotonic() - started, 1)
        say(f"{part}: {json.dumps(found[part])}")
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def speed(shape: Shape, rows: int, steps: int, peak: float, device: str, compiled: bool = True) -> dict[str, Any]:
    """Tokens per second and MFU of bf16 autocast over float32 weights, blocks compiled one by one."""
    import torch

    spec = LlamaSpec(shape)
    model = spec.build(0, device)
    started = time.perf_counter()
    if compiled:
        for block in spec.blocks(model):
            block.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    windows = torch.randint(0, shape.vocab, (rows, shape.context + 1), device=device)
    first = _step(model, optimizer, windows, device)
    for _ in range(2):
        _step(model, optimizer, windows, device)
    _finish(device)
    warm = time.perf_counter() - started
    _reset_peak(device)
    began = time.perf_counter()
    for _ in range(steps):
        last = _step(model, optimizer, windows, device)
    _finish(device)
    took = time.perf_counter() - began
    rate = steps * rows * shape.context / took
    each = flops_per_token(Sizes.of(shape), shape.context)
    return {
        "parameters": shape.parameters, "tokens_per_step": rows * shape.context, "tokens_per_s": round(rate),
        "mfu": round(rate * each / peak, 3), "warm_up_s": round(warm, 1), "first_loss": round(float(first), 4),
        "last_loss": round(float(last), 4), "peak_memory_mb": _peak_mb(device),
    }  # fmt: skip


def same_losses(device: str) -> dict[str, Any]:
    """The first float32 losses of a small model from the same weights and tokens, on the CPU and on the device."""
    import torch

    windows = torch.randint(
        0, SMALL.vocab, (SAME_STEPS, 4, SMALL.context + 1), generator=torch.Generator().manual_seed(1)
    )
    losses: dict[str, list[float]] = {}
    weights = LlamaSpec(SMALL).build(0).state_dict()
    for where in ("cpu", device):
        model = LlamaSpec(SMALL).build(0).to(where)
        model.load_state_dict(weights)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        losses[where] = [float(_step(model, optimizer, w.to(where), where, half=False)) for w in windows]
    away = max(abs(a - b) / a for a, b in zip(losses["cpu"], losses[device], strict=True))
    return {"losses": [round(v, 5) for v in losses[device]], "largest_difference": away, "equal": away < SAME}


def one_step_fsdp2(shape: Shape, device: str) -> dict[str, Any]:
    """Two steps under ``fully_shard`` in bf16: the blocks one by one, then the rest; the loss must fall."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    with _alone(device):
        spec = LlamaSpec(shape)
        model = spec.build(0, device)
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        for block in spec.blocks(model):
            fully_shard(block, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        windows = torch.randint(0, shape.vocab, (4, shape.context + 1), device=device)
        first, second = (float(_step(model, optimizer, windows, device, half=False)) for _ in range(2))
        return {"losses": [round(first, 4), round(second, 4)], "fell": second < first, "memory_mb": _peak_mb(device)}


def one_step_zero3(shape: Shape, device: str) -> dict[str, Any]:
    """Two steps of DeepSpeed's ZeRO-3 in bf16; the loss must fall."""
    import torch

    if importlib.util.find_spec("deepspeed") is None:
        return {"not_run": "deepspeed is not installed"}
    import deepspeed

    with _alone(device):
        model = LlamaSpec(shape).build(0, device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        settings = {
            "train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 3}, "bf16": {"enabled": True},
            "gradient_clipping": 1.0, "zero_allow_untested_optimizer": True,
        }  # fmt: skip
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
        windows = torch.randint(0, shape.vocab, (4, shape.context + 1), device=device)
        losses = []
        for _ in range(2):
            loss = _loss(engine, windows)
            engine.backward(loss)
            engine.step()
            losses.append(round(float(loss), 4))
        return {"losses": losses, "fell": losses[1] < losses[0], "memory_mb": _peak_mb(device)}


def vllm_answers(device: str) -> dict[str, Any]:
    """vLLM loads a folder with the small model's weights and writes tokens, where it is installed."""
    if importlib.util.find_spec("vllm") is None:
        return {"not_run": "vllm is not installed"}
    from safetensors.torch import save_file
    from vllm import LLM, SamplingParams

    shape = dataclasses.replace(SMALL, heads=4, kv_heads=4)
    spec = LlamaSpec(shape)
    del device
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        state = {name: w.detach().contiguous() for name, w in spec.build(0).named_parameters()}
        save_file(spec.to_hugging_face(state), where / "model.safetensors", metadata={"format": "pt"})
        (where / "config.json").write_text(json.dumps(spec.config(1, 2, 0)))
        engine = LLM(folder, skip_tokenizer_init=True, gpu_memory_utilization=0.2, enforce_eager=True)
        prompts = [{"prompt_token_ids": list(range(3, 20))}]
        (reply,) = engine.generate(prompts, SamplingParams(max_tokens=16, temperature=0.0, detokenize=False))
        return {"tokens": len(reply.outputs[0].token_ids)}


def _loss(model: Any, windows: Any) -> Any:
    import torch.nn.functional as F  # noqa: N812

    logits = model(windows[:, :-1].contiguous())
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), windows[:, 1:].reshape(-1))


def _step(model: Any, optimizer: Any, windows: Any, device: str, half: bool = True) -> Any:
    """Forward, backward, optimizer; returns the loss, not read to the host."""
    import torch

    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=half):
        loss = _loss(model, windows)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


@contextlib.contextmanager
def _alone(device: str) -> Iterator[None]:
    """A process group of this process alone, which the sharded strategies want."""
    import torch.distributed as dist

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0",
        GLOO_SOCKET_IFNAME="lo", NCCL_SOCKET_IFNAME="lo",
    )  # fmt: skip
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _finish(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device: str) -> float:
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 2**20, 1) if device.startswith("cuda") else 0.0


if __name__ == "__main__":
    missing = no_gpu()
    print(f"not run: {missing}" if missing else json.dumps(measure(lambda text: print(text, flush=True)), indent=1))
