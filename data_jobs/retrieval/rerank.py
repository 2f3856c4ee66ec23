"""An optional second look at the best candidates: a cross-encoder reads question and passage together.

Nogueira and Cho 2019 (Passage Re-ranking with BERT). Any sequence classification model with one output in a local
folder of transformers' layout, or a hub id; safetensors only, no code of the folder is run. It costs one forward pass
of question and passage a candidate, and orders candidates only: scores and what is derived from them stay those of
fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cluster.core.errors import BadInputError
from data_jobs.retrieval.model_files import model_folder

MAX_TOKENS = 512
BATCH = 16


class Reranker(Protocol):
    """Says how well each text answers the question: any scale, higher is better, float32 [texts]."""

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """How well each text answers the question, float32 [len(texts)]; higher is better."""
        ...


class CrossEncoder:
    """See the module; ``load_reranker`` makes one. Not thread-safe."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._limit = min(MAX_TOKENS, int(getattr(model.config, "max_position_embeddings", MAX_TOKENS)))

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """Logits, float32 [texts]; a long pair is cut at the end of its text. Texts run sorted by length."""
        import torch

        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        found = np.zeros(len(texts), dtype=np.float32)
        for at in range(0, len(order), BATCH):
            part = order[at : at + BATCH]
            pairs = self._tokenizer(
                [question] * len(part), [texts[i] for i in part], padding=True, truncation="longest_first",
                max_length=self._limit, return_tensors="pt", split_special_tokens=True,
            )  # fmt: skip
            with torch.inference_mode():
                found[part] = self._model(**pairs).logits[:, 0].float().numpy()
        return found


def load_reranker(name: str) -> Reranker | None:
    """The configured cross-encoder; None for an empty name.

    Raises:
        BadInputError: it is no sequence classification model with one output, or its weights are not safetensors.
        EnvironmentFaultError: a hub id that is neither cached nor reachable.
        UsageError: the name is neither a folder nor a hub id.
    """
    if not name:
        return None
    folder = model_folder(name, "retrieval.reranker")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model, said = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(
            f"retrieval.reranker: {folder} holds no cross-encoder (a sequence classification model as safetensors with "
            f"its tokenizer): {error}"
        ) from error
    if said["missing_keys"]:
        missing = ", ".join(sorted(said["missing_keys"])[:3])
        raise BadInputError(
            f"retrieval.reranker: {folder} is no trained cross-encoder: it has no weights for {missing}"
        )
    if model.config.num_labels != 1:
        raise BadInputError(f"retrieval.reranker: {folder} has {model.config.num_labels} outputs, not one score")
    return CrossEncoder(tokenizer, model.eval())
