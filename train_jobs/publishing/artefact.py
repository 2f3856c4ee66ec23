"""A finished run becomes a published checkpoint: a Hugging Face folder that loads without this project."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.core.errors import PlinthError
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.lineage.labels import labels_behind
from train_jobs.data import certificate
from train_jobs.data.tokenizer import FILES as TOKENIZER_FILES
from train_jobs.data.tokenizer import special_ids
from train_jobs.models import lora
from train_jobs.models.lora import LoraSpec
from train_jobs.models.weights import weight_files
from train_jobs.trainer.plan import RunPlan

if TYPE_CHECKING:
    from train_jobs.trainer.checkpoint import Checkpoint, TrainState

KIND = "checkpoints"
ALIAS = "latest"
METRICS, TRAINING = "metrics.jsonl", "training.json"


@dataclass(frozen=True)
class Provenance:
    """What a checkpoint is made of and under which name it is published.

    Attributes:
        name: of the artefact; key: the run's key.
        tokenizer: the artefact whose tokenizer files go along (a tokenizer, or the base checkpoint).
        inputs: versions of what went in.
        settings: the resolved configuration of the stage.
        counts: what the data preparation counted.
        earlier: rows of metrics.jsonl of the checkpoint this one goes on from.
    """

    name: str
    key: str
    tokenizer: Manifest
    inputs: dict[str, str]
    settings: dict[str, Any]
    counts: dict[str, Any]
    earlier: list[dict[str, Any]]


def publish(store: Store, plan: RunPlan, made: Provenance, workers: int) -> Manifest:
    """Publish the finished checkpoint in the run's folder and remove the folder.

    Raises:
        PlinthError: the run's last checkpoint is damaged or not its end.
        EnvironmentFaultError: the store cannot be written.
    """
    from train_jobs.trainer import checkpoint

    last = checkpoint.latest(store, plan.folder)
    if last is None or not last.state.finished:
        raise PlinthError(
            f"the last checkpoint of {plan.run_id} was damaged: run the same command again to redo its end"
        )
    folder = posixpath.join(plan.folder, "artefact")
    if store.exists(folder):
        store.fs.rm(folder, recursive=True)
    summary = summarise(plan, made, last.state, workers)
    for name, body in files_of(store, plan, made, last, summary).items():
        store.write(posixpath.join(folder, name), body)
    inputs = made.inputs | _publish_adapter(store, plan, made, last)
    kept = (
        "steps",
        "tokens",
        "seconds",
        "seconds_per_step",
        "tokens_per_s",
        "parameters",
        "train_loss",
        "held_out_loss",
        "held_out_accuracy",
    )
    counts = {**made.counts, **{name: summary[name] for name in kept if summary.get(name) is not None}}
    counts |= labels_behind(store, inputs)
    manifest = store.publish(
        KIND, made.name, folder, run_key=made.key, inputs=inputs, config=made.settings, counts=counts
    )
    store.fs.rm(plan.folder, recursive=True)
    return manifest


def _publish_adapter(store: Store, plan: RunPlan, made: Provenance, last: Checkpoint) -> dict[str, str]:
    """Publish what was trained beside the base as ``adapters/<name>``, where adapters were; the input it becomes."""
    if not isinstance(plan.model, LoraSpec):
        return {}
    folder, key = posixpath.join(plan.folder, "adapter"), f"{made.key}-adapter"
    if store.exists(folder):
        store.fs.rm(folder, recursive=True)
    for name, body in plan.model.adapter_files(last.tensors()).items():
        store.write(posixpath.join(folder, name), body)
    counts = {"rank": plan.model.rank, "alpha": plan.model.alpha, **labels_behind(store, made.inputs)}
    found = store.find_run(key) or store.publish(
        lora.KIND, made.name, folder, run_key=key, inputs=made.inputs, config=made.settings, counts=counts
    )
    store.move_alias(lora.KIND, made.name, ALIAS, found.version, why=f"run {made.key}")
    return {"adapter": f"{made.name}@{found.version}"}


def files_of(
    store: Store, plan: RunPlan, made: Provenance, last: Checkpoint, summary: dict[str, Any]
) -> dict[str, bytes]:
    """The files of the folder by name; ``summary`` becomes training.json."""
    from tokenizers import Tokenizer

    from train_jobs.trainer.initial import whole_weights

    source = store.artefact(made.tokenizer)
    tokenizer = {name: store.read(posixpath.join(source, name)) for name in TOKENIZER_FILES}
    bos, eos, pad = special_ids(Tokenizer.from_str(tokenizer["tokenizer.json"].decode()))
    generation = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad, "do_sample": False}
    rows = [*made.earlier, *last.state.rows]
    return {
        "config.json": _json(plan.model.config(bos, eos, pad)),
        "generation_config.json": _json(generation),
        **dict(weight_files(plan.model.to_hugging_face(whole_weights(plan, store, last)))),
        **tokenizer,
        **certificate.files_of(plan, store, last.state.step),
        METRICS: "".join(json.dumps(row) + "\n" for row in rows).encode(),
        TRAINING: _json(summary),
    }


def summarise(plan: RunPlan, made: Provenance, state: TrainState, workers: int) -> dict[str, Any]:
    """training.json: hyperparameters, what was done, parents."""
    held_out = [row for row in state.rows if row.get("held_out_loss") is not None]
    trained = [row["train_loss"] for row in state.rows if row.get("train_loss") is not None]
    return {
        "stage": plan.stage,
        "config": made.settings,
        "shape": plan.model.to_dict(),
        "parameters": plan.model.parameters,
        "learning_rate": plan.learning_rate,
        "precision": state.precision,
        "workers": workers,
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": round(state.elapsed_s, 2),
        "seconds_per_step": round(state.counted_s / max(1, state.step), 4),
        "startup_seconds": round(state.startup_s, 2),
        "tokens_per_s": round(state.tokens / max(1e-9, state.elapsed_s)),
        "train_loss": trained[-1] if trained else None,
        "held_out_loss_at_start": held_out[0]["held_out_loss"] if held_out else None,
        "held_out_loss": held_out[-1]["held_out_loss"] if held_out else None,
        "held_out_accuracy": held_out[-1].get("held_out_accuracy") if held_out else None,
        "data": made.counts,
        "parents": made.inputs,
    }


def read_rows(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """metrics.jsonl of a published checkpoint; empty where it has none."""
    path = posixpath.join(store.artefact(manifest), METRICS)
    return [json.loads(line) for line in store.read(path).decode().splitlines()] if store.exists(path) else []


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
