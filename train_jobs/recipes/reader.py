"""A reader: whether a window of text answers a question, and where, learnt from labelled windows.

It starts from an embedder's weights (all of its layers, or the lower ones) or from a reader. Held-out rows, whole
documents of them, calibrate it; the artefact says what it learnt and how often it is wrong, and is what
``data_jobs.retrieval.reader.load_reader`` takes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.retrieval import reading
from data_jobs.retrieval.bert import packed, unpacked
from data_jobs.retrieval.model_files import find_model
from data_jobs.retrieval.reading import ABOUT, SHIPPED, SHIPPED_FOLDER, TYPES, Encoded, Limits, encode
from train_jobs.data.batches import Arrays
from train_jobs.data.texts import flat, part
from train_jobs.models.encoders import EncoderSpec
from train_jobs.objectives.reading import NO_SPAN, Pages
from train_jobs.recipes.calibration import probabilities, report
from train_jobs.recipes.encoder_folder import EncoderFolder, find_encoder
from train_jobs.recipes.rows import BadRowError, Row, Rows, read_rows, text_of
from train_jobs.recipes.training import (
    KEY_INSIDE,
    KEY_OUTSIDE,
    Finished,
    Training,
    begin,
    carry_out,
    request,
    steps_over,
)  # fmt: skip
from train_jobs.trainer.unfinished import CodeChange

if TYPE_CHECKING:
    from torch import Tensor

    from train_jobs.launch import TrainingWorkers

KIND = "readers"
KEY = RunKey("reader", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, ROWS, EPOCHS = 1e-4, 32, 2.0
LAYERS = 6  # of the base: with four it is a third faster, and told fewer answers from near misses
KEPT = 0.85  # of the answerable rows that a threshold must keep, where the balanced accuracy is told
COMPARED = 64  # held-out rows that are read again with the published weights
AGREES = 0.03  # mean difference of their probabilities
Scores = npt.NDArray[np.float64]


def train_reader(
    config: PlinthConfig, store: Store, data: str, base: str, name: str, progress: Progress, epochs: float = EPOCHS,
    rate: float = RATE, rows: int = ROWS, layers: int = LAYERS, licence: str = "",
    workers: TrainingWorkers | None = None, code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Train a reader on rows of {question, title?, text, answerable, answer?, document?}; publish ``readers/<name>``.

    Args:
        data: a JSONL file. ``answer`` is a piece of ``text`` or its span [start, end] of characters; rows of one
            ``document`` (default: of one title) are on one side.
        base: ``shipped``, a published reader, or what ``find_encoder`` takes.
        layers: how many of the base's layers are kept, from below.
        licence: of what it learns from, for its card.

    Raises:
        BadInputError: too few good rows.
        PlinthError: what ``find_encoder`` and ``carry_out`` raise.
    """
    section = config.train
    found = read_rows(data, parse, section.held_out, least=4)
    encoder = find_base(store, base)
    inputs = {"data": found.reference, "base": encoder.reference, **({"licence": licence} if licence else {})}
    asked = request(
        KEY, "reading", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate, rows=rows, layers=layers
    )
    if (done := begin(store, asked)) is not None:
        return done
    progress.stage("tokenise")
    spec = spec_of(encoder, layers)
    limits = dataclasses.replace(Limits(), total=min(Limits.total, spec.context))
    arrays = found.arrays(lambda own: arrays_of(own, encoder, limits))
    about = {
        "format": reading.FORMAT, "limits": dataclasses.asdict(limits), "learnt_from": inputs, "licence": licence,
        "rows": len(found.train),
    }  # fmt: skip
    return carry_out(
        Training(
            asked, {**found.counts, **shares(found)}, spec, arrays, encoder.pad, initial(encoder, spec), rate,
            steps_over(section, len(found.train), rows, epochs),
            lambda finished: publication(finished, encoder, part(arrays, "held_out"), about),
            len(found.train), min(rows, len(found.train)), {"rows": rows},
        ),
        section, store, progress, workers,
    )  # fmt: skip


