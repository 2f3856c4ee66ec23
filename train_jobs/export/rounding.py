"""Weights rounded to what 8 bits hold, so that a model and its conversion in 8 bits are the same model."""

from __future__ import annotations

from pathlib import Path

INT8 = "int8"  # in a model's plinth.json, as ``weights``


def round_weights(folder: Path) -> None:
    """Replace every matrix of a Hugging Face folder's safetensors by the values that ``openvino_graph`` keeps of it:
    whole numbers of 8 bits, times one scale a row."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        for name, weight in tensors.items():
            if weight.ndim == 2:
                scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
                tensors[name] = (np.rint(weight / scale) * scale).astype(np.float32)
        save_file(tensors, path, metadata={"format": "pt"})
