"""A published text classifier (``plinth train classifier``): texts, or pairs of texts, to probabilities of labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cluster.core.errors import BadInputError
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval.model_files import find_model

CLASSIFIER = "classifier.json"
BATCH = 32


class TextClassifier:
    """A classifier out of a folder. Not thread-safe.

    Attributes:
        labels: their names, in the order of the probabilities.
        thresholds: by label, the probability from which on at most 5 % of the other held-out rows were flagged; absent
            where the held-out rows could not tell.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        from data_jobs.retrieval.bert import BertEncoder

        path = folder / CLASSIFIER
        if not path.is_file():
            raise BadInputError(f"{folder} holds no {CLASSIFIER}: it is no classifier", path=str(folder))
        about = json.loads(path.read_text())
        self.labels: list[str] = about["labels"]
        self.temperature, self.thresholds = float(about["temperature"]), dict(about["thresholds"])
        self._files = find_model(IndexSection(embedder=str(folder), document_encoder="same"))
        self._longest = min(int(about["max_tokens"]), int(self._files.identity["max_tokens"]))
        tensors = load_file(self._files.weights)
        self._weight, self._bias = tensors.pop("classifier.weight"), tensors.pop("classifier.bias")
        self._encoder = BertEncoder(self._files.config, tensors, torch.float32, "cpu")

    def probabilities(self, texts: Sequence[str], others: Sequence[str] = ()) -> np.ndarray:
        """Float32 [n, labels], calibrated; ``others`` are the second texts of pairs, as many or none."""
        import torch

        tokenizer = self._files.tokenizer
        tokenizer.enable_truncation(self._longest)
        rows = [e.ids for e in tokenizer.encode_batch(list(zip(texts, others, strict=True)) if others else list(texts))]
        tokenizer.no_truncation()
        found = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for at in range(0, len(order), BATCH):
            chosen = order[at : at + BATCH]
            width = max(len(rows[i]) for i in chosen)
            ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in chosen])
            mask = torch.tensor([[n < len(rows[i]) for n in range(width)] for i in chosen])
            with torch.inference_mode():
                hidden = self._encoder(ids, None if bool(mask.all()) else mask)
                weights = mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * weights).sum(1) / weights.sum(1)
                scores = torch.nn.functional.linear(pooled, self._weight, self._bias) / self.temperature
                found[chosen] = scores.softmax(dim=-1).numpy()
        return found