# -- rows --------------------------------------------------------------------------------------------------------------
def parse(row: Mapping[str, Any]) -> Row:
    """A row as ``train_reader`` wants them.

    Raises:
        BadRowError: something is missing or of another kind, or the answer is not in the text.
    """
    question, text = text_of(row, "question"), text_of(row, "text")
    title, document = text_of(row, "title", optional=True), text_of(row, "document", optional=True)
    answerable = row.get("answerable")
    if not isinstance(answerable, bool):
        raise BadRowError("there is no answerable" if answerable is None else "answerable is neither true nor false")
    span = span_of(row.get("answer"), text) if answerable else None
    return {
        "key": document or title or text, "question": question, "title": title, "text": text, "answerable": answerable,
        "span": span,
    }  # fmt: skip


def span_of(answer: Any, text: str) -> tuple[int, int] | None:
    """The characters of the answer in the text; None without one.

    Raises:
        BadRowError: it is not in the text, or neither a text nor a span.
    """
    if answer is None or answer == "":
        return None
    if isinstance(answer, str):
        if (at := text.find(answer)) < 0:
            raise BadRowError("answer is not in the text")
        return at, at + len(answer)
    if isinstance(answer, list) and len(answer) == 2 and all(type(end) is int for end in answer):
        if 0 <= answer[0] < answer[1] <= len(text):
            return answer[0], answer[1]
        raise BadRowError(f"answer is {answer}, and the text has {len(text)} characters")
    raise BadRowError("answer is neither a text nor a span [start, end]")


def arrays_of(rows: list[Row], encoder: EncoderFolder, limits: Limits) -> Arrays:
    """What ``Pages`` takes."""
    pairs = [encode(encoder.files.tokenizer, row["question"], row["title"], row["text"], limits) for row in rows]
    spans = [tokens_of(pair, row["span"]) for pair, row in zip(pairs, rows, strict=True)]
    return {
        **flat([pair.ids for pair in pairs]),
        "types": flat([pair.types for pair in pairs])["ids"],
        "answerable": np.array([row["answerable"] for row in rows], dtype=np.int64),
        "spans": np.array(spans, dtype=np.int64).reshape(-1, 2),
    }


def tokens_of(pair: Encoded, span: tuple[int, int] | None) -> tuple[int, int]:
    """The first and the last token of a span of characters; ``NO_SPAN`` twice without one, and where it was cut."""
    inside = [i for i, (a, b) in enumerate(pair.offsets) if span is not None and a < span[1] and span[0] < b]
    if span is None or not inside or pair.offsets[-1][1] < span[1]:
        return NO_SPAN, NO_SPAN
    return pair.text + inside[0], pair.text + inside[-1]


def shares(rows: Rows) -> dict[str, float]:
    """How many of either side are answerable."""
    sides = (("train", rows.train), ("held_out", rows.held_out))
    return {f"{side}_answerable": round(sum(row["answerable"] for row in own) / len(own), 4) for side, own in sides}


# -- the network's first weights ---------------------------------------------------------------------------------------
def find_base(store: Store, base: str) -> EncoderFolder:
    """``shipped``, a published reader, or what ``find_encoder`` finds."""
    name, _, version = base.partition("@")
    if base == SHIPPED:
        return EncoderFolder(find_model(IndexSection(embedder=str(SHIPPED_FOLDER))), SHIPPED_FOLDER, SHIPPED)
    if "/" not in base and name in store.names(KIND):
        manifest = store.manifest(KIND, name, version or "latest")
        folder = store.fetch(manifest, Home.from_env().root / "cache")
        return EncoderFolder(find_model(IndexSection(embedder=str(folder))), folder, f"{name}@{manifest.version}")
    return find_encoder(store, base)


def spec_of(encoder: EncoderFolder, layers: int) -> EncoderSpec:
    """The reader's network on the lowest layers of an encoder."""
    config = encoder.files.config
    kept = min(layers, int(config["num_hidden_layers"]))
    settings = {**config, "num_hidden_layers": kept, "type_vocab_size": TYPES}
    return EncoderSpec(settings, head="reader", tokens=int(encoder.files.identity["max_tokens"]))


