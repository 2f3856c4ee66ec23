"""What a run trained on, so that it can be checked: ``order.json`` in the checkpoint.

The order follows from a few numbers (``order.py``); the certificate has them, the versions of the corpora, and the hash
of the sequence of all windows taken. Whoever has it can compute the sequence again, without the data, and see that each
window was taken once an epoch. What learns from rows (examples, a recipe's) has rows in the place of windows; where
their order follows from their lengths, it has these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.core.storage import Store
from train_jobs.data.batches import ByLength
from train_jobs.data.corpora import entries_of, index_path, open_side
from train_jobs.data.order import Order, Places, Share
from train_jobs.data.packing import windows_of
from train_jobs.data.texts import Epochs

if TYPE_CHECKING:
    from train_jobs.trainer.plan import RunPlan

FILE = "order.json"
FORMAT = 1
CHUNK = 1 << 16  # samples whose places are computed at a time


def files_of(plan: RunPlan, store: Store, steps: int) -> dict[str, bytes]:
    """``order.json`` of a run over token shards, or examples, that took ``steps`` steps; nothing for another."""
    if entries_of(plan):
        return {FILE: json.dumps(certify(plan, store, steps), indent=1).encode()}
    if plan.objective == "completion":
        return {FILE: json.dumps(certify_examples(plan, store, steps)).encode()}
    return {}


def certify(plan: RunPlan, store: Store, steps: int) -> dict[str, Any]:
    """The certificate of a run that took ``steps`` steps."""
    entries, context = entries_of(plan), plan.model.context
    indexes = [open_side(store, entry, plan.options["tokenizer_sha256"], "train")[0] for entry in entries]
    windows = [windows_of(index.tokens("train"), context) for index in indexes]
    corpora: list[dict[str, Any]] = [
        {
            "dataset": entry.dataset, "tokens": entry.tokens, "weight": entry.weight, "max_epochs": entry.epochs,
            "index_sha256": hashlib.sha256(store.read(index_path(store, entry))).hexdigest(), "windows": count,
        }
        for entry, count in zip(entries, windows, strict=True)
    ]  # fmt: skip
    rows = max(1, plan.batch_tokens // context)
    order = _order(corpora, plan.seed)
    samples = min(steps * rows, order.samples) if order.samples else steps * rows
    digest, taken = _taken(order, samples)
    for corpus, count in zip(corpora, taken, strict=True):
        corpus |= {"samples": count, "epochs": round(count / corpus["windows"], 4)}
    return {
        "format": FORMAT, "run": plan.run_id, "seed": plan.seed, "context_tokens": context, "rows_per_step": rows,
        "packing": plan.options["packing"], "steps": steps, "samples": samples, "tokens": samples * context,
        "corpora": corpora, "order_sha256": digest,
    }  # fmt: skip


def certify_examples(plan: RunPlan, store: Store, steps: int) -> dict[str, Any]:
    """The certificate of a run over examples that took ``steps`` steps."""
    from safetensors.numpy import load

    lengths = load(store.read(plan.data))["train.lengths"].sum(axis=1)
    order = {"batch_tokens": plan.batch_tokens, "lengths": lengths.tolist()}
    return _certify_rows(plan, steps, order, plan.inputs.get("examples", ""))


def files_of_rows(plan: RunPlan, steps: int, rows: int, rows_per_step: int) -> dict[str, bytes]:
    """``order.json`` of a recipe's run that took ``steps`` steps over rows in epochs (``texts.Epochs``)."""
    order = {"rows": rows, "rows_per_step": rows_per_step}
    dataset = plan.inputs.get("dataset") or plan.inputs.get("data", "")
    return {FILE: json.dumps(_certify_rows(plan, steps, order, dataset)).encode()}


def _certify_rows(plan: RunPlan, steps: int, order: dict[str, Any], dataset: str) -> dict[str, Any]:
    """The certificate of a run over rows whose order follows from ``order`` and the seed."""
    said = {"format": FORMAT, "run": plan.run_id, "seed": plan.seed, "steps": steps, "data_sha256": plan.data_sha256}
    digest, counts = _rows_taken(said | order)
    samples = int(counts.sum())
    corpus = {
        "dataset": dataset, "weight": 1.0, "windows": len(counts), "samples": samples,
        "epochs": round(samples / len(counts), 4),
    }  # fmt: skip
    return said | {"samples": samples, "corpora": [corpus], "order_sha256": digest} | order


