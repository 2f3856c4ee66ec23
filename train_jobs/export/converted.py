"""A converted model run in this process as the service runs it: what it writes to prompts, and how fast."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.core.errors import IntegrityError
from train_jobs.evaluation.generate import Said

KV_BLOCK = 32
PACE_PROMPT, PACE_NEW, PACE_RUNS = 600, 48, 3


class ConvertedModel:
    """What ``openvino_graph.export`` wrote, on the CPU, with the settings of the service's engine.

    Raises:
        IntegrityError: the engine cannot load it.
    """

    def __init__(self, folder: Path, threads: int, new_tokens: int) -> None:
        import openvino
        from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig
        from transformers import AutoTokenizer

        self.new_tokens = new_tokens
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        scheduler = SchedulerConfig()
        scheduler.num_kv_blocks = 1024  # 32,768 tokens: more than a batch of prompts needs
        settings = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "INFERENCE_NUM_THREADS": threads}
        try:
            self._pipeline = ContinuousBatchingPipeline(str(folder), scheduler, "CPU", settings)
        except RuntimeError as error:
            raise IntegrityError(f"OpenVINO cannot load {folder}: {str(error)[:300]}", path=str(folder)) from error
        self._requests = 0

    def generate(self, prompts: list[str]) -> list[Said]:
        """Greedy completions (special tokens left out), all prompts in one continuous batch."""
        encoded = [self.tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
        made, _ = self._written(encoded, self.new_tokens, obey_end=True)
        return [Said(str(self.tokenizer.decode(ids, skip_special_tokens=True))) for ids in made]

    def pace(self, prompt_tokens: int = PACE_PROMPT, new_tokens: int = PACE_NEW) -> dict[str, float]:
        """Seconds to the first token after a prompt of so many tokens, and tokens a second after it: the best of some
        runs, one at a time, so that what else this machine did counts least."""
        source = random.Random(0)  # noqa: S311 (no secret)
        size = len(self.tokenizer)
        runs = []
        for _ in range(PACE_RUNS):
            prompt = [source.randrange(size) for _ in range(prompt_tokens)]
            began = time.perf_counter()
            _, at = self._written([prompt], new_tokens, obey_end=False)
            runs.append((at[0] - began, (len(at) - 1) / max(at[-1] - at[0], 1e-9)))
        return {
            "prompt_tokens": prompt_tokens,
            "first_token_s": round(min(first for first, _ in runs), 3),
            "tokens_per_s": round(max(rate for _, rate in runs), 1),
        }

    def _written(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, obey_end: bool
    ) -> tuple[list[list[int]], list[float]]:
        """The new ids of each prompt, and when the first prompt's came."""
        import numpy as np
        import openvino
        from openvino_genai import GenerationConfig

        config = GenerationConfig()
        config.max_new_tokens, config.do_sample = new_tokens, False
        config.set_eos_token_id(self.tokenizer.eos_token_id or 0)
        config.ignore_eos = not obey_end or self.tokenizer.eos_token_id is None
        handles = []
        for prompt in prompts:
            self._requests += 1
            tensor = openvino.Tensor(np.array([list(prompt)], dtype=np.int64))
            handles.append(self._pipeline.add_request(self._requests, tensor, config))
        made: list[list[int]] = [[] for _ in prompts]
        at: list[float] = []
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    for output in handle.read().values():
                        made[number].extend(output.generated_ids)
                        at += [time.perf_counter()] * (len(output.generated_ids) if not number else 0)
        return made, at
