"""OpenVINO GenAI's continuous batching behind the engine protocol: the fast engine on CPUs.

Requests are admitted only while the key/value blocks of all of them, at their longest, fit the cache. So the scheduler
never has to preempt one or to drop it for want of memory (it drops without an error: status IGNORED).
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.errors import BadInputError, IntegrityError
from serve_apps.engines.protocol import Capabilities
from serve_apps.engines.stream import Request
from serve_apps.engines.worker import EngineThread
from serve_apps.errors import UnavailableError

if TYPE_CHECKING:
    from openvino_genai import GenerationConfig

MODEL_FILE = "openvino_model.xml"
KV_BLOCK = 32  # tokens in one block of the CPU plugin's paged attention
MAX_CONCURRENT = 64
BATCH_TOKENS = 1024  # prompt and new tokens of one step together
log = logging.getLogger(__name__)


def model_folder(folder: Path) -> Path | None:
    """The folder of the converted model: ``openvino`` below a published model, or the folder itself."""
    return next((path for path in (folder / "openvino", folder) if (path / MODEL_FILE).exists()), None)


class OpenVinoEngine(EngineThread):
    """Runs what ``train_jobs/export`` wrote.

    Args:
        folder: a published model, or a converted one.
        threads: CPU threads of the matrix products.
        precision: ``bf16`` (key/value cache in 8 bits; float32 products where the CPU has no bf16), or ``f32``, in
            which greedy tokens equal those of transformers.
        cache_mb: most memory of the key/value cache (MiB).
    """

    def __init__(self, folder: Path, threads: int = 2, precision: str = "bf16", cache_mb: int = 512) -> None:
        super().__init__(f"openvino:{folder.name}")
        self.folder, self.threads, self.precision, self.cache_mb = folder, threads, precision, cache_mb
        self._pipeline: Any = None
        self._handles: dict[int, Any] = {}
        self._blocks: dict[int, int] = {}  # reserved by each admitted request
        self._all_blocks = 0

    def _open(self) -> Capabilities:
        folder = model_folder(self.folder)
        if folder is None:
            raise BadInputError(f"{self.folder} holds no converted model ({MODEL_FILE}): publish the model again")
        config = _read_config(folder)
        exact = self.precision == "f32"
        block_bytes = _block_bytes(config, 4 if exact else 1)
        context = int(config["max_position_embeddings"])
        affordable = self.cache_mb * (1 << 20) // block_bytes
        self._all_blocks = min(affordable, MAX_CONCURRENT * _blocks(context))
        if self._all_blocks < _blocks(context):
            context = max(1, (self._all_blocks - 1) * KV_BLOCK)
            log.warning("%s: the cache of %d MiB holds %d tokens only", self.name, self.cache_mb, context)

        import openvino
        from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

        bf16 = not exact and "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        scheduler = SchedulerConfig()
        scheduler.num_kv_blocks = self._all_blocks
        scheduler.max_num_seqs = MAX_CONCURRENT
        scheduler.max_num_batched_tokens = BATCH_TOKENS
        scheduler.enable_prefix_caching = True
        properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # two replicas would pin their threads to the same cores
        }
        if exact:
            properties["KV_CACHE_PRECISION"] = "f32"
        try:
            self._pipeline = ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)
        except RuntimeError as error:
            raise IntegrityError(f"OpenVINO cannot load {folder}: {error}", path=str(folder)) from error
        return Capabilities(
            engine="openvino", precision="bf16" if bf16 else "f32", context_tokens=context,
            vocab=int(config["vocab_size"]), concurrent=MAX_CONCURRENT,
        )  # fmt: skip

    def _admit(self, request: Request) -> bool:
        import numpy as np
        import openvino

        blocks = _blocks(len(request.ids) + request.sampling.max_new_tokens)
        if len(self._handles) >= MAX_CONCURRENT or sum(self._blocks.values()) + blocks > self._all_blocks:
            return False
        ids = openvino.Tensor(np.array([request.ids], dtype=np.int64))
        self._handles[request.number] = self._pipeline.add_request(request.number, ids, _generation_config(request))
        self._blocks[request.number] = blocks
        return True

    def _step(self, running: Sequence[Request]) -> None:
        self._pipeline.step()  # releases the interpreter lock
        for request in running:
            handle = self._handles[request.number]
            while handle.can_read():
                for output in handle.read().values():
                    request.emit(output.generated_ids)
            if not request.over and handle.get_status().name != "RUNNING":
                request.error = UnavailableError(f"engine {self.name} dropped a request: {handle.get_status().name}")

    def _drop(self, request: Request) -> None:
        handle = self._handles.pop(request.number)
        del self._blocks[request.number]
        if handle.get_status().name == "RUNNING":
            handle.cancel()
            if not self._handles and self._pipeline.has_non_finished_requests():
                self._pipeline.step()  # nothing else will step: this is what frees the blocks

    def _close(self) -> None:
        self._handles.clear()
        self._pipeline = None

    def _cache_usage(self) -> float:
        return sum(tuple(self._blocks.values())) / self._all_blocks if self._all_blocks else 0.0


def _blocks(tokens: int) -> int:
    return -(-tokens // KV_BLOCK) + 1


def _block_bytes(config: dict[str, Any], width: int) -> int:
    """Keys and values of one block in all layers; 8-bit caches keep a scale and a zero point per head and token."""
    heads = int(config["num_attention_heads"])
    head = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    row = head * width + (8 if width == 1 else 0)
    return 2 * int(config["num_hidden_layers"]) * int(config.get("num_key_value_heads") or heads) * KV_BLOCK * row


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        for key in ("vocab_size", "max_position_embeddings", "num_attention_heads", "hidden_size", "num_hidden_layers"):
            int(config[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{folder}/config.json is no configuration of a decoder: {error!r}") from error
    return config


def _generation_config(request: Request) -> GenerationConfig:
    from openvino_genai import GenerationConfig

    sampling, config = request.sampling, GenerationConfig()
    config.max_new_tokens = sampling.max_new_tokens
    if sampling.stop_ids:
        # The pipeline would fill in the model's own end-of-text id where none is set.
        config.eos_token_id = min(sampling.stop_ids)
        config.stop_token_ids = set(sampling.stop_ids)
    else:
        config.ignore_eos = True
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        config.temperature, config.top_p = sampling.temperature, sampling.top_p
        config.rng_seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return config
