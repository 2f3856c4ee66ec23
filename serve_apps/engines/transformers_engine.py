"""Plain transformers behind the engine protocol: the reference the fast engine is held to, and what runs architectures
it cannot. One sequence at a time, float32, cancellable between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError, IntegrityError, UnsupportedError
from serve_apps.engines.protocol import Capabilities
from serve_apps.engines.stream import Request
from serve_apps.engines.worker import EngineThread


class TransformersEngine(EngineThread):
    """Runs any causal language model in Hugging Face layout that keeps a key/value cache.

    Args:
        folder: config.json and safetensors; pickles and code of the model's own are refused.
        threads: torch's CPU threads, which are the whole process's.
    """

    def __init__(self, folder: Path, threads: int = 2) -> None:
        super().__init__(f"transformers:{folder.name}")
        self.folder, self.threads = folder, threads
        self._model: Any = None
        self._past: Any = None
        self._next: Any = None  # ids the model has not seen yet, [1, tokens]
        self._random: Any = None

    def _open(self) -> Capabilities:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.set_num_threads(self.threads)
        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
            if getattr(config, "auto_map", None):
                raise UnsupportedError(f"{self.folder} brings code of its own (auto_map), which is never run")
            self._model = AutoModelForCausalLM.from_pretrained(
                self.folder, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                dtype=torch.float32,
            ).eval()  # fmt: skip
        except SafetensorError as error:
            raise IntegrityError(f"{self.folder}: the weights are damaged: {error}", path=str(self.folder)) from error
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            raise BadInputError(f"transformers cannot load {self.folder}: {error}", path=str(self.folder)) from error
        with torch.inference_mode():
            if getattr(self._model(torch.tensor([[0]]), use_cache=True), "past_key_values", None) is None:
                raise UnsupportedError(f"{type(self._model).__name__} keeps no key/value cache to generate with")
        text = config.get_text_config()
        context = getattr(text, "max_position_embeddings", None)
        if not context:
            raise UnsupportedError(f"{self.folder}/config.json does not say how long its context is")
        return Capabilities("transformers", "f32", int(context), int(text.vocab_size), concurrent=1)

    def _admit(self, request: Request) -> bool:
        import torch

        if self._next is not None:
            return False
        self._next = torch.tensor([request.ids])
        self._random = torch.Generator().manual_seed(request.sampling.seed63)
        return True

    def _step(self, running: Sequence[Request]) -> None:
        import torch

        (request,) = running
        with torch.inference_mode():
            out = self._model(input_ids=self._next, past_key_values=self._past, use_cache=True)
            token = self._chosen(out.logits[0, -1], request)
            self._past, self._next = out.past_key_values, torch.tensor([[token]])
        request.emit([token])

    def _chosen(self, logits: Any, request: Request) -> int:
        import torch

        sampling = request.sampling
        if sampling.greedy:
            return int(logits.argmax())
        probabilities, order = torch.softmax(logits.double() / sampling.temperature, -1).sort(descending=True)
        # Nucleus sampling (Holtzman et al. 2020): the smallest set of top tokens whose probabilities reach top_p.
        kept = probabilities * (probabilities.cumsum(-1) - probabilities < sampling.top_p)
        return int(order[torch.multinomial(kept, 1, generator=self._random)])

    def _drop(self, request: Request) -> None:
        self._past = self._next = self._random = None

    def _close(self) -> None:
        self._model = self._past = self._next = None
