"""A plan over the small corpus with its data in place, for tests that run the loop in this process."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from typing import Any

import numpy as np
from safetensors.numpy import save

from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, example_rows
from train_jobs.data.batches import encode_examples
from train_jobs.data.tokenizer import fit
from train_jobs.launch import OBJECTIVE
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec
from train_jobs.trainer.plan import RunPlan, Stage

TOKENIZER = fit(iter(documents()), SECTION.vocab_size)


def make_plan(
    store: Store, key: str = "run", stage: Stage = "pretrain", section: TrainSection = SECTION, **changes: Any
) -> RunPlan:
    """A plan whose data lies in ``staging/<key>``; ``changes`` are fields of it."""
    folder = store.staging(key)
    if stage == "pretrain":
        ids = [t for d in documents() for t in (1, *TOKENIZER.encode(d.text).ids, 2)]
        stream = np.array(ids, dtype=np.int32)
        arrays = {"train": stream[:-800], "held_out": stream[-800:]}
    else:
        arrays = {}
        for seed, side in enumerate(("train", "held_out")):
            encoded, _ = encode_examples(example_rows(120, seed), TOKENIZER, section.context_tokens)
            arrays |= {f"{side}.{name}": array for name, array in encoded.items()}
    body = save(arrays)
    path = f"{folder}/data.safetensors"
    store.write(path, body)
    plan = RunPlan(
        stage=stage, objective=OBJECTIVE[stage], run_id=f"{stage}-{key}", store=store.uri, folder=folder, data=path,
        data_sha256=hashlib.sha256(body).hexdigest(), initial="", initial_files={},
        model=LlamaSpec(Shape.of(section, TOKENIZER.get_vocab_size())), pad=0, batch_tokens=section.batch_tokens,
        optimizer=section.optimizer, learning_rate=section.learning_rate, seed=section.seed, steps=section.steps,
        passes=0, budget_s=60.0,
        started_at=time.time(), checkpoint_s=section.checkpoint_s, precision="fp32", **RunPlan.loop_settings(section),
    )  # fmt: skip
    return dataclasses.replace(plan, **changes)
