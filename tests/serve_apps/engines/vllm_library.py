"""Stands in for vLLM, which needs a GPU: its interface as far as the engine uses it, over transformers on the CPU.

Names, arguments and what they refuse are vLLM's (0.33, v1): unknown arguments are errors, one request id at a time,
deltas of one token, the stop token delivered, abort when the generator is closed or cancelled. Adapters are peft's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from serve_apps.engines.vllm_engine import Library


class OutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class EngineDeadError(Exception): ...


class EngineGenerateError(Exception): ...


@dataclass
class AsyncEngineArgs:
    model: str
    tokenizer: str | None = None
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    load_format: str = "auto"
    generation_config: str = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float = 0.9
    enable_prefix_caching: bool | None = None
    tensor_parallel_size: int = 1
    distributed_executor_backend: str | None = None
    disable_log_stats: bool = False
    enable_log_requests: bool = False
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    detokenize: bool = True
    output_kind: OutputKind = OutputKind.CUMULATIVE

    def __post_init__(self) -> None:
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.temperature < 0.0:
            raise ValueError(f"temperature must be non-negative, got {self.temperature}.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        if self.seed is not None and not -(1 << 63) <= self.seed < 1 << 63:
            raise ValueError("seed does not fit into 64 bits")


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError("id must be > 0")


@dataclass
class AsyncLLM:
    args: AsyncEngineArgs
    model: Any
    model_config: Any
    running: set[str] = field(default_factory=set)
    aborted: list[str] = field(default_factory=list)
    most_together: int = 0
    dead: bool = False
    down: bool = False

    @classmethod
    def from_engine_args(cls, engine_args: AsyncEngineArgs) -> AsyncLLM:
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        asyncio.get_running_loop()  # the real one starts its output handler here
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                engine_args.model, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, SafetensorError, ValueError) as error:
            raise RuntimeError("Engine core initialization failed. See root cause above.") from error
        longest = engine_args.max_model_len or model.config.max_position_embeddings
        config = SimpleNamespace(max_model_len=longest, get_vocab_size=lambda: model.config.vocab_size)
        return cls(engine_args, model, config)

    async def generate(
        self,
        prompt: dict[str, Any],
        sampling_params: SamplingParams,
        request_id: str,
        *,
        lora_request: LoRARequest | None = None,
    ) -> AsyncGenerator[Any, None]:
        if request_id in self.running:
            raise ValueError(f"Request id {request_id} already running.")
        if lora_request is not None and not self.args.enable_lora:
            raise ValueError(f"Got lora_request {lora_request} but LoRA is not enabled!")
        self.running.add(request_id)
        self.most_together = max(self.most_together, len(self.running))
        try:
            async for output in self._generate(prompt["prompt_token_ids"], sampling_params, lora_request):
                yield output
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted.append(request_id)
            raise
        finally:
            self.running.discard(request_id)

    async def _generate(
        self, ids: list[int], asked: SamplingParams, lora: LoRARequest | None
    ) -> AsyncGenerator[Any, None]:
        import torch

        past, new = None, torch.tensor([ids])
        random = torch.Generator().manual_seed(asked.seed or 0)
        for number in range(1, (asked.max_tokens or 1) + 1):
            await asyncio.sleep(0)  # requests take turns, a token each
            if self.dead:
                raise EngineDeadError("EngineCore encountered an issue.")
            with torch.inference_mode():
                out = self._with(lora)(input_ids=new, past_key_values=past, use_cache=True)
            token, past = _chosen(out.logits[0, -1], asked, random), out.past_key_values
            new = torch.tensor([[token]])
            finish = (
                "stop" if token in (asked.stop_token_ids or ()) else "length" if number == asked.max_tokens else None
            )
            if token == self.model.config.eos_token_id and not asked.ignore_eos:
                finish = "stop"
            said = SimpleNamespace(index=0, token_ids=[token], finish_reason=finish)
            yield SimpleNamespace(outputs=[said], finished=finish is not None)
            if finish:
                return

    def _with(self, lora: LoRARequest | None) -> Any:
        from peft import PeftModel

        if lora is None and not isinstance(self.model, PeftModel):
            return self.model
        if lora is not None and not isinstance(self.model, PeftModel):
            self.model = PeftModel.from_pretrained(self.model, lora.lora_path, adapter_name=lora.lora_name).eval()
        if lora is not None and lora.lora_name not in self.model.peft_config:
            self.model.load_adapter(lora.lora_path, lora.lora_name)
        if lora is not None:
            self.model.set_adapter(lora.lora_name)
            return self.model

        def base(**inputs: Any) -> Any:
            with self.model.disable_adapter():
                return self.model(**inputs)

        return base

    def shutdown(self) -> None:
        self.down = True


def _chosen(logits: Any, asked: SamplingParams, random: Any) -> int:
    import torch

    if asked.temperature == 0:
        return int(logits.argmax())
    probabilities, order = torch.softmax(logits.double() / asked.temperature, -1).sort(descending=True)
    kept = probabilities * (probabilities.cumsum(-1) - probabilities < asked.top_p)
    return int(order[torch.multinomial(kept, 1, generator=random)])


def library() -> Library:
    return Library(
        AsyncLLM, AsyncEngineArgs, SamplingParams, LoRARequest, EngineDeadError, EngineGenerateError, OutputKind.DELTA
    )


def with_adapter(folder: Path, name: str, rank: int) -> None:
    """Give a model in a folder an adapter that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(rank)
    adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(folder / "adapters" / name)
    assert json.loads((folder / "adapters" / name / "adapter_config.json").read_text())["r"] == rank
