"""What runs model tiers: one file per engine behind one protocol. No ray; the heavy libraries load in ``start``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from cluster.core.sections.tiers import EngineName, TierOptions
from serve_apps.engines.openvino_engine import OpenVinoEngine, model_folder
from serve_apps.engines.protocol import Engine
from serve_apps.engines.transformers_engine import TransformersEngine
from serve_apps.engines.vllm_engine import VllmEngine

log = logging.getLogger(__name__)


def load_engine(tier: TierOptions, folder: Path) -> Engine:
    """The engine that a tier asks for over a published model; it is not started yet.

    A model that could not be converted (another architecture) has no ``openvino`` folder and runs on transformers,
    whatever the tier asks for; ``Capabilities.engine`` tells.
    """
    return ENGINES[tier.engine](tier, folder)


def _openvino(tier: TierOptions, folder: Path) -> Engine:
    if model_folder(folder) is None:
        log.warning("%s holds no converted model: transformers runs it", folder)
        return _transformers(tier, folder)
    return OpenVinoEngine(folder, tier.threads, tier.precision, tier.cache_mb, tier.max_batch, tier.batch_tokens)


def _transformers(tier: TierOptions, folder: Path) -> Engine:
    return TransformersEngine(folder, tier.threads)


def _vllm(tier: TierOptions, folder: Path) -> Engine:
    return VllmEngine(
        folder, tier.precision, tier.max_batch, tier.batch_tokens, tier.context_tokens, tier.tensor_parallel,
        tier.gpu_memory,
    )  # fmt: skip


# Those that run a model here. Whoever takes `openai` takes a tier and no folder (``openai_engine``).
ENGINES: dict[EngineName, Callable[[TierOptions, Path], Engine]] = {
    "openvino": _openvino,
    "transformers": _transformers,
    "vllm": _vllm,
}
