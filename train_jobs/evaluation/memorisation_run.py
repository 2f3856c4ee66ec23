"""The memorisation audit of a published model: its weights, its corpus, and the report as an artefact."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.registry import audits
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Manifest, stable_hash
from cluster.core.storage import Store
from train_jobs.evaluation.generate import load_causal
from train_jobs.evaluation.memorisation import Canary, Continue, Score, audit

REPORT = "memorization.json"
BATCH = 16
AS_IT_IS: dict[str, Any] = {"add_special_tokens": False, "verbose": False}  # a long text is cut later: no warning


def audit_model(
    config: PlinthConfig, store: Store, model: Manifest, dataset: Manifest | None, canaries: Sequence[Canary],
    documents: int, cache: Path, progress: Progress,
) -> tuple[Manifest, dict[str, Any]]:  # fmt: skip
    """Audit a model, or a checkpoint, against the dataset it was trained on; publishes ``audits/<its name>``.

    Args:
        dataset: None takes the one its manifest names.
        documents: most documents of each side that are continued.
        cache: a folder for a copy of the model where the store is not local.

    Raises:
        BadInputError: no dataset is known, or the folder holds no causal model.
    """
    from data_jobs.corpus.tokens import document_text
    from train_jobs.data.batches import read_documents

    if dataset is None:
        reference = model.inputs.get("dataset", "")
        if not reference:
            raise BadInputError(f"{model.name}@{model.version} does not name its dataset: give --dataset")
        name, _, version = reference.partition("@")
        dataset = store.manifest("datasets", name, version)
    tokenizer, score, go_on = load(store.fetch(model, cache))
    sides: dict[bool, list[list[int]]] = {False: [], True: []}
    progress.stage("read documents")
    for read in read_documents(store, dataset, config.train.held_out):
        side = sides[read.held_out]
        if len(side) < documents:
            side.append(tokenizer(document_text(read.document), **AS_IT_IS)["input_ids"])
        if all(len(found) >= documents for found in sides.values()):
            break
    progress.stage("continue documents and score canaries")
    report = audit(canaries, score, sides[False], sides[True], go_on)
    inputs = {"model": f"{model.name}@{model.version}", "dataset": f"{dataset.name}@{dataset.version}"}
    report = {**inputs, **report}
    key = stable_hash({"stage": "memorization", "report": report})
    folder = store.staging(f"audit-{key}")
    store.write(posixpath.join(folder, REPORT), json.dumps(report, indent=1).encode())
    made = store.publish(audits.KIND, model.name, folder, run_key=key, inputs=inputs, counts=numbers(report))
    audits.record(store, model, made)  # where the card and the gate find it
    return made, report


def numbers(report: dict[str, Any]) -> dict[str, float]:
    """What a gate may hold against limits: exposures in bits, verbatim rates."""
    found: dict[str, float] = {}
    if "exposure" in report:
        found |= {"exposure_max": report["exposure"]["max"], "exposure_mean": report["exposure"]["mean"]}
    for side in ("train", "held_out"):
        if report["verbatim"][side]["rate"] is not None:
            found[f"verbatim_{side}"] = report["verbatim"][side]["rate"]
    if "excess" in report["verbatim"]:
        found["verbatim_excess"] = report["verbatim"]["excess"]
    return found


def load(folder: Path) -> tuple[Any, Score, Continue]:
    """The tokenizer of a Hugging Face folder and the two functions that an audit asks of its model.

    Raises:
        BadInputError: as ``load_causal``.
    """
    import torch

    tokenizer, model, pad = load_causal(folder, len(os.sched_getaffinity(0)))

    def score(texts: list[str]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(texts), 4 * BATCH):
            rows = [tokenizer(text, **AS_IT_IS)["input_ids"] for text in texts[start : start + 4 * BATCH]]
            width = max(map(len, rows))
            ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
            real = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows])
            with torch.inference_mode():
                logs = model(ids).logits[:, :-1].float().log_softmax(-1)
            each = logs.gather(-1, ids[:, 1:, None]).squeeze(-1)
            found += (-(each * real[:, 1:]).sum(dim=1)).tolist()
        return found

    def go_on(prompts: list[list[int]], length: int) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(prompts), BATCH):
            ids = torch.tensor(prompts[start : start + BATCH])
            with torch.inference_mode():
                made = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, min_new_tokens=length,
                    do_sample=False, pad_token_id=pad,
                )  # fmt: skip
            found += made[:, ids.shape[1] :].tolist()
        return found

    return tokenizer, score, go_on