def initial(encoder: EncoderFolder, spec: EncoderSpec) -> dict[str, Tensor]:
    """The base's weights; heads that it does not have are random, token types that it does not have are its own two
    over again."""
    from safetensors.torch import load_file

    read = unpacked(load_file(encoder.files.weights))
    tensors = {name.removeprefix("bert."): tensor for name, tensor in read.items()}
    kinds = "embeddings.token_type_embeddings.weight"
    tensors[kinds] = tensors[kinds].repeat(-(-TYPES // len(tensors[kinds])), 1)[:TYPES]
    first = dict(spec.build(0).named_parameters())
    return {n: (tensors[n] if n in tensors else weight.detach()).float().contiguous() for n, weight in first.items()}


# -- what is published -------------------------------------------------------------------------------------------------
def publication(
    finished: Finished, encoder: EncoderFolder, held_out: Arrays, about: dict[str, Any]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The reader's folder, and what is known of it."""
    from safetensors.torch import save

    weights = packed(finished.weights)
    scores, labels = judged(finished, finished.weights, held_out)
    known = report(np.stack([np.zeros_like(scores), scores], axis=1), labels, ["no", "yes"])
    yes = known["labels"]["yes"]
    counts = {
        **{name: known[name] for name in ("temperature", "ece", "ece_uncalibrated")},
        **({"auc": yes["auc"]} if "auc" in yes else {}), **at_kept(scores, labels),
        "agreement": disagreement(finished, weights, held_out, known["temperature"]),
    }  # fmt: skip
    if counts["agreement"] > AGREES:
        log_event("train", "reader_disagrees", difference=counts["agreement"], wanted=AGREES)
    files = {
        "config.json": json.dumps(finished.plan.model.to_dict()["settings"], indent=1).encode(),
        "tokenizer.json": (Path(encoder.folder) / "tokenizer.json").read_bytes(),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
        ABOUT: json.dumps({**about, "temperature": known["temperature"], "figures": counts}, indent=1).encode(),
        "report.json": json.dumps(known, indent=1).encode(),
    }  # fmt: skip
    return files, counts


def judged(finished: Finished, weights: dict[str, Tensor], rows: Arrays) -> tuple[Scores, npt.NDArray[np.int64]]:
    """Logits and labels of rows, in an order that has nothing to do with length, document or label: ``report`` halves
    them."""
    import torch

    network = finished.plan.model.build(device="cpu")
    network.load_state_dict(weights)
    network.eval()
    pages = Pages(rows, 1, 0, finished.plan.pad)
    with torch.inference_mode():
        found = [network(batch.ids, batch.mask, batch.types)[0].double().numpy() for batch in pages.in_order()]
    logits = np.concatenate(found)
    order = np.random.default_rng(0).permutation(len(logits))
    return logits[order], rows["answerable"][pages.order()][order]


def at_kept(scores: Scores, labels: npt.NDArray[np.int64], kept: float = KEPT) -> dict[str, float]:
    """Balanced accuracy at the highest threshold that keeps that share of the answerable rows, and its two halves."""
    right = np.sort(scores[labels == 1])
    if not len(right) or not (labels == 0).any():
        return {}
    threshold = right[int((1 - kept) * len(right))]
    out = float((scores[labels == 0] < threshold).mean())
    held = float((right >= threshold).mean())
    return {"balanced_accuracy": round((out + held) / 2, 4), "kept": round(held, 4), "refused": round(out, 4)}


def disagreement(finished: Finished, weights: dict[str, Tensor], rows: Arrays, temperature: float) -> float:
    """By how much probabilities change, in the mean, with weights of 8 bits instead of the trained ones."""
    few = {**rows, "starts": rows["starts"][: COMPARED + 1]}
    few |= {name: rows[name][:COMPARED] for name in ("answerable", "spans")}
    both = [judged(finished, found, few)[0] for found in (finished.weights, unpacked(weights))]
    first, second = (probabilities(np.stack([np.zeros_like(s), s], axis=1), temperature)[:, 1] for s in both)
    return round(float(np.abs(first - second).mean()), 5)