def _rows_taken(certificate: dict[str, Any]) -> tuple[str, npt.NDArray[np.int64]]:
    """The hash of the rows of each of its steps, and how often each row was taken."""
    order = _row_order(certificate)
    about = json.dumps([certificate["seed"], certificate.get("lengths", [])])
    digest, counts = hashlib.sha256(about.encode()), np.zeros(order.rows, dtype=np.int64)
    for step in range(certificate["steps"]):
        rows = order.chosen(step)
        digest.update(np.concatenate([[len(rows)], rows]).astype("<i8").tobytes())
        counts[rows] += 1
    return digest.hexdigest(), counts


def _row_order(certificate: dict[str, Any]) -> ByLength | Epochs:
    if "lengths" in certificate:
        lengths = np.array(certificate["lengths"], dtype=np.int64)
        return ByLength(lengths, certificate["batch_tokens"], certificate["seed"])
    return Epochs(certificate["rows"], certificate["rows_per_step"], certificate["seed"])


def _check_rows(certificate: dict[str, Any]) -> list[str]:
    steps, each = certificate["steps"], _row_order(certificate).steps_per_epoch
    digest, counts = _rows_taken(certificate)
    wrong = [] if digest == certificate["order_sha256"] else ["the order's hash is not that of its seed and rows"]
    named = [certificate["samples"], *(corpus["samples"] for corpus in certificate["corpora"])]
    if named != [counts.sum()] * 2:
        wrong.append(f"{steps} steps take {counts.sum()} rows, and the certificate says {named[0]}")
    if counts.min() < steps // each or counts.max() > -(-steps // each):
        wrong.append("a row was not taken once an epoch")
    return wrong


def check(certificate: dict[str, Any]) -> list[str]:
    """What is wrong with a certificate, nothing where it is right: the sequence is computed again, its hash and counts
    compared, and each window, or row, counted in each epoch."""
    if "data_sha256" in certificate:
        return _check_rows(certificate)
    corpora, samples = certificate["corpora"], certificate["samples"]
    order = _order(corpora, certificate["seed"])
    digest, taken = _taken(order, samples)
    wrong = [] if digest == certificate["order_sha256"] else ["the order's hash is not that of its seed and corpora"]
    named = [corpus["samples"] for corpus in corpora]
    if taken != named:
        wrong.append(f"the corpora gave {taken} samples, and the certificate says {named}")
    most = certificate["steps"] * certificate["rows_per_step"]
    if samples != (min(most, order.samples) if order.samples else most):
        wrong.append(f"{certificate['steps']} steps take {most} samples, and the certificate says {samples}")
    return wrong + once_an_epoch(_chunks(order, samples), [corpus["windows"] for corpus in corpora])


def once_an_epoch(places: Iterator[Places], windows: Sequence[int]) -> list[str]:
    """What a sequence of samples repeats or leaves out: every window once in each epoch, of the last one some.

    Args:
        windows: how many an epoch has, of each corpus.
    """
    wrong: list[str] = []
    epochs = [0] * len(windows)
    seen = [np.zeros(count, dtype=np.uint8) for count in windows]
    for part in places:
        for corpus, count in enumerate(windows):
            mine = part.corpus == corpus
            for epoch in np.unique(part.epoch[mine]).tolist():
                if epoch != epochs[corpus]:
                    if epoch != epochs[corpus] + 1 or not (seen[corpus] == 1).all():
                        wrong.append(f"corpus {corpus} left epoch {epochs[corpus]} before each window was taken once")
                    epochs[corpus], seen[corpus][:] = epoch, 0
                window = part.window[mine & (part.epoch == epoch)]
                if len(window) and not (window.min() >= 0 and window.max() < count):
                    wrong.append(f"corpus {corpus} has {count} windows, and others were taken")
                    continue
                np.add.at(seen[corpus], window, 1)
                if (seen[corpus][window] > 1).any():
                    wrong.append(f"a window of corpus {corpus} was taken twice in epoch {epoch}")
                    seen[corpus][window] = 1
    return wrong


def _order(corpora: Sequence[dict[str, Any]], seed: int) -> Order:
    return Order([Share(row["windows"], row["weight"], row["max_epochs"]) for row in corpora], seed)


def _chunks(order: Order, samples: int) -> Iterator[Places]:
    for at in range(0, samples, CHUNK):
        yield order(np.arange(at, min(at + CHUNK, samples)))


def _taken(order: Order, samples: int) -> tuple[str, list[int]]:
    """The hash of the places of the first ``samples`` samples, and how many each corpus gave."""
    digest, taken = hashlib.sha256(), np.zeros(len(order.shares), dtype=np.int64)
    for places in _chunks(order, samples):
        digest.update(np.stack([places.corpus, places.epoch, places.window], axis=1).astype("<i8").tobytes())
        taken += np.bincount(places.corpus, minlength=len(taken))
    return digest.hexdigest(), taken.tolist()
