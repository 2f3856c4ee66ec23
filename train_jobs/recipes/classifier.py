"""A classifier of texts, or of pairs of texts, over a BERT encoder: a safety, injection or answerability head.

The held-out rows calibrate it (temperature) and set its thresholds; the artefact says how often it is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.storage import Store
from data_jobs.retrieval.classifier import CLASSIFIER
from train_jobs.data.batches import Arrays
from train_jobs.data.texts import flat, part
from train_jobs.models.encoders import EncoderSpec
from train_jobs.objectives.classification import LabelledTexts
from train_jobs.recipes.calibration import report
from train_jobs.recipes.encoder_folder import EncoderFolder, find_encoder
from train_jobs.recipes.rows import BadRowError, Row, read_rows, text_of
from train_jobs.recipes.training import (
    KEY_INSIDE,
    KEY_OUTSIDE,
    Finished,
    Training,
    begin,
    carry_out,
    request,
    steps_over,
)
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from train_jobs.launch import TrainingWorkers

KIND = "classifiers"
KEY = RunKey("classifier", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, ROWS, EPOCHS = 5e-5, 16, 3.0
LONGEST = 128  # tokens of a row: what is longer is cut
MOST_LABELS = 1000


def train_classifier(
    config: PlinthConfig, store: Store, data: str, base: str, name: str, progress: Progress, epochs: float = EPOCHS,
    rate: float = RATE, rows: int = ROWS, workers: TrainingWorkers | None = None,
    code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Fine-tune an encoder with a new head on rows of {text, text_pair?, label} and publish ``classifiers/<name>``.

    Raises:
        BadInputError: too few good rows, one label only, or a label that the training side does not have.
        PlinthError: what ``find_encoder`` and ``carry_out`` raise.
    """
    section = config.train
    found = read_rows(data, parse, section.held_out, least=4)
    names = labels_of(found.train, found.held_out, data)
    encoder = find_encoder(store, base)
    inputs = {"data": found.reference, "base": encoder.reference}
    asked = request(KEY, "labels", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate, rows=rows)
    if (done := begin(store, asked)) is not None:
        return done
    progress.stage("tokenise")
    spec = EncoderSpec(encoder.files.config, head="labels", labels=len(names))
    longest = min(LONGEST, spec.context, int(encoder.files.identity["max_tokens"]))
    arrays = found.arrays(lambda texts: arrays_of(texts, names, encoder, longest))
    return carry_out(
        Training(
            asked, {**found.counts, "labels": len(names)}, spec, arrays, encoder.pad, encoder.weights(spec), rate,
            steps_over(section, len(found.train), rows, epochs),
            lambda finished: publication(finished, encoder, part(arrays, "held_out"), names, longest),
            len(found.train), min(rows, len(found.train)), {"rows": rows}, protects=True,
        ),
        section, store, progress, workers,
    )  # fmt: skip


def parse(row: Mapping[str, Any]) -> Row:
    """A row of {text, text_pair?, label}; a label may be a text, a number, true or false.

    Raises:
        BadRowError: something is missing or of another kind.
    """
    label = row.get("label")
    if isinstance(label, bool | int):
        label = str(label).lower()
    if not isinstance(label, str) or not label.strip() or len(label) > 200:
        raise BadRowError("there is no label" if label is None else f"label is {str(label)[:40]!r}, and must be a name")
    text, pair = text_of(row, "text"), text_of(row, "text_pair", optional=True)
    return {"key": text, "text": text, "pair": pair, "label": label}


def labels_of(train: list[Row], held_out: list[Row], data: str) -> list[str]:
    """The names of the labels, sorted.

    Raises:
        BadInputError: there is one only or too many, or held-out rows have one that no row to learn from has.
    """
    names = sorted({row["label"] for row in train})
    unknown = sorted({row["label"] for row in held_out} - set(names))
    if unknown:
        raise BadInputError(f"{data}: the label {unknown[0]!r} is among the held-out rows only: nothing can learn it")
    if not 1 < len(names) <= MOST_LABELS:
        raise BadInputError(f"{data} has {len(names)} labels; a classifier has from 2 to {MOST_LABELS}")
    return names


def arrays_of(rows: list[Row], names: list[str], encoder: EncoderFolder, longest: int) -> Arrays:
    """``ids`` and ``starts`` of the texts, a pair as one, and ``labels``."""
    number = {name: place for place, name in enumerate(names)}
    tokenizer = encoder.files.tokenizer
    tokenizer.enable_truncation(longest)
    texts = tokenizer.encode_batch([(row["text"], row["pair"]) if row["pair"] else row["text"] for row in rows])
    tokenizer.no_truncation()
    labels = np.array([number[row["label"]] for row in rows], dtype=np.int64)
    return {**flat([text.ids for text in texts]), "labels": labels}


def publication(
    finished: Finished, encoder: EncoderFolder, held_out: Arrays, names: list[str], longest: int
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The classifier's folder, and what is known of it."""
    import torch
    from safetensors.torch import save

    network = finished.plan.model.build(device="cpu")
    network.load_state_dict(finished.weights)
    network.eval()
    texts = LabelledTexts(held_out, 1, 0, finished.plan.pad)
    with torch.inference_mode():
        scores = [network(batch.ids, batch.mask).double().numpy() for batch in texts.in_order()]
    labels = np.concatenate([batch.labels.numpy() for batch in texts.in_order()])
    # In an order that has nothing to do with length or label, which the halves of the report would otherwise have.
    order = np.random.default_rng(0).permutation(len(labels))
    known = report(np.concatenate(scores)[order], labels[order], names)
    thresholds = {name: one["threshold"] for name, one in known["labels"].items() if "threshold" in one}
    about = {"labels": names, "temperature": known["temperature"], "thresholds": thresholds, "max_tokens": longest}
    files = {
        **encoder.bodies(), "model.safetensors": save(finished.weights, metadata={"format": "pt"}),
        CLASSIFIER: json.dumps(about, indent=1).encode(), "report.json": json.dumps(known, indent=1).encode(),
    }  # fmt: skip
    counts = {name: known[name] for name in ("temperature", "ece", "ece_uncalibrated")}
    if len(names) == 2:
        kept = ("auc", "threshold", "fpr", "fnr", "tpr_at_fpr")
        counts |= {name: known["labels"][names[1]][name] for name in kept if name in known["labels"][names[1]]}
        counts["positive"] = names[1]
    return files, counts
