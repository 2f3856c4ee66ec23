"""A published checkpoint with random weights over the small corpus."""

from __future__ import annotations

import json

from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.trainer.plans import TOKENIZER
from train_jobs.data.tokenizer import files_of
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec


def make_checkpoint(store: Store, name: str = "tiny-base", **sizes: int) -> Manifest:
    from safetensors.torch import save

    shape = Shape.of(SECTION.model_copy(update=sizes), TOKENIZER.get_vocab_size())
    weights = {n: w.detach().contiguous() for n, w in LlamaSpec(shape).build(1).named_parameters()}
    folder = store.staging(f"checkpoint-{name}")
    files = {
        "config.json": json.dumps(shape.to_hugging_face(1, 2, 0)).encode(),
        "model.safetensors": save(weights, metadata={"format": "pt"}), **files_of(TOKENIZER, shape.context),
    }  # fmt: skip
    for path, body in files.items():
        store.write(f"{folder}/{path}", body)
    made = store.publish("checkpoints", name, folder, run_key=f"checkpoint-{name}", inputs={"tokenizer": "tiny@1"})
    store.move_alias("checkpoints", name, "latest", made.version, why="a test")
    return made
