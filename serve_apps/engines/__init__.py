"""What runs model tiers: one file per engine behind one protocol. No ray; the heavy libraries load in ``start``."""

from __future__ import annotations

import logging
from pathlib import Path

from cluster.core.sections.serve import ServeSection
from serve_apps.engines.openvino_engine import OpenVinoEngine, model_folder
from serve_apps.engines.protocol import Engine
from serve_apps.engines.transformers_engine import TransformersEngine

log = logging.getLogger(__name__)


def load_engine(section: ServeSection, folder: Path) -> Engine:
    """The configured engine for a published model, not started.

    A model that could not be converted (another architecture) has no ``openvino`` folder and runs on transformers,
    whatever ``serve.engine`` says; ``Capabilities.engine`` tells.
    """
    if section.engine == "transformers":
        return TransformersEngine(folder, section.engine_threads)
    if model_folder(folder) is None:
        log.warning("%s holds no converted model: transformers runs it", folder)
        return TransformersEngine(folder, section.engine_threads)
    return OpenVinoEngine(folder, section.engine_threads, section.engine_precision, section.engine_cache_mb)
