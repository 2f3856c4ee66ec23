"""Whether a converted model says, token by token, what transformers says of the checkpoint it was converted from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, IntegrityError

PROBES, PROBE_TOKENS, KV_BLOCK = 8, 32, 32
SMALL = 50_000_000  # parameters


@dataclass(frozen=True)
class Agreement:
    """Greedy tokens of both sides compared.

    Attributes:
        equal: tokens before the first difference, summed over the prompts (what follows a difference has another past).
        total: tokens compared.
        margin: smallest distance between the two highest logits of transformers; near the rounding of float32 (1e-6
            of the logits) a difference says nothing about the conversion.
    """

    equal: int
    total: int
    margin: float

    @property
    def exact(self) -> bool:
        """Whether all compared tokens are the same."""
        return self.equal == self.total


def probes(vocab: int, context: int, new_tokens: int) -> list[list[int]]:
    """Eight prompts of seeded random ids, of 1 to 32 tokens, that leave room for ``new_tokens``."""
    import random

    source = random.Random(0)  # noqa: S311 (not cryptography)
    longest = min(PROBE_TOKENS, context - new_tokens)
    if longest < 1:
        raise BadInputError(f"{new_tokens} new tokens do not fit a context of {context}")
    lengths = [1 + (longest - 1) * n // (PROBES - 1) for n in range(PROBES)]
    return [[source.randrange(vocab) for _ in range(length)] for length in lengths]


def compare(hf_folder: Path, out: Path, prompts: Sequence[Sequence[int]] | None, new_tokens: int) -> Agreement:
    """Greedy continuations by transformers (one by one) and by the converted model (in one continuous batch), in f32.

    Stop tokens are not obeyed, so that every prompt yields ``new_tokens``.
    """
    model, vocab, context = _reference(hf_folder)
    given = probes(vocab, context, new_tokens) if prompts is None else [list(prompt) for prompt in prompts]
    if not given or any(not p or len(p) + new_tokens > context or not 0 <= min(p) <= max(p) < vocab for p in given):
        raise BadInputError(
            f"prompts must be ids below {vocab}, not empty, and fit a context of {context} with {new_tokens} new tokens"
        )
    with _few_threads(model):
        expected = [_greedy(model, prompt, new_tokens) for prompt in given]
    got = _converted(out, given, new_tokens)
    equal = sum(_common(ids, mine) for (ids, _), mine in zip(expected, got, strict=True))
    return Agreement(equal, new_tokens * len(given), min(margin for _, margin in expected))


@contextmanager
def _few_threads(model: Any) -> Iterator[None]:
    """One thread for a small model: its products are too short to share, and waiting threads on a busy machine cost
    twenty times the work."""
    import torch

    before = torch.get_num_threads()
    if model.num_parameters() < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _common(expected: Sequence[int], got: Sequence[int]) -> int:
    for place, (a, b) in enumerate(zip(expected, got, strict=False)):
        if a != b:
            return place
    return min(len(expected), len(got))


def _reference(hf_folder: Path) -> tuple[Any, int, int]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            hf_folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise IntegrityError(f"transformers cannot load {hf_folder}: {error}", path=str(hf_folder)) from error
    return model, int(model.config.vocab_size), int(model.config.max_position_embeddings)


def _greedy(model: Any, prompt: Sequence[int], new_tokens: int) -> tuple[list[int], float]:
    import torch

    ids, past, found, margin = torch.tensor([list(prompt)]), None, [], float("inf")
    with torch.inference_mode():
        for _ in range(new_tokens):
            out = model(input_ids=ids, past_key_values=past, use_cache=True)
            past = out.past_key_values
            best = torch.topk(out.logits[0, -1].double(), 2)
            margin = min(margin, float(best.values[0] - best.values[1]))
            found.append(int(best.indices[0]))
            ids = torch.tensor([[found[-1]]])
    return found, margin


def _converted(out: Path, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    import numpy as np
    import openvino
    from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.num_kv_blocks = sum((len(prompt) + new_tokens) // KV_BLOCK + 2 for prompt in prompts)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    pipeline = ContinuousBatchingPipeline(str(out), scheduler, "CPU", exact)
    config = GenerationConfig()
    config.max_new_tokens, config.do_sample = new_tokens, False
    # Not obeyed; but where none is given the pipeline takes the model's, and refuses models that have none.
    config.set_eos_token_id(0)
    config.ignore_eos = True
    handles = [
        pipeline.add_request(number, openvino.Tensor(np.array([list(prompt)], dtype=np.int64)), config)
        for number, prompt in enumerate(prompts)
    ]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return [list(handle.read_all()[0].generated_ids) for handle in handles]
