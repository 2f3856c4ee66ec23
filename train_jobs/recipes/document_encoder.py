"""A small network that gives documents the vectors of an embedder, about three times as fast: ``document_vectors``.

It is taught on a dataset's documents, cut and embedded as an index does, and published as a folder that
``index.document_encoder`` takes. What Plinth ships for minilm was taught with the same loss by a loop outside this
recipe, which has only been run at toy size (``document_encoder/README.md``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Document, Manifest
from cluster.core.run_keys import RunKey
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from data_jobs.indexing.index_blocks import cut, parts_of, with_enclosing
from data_jobs.retrieval.model_files import TEACHER, ModelFiles
from data_jobs.text.chunks import embedded_text
from train_jobs.data.batches import Arrays, check_documents, read_documents
from train_jobs.data.texts import flat
from train_jobs.models.bert import EMBEDDINGS
from train_jobs.models.encoders import MERGE, SKIPPED, EncoderSpec
from train_jobs.recipes.encoder_folder import EncoderFolder, find_encoder
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

KIND = "document-encoders"
KEY = RunKey("document_encoder", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, ROWS, EPOCHS = 3.5e-4, 32, 3.0
MERGED = 2  # tokens that become one state
# What is not shown: without these a text keeps 62 % of its tokens, and the teacher's own vector of the rest has a
# cosine of .92 with that of the whole. Negations are shown.
FUNCTION_WORDS = (
    "the of and to in a is that for it as was with be by on are at this from or an which have has had been were its "
    "their his her he she they we you i will would can could may might also these those there than then such into "
    "other some any all more most so if but about over between through during each both , . ( ) [ ] : ; - \" ' / s"
)


def train_document_encoder(
    config: PlinthConfig, store: Store, dataset: Manifest, base: str, name: str, progress: Progress,
    epochs: float = EPOCHS, rate: float = RATE, rows: int = ROWS, workers: TrainingWorkers | None = None,
    code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Teach a document encoder the vectors of ``base`` and publish ``document-encoders/<name>``.

    Raises:
        BadInputError: too few documents, or an embedder that does not take the mean of its states.
        PlinthError: what ``find_encoder`` and ``carry_out`` raise.
    """
    section = config.train
    check_documents(section, dataset)
    encoder = find_encoder(store, base)
    if encoder.files.identity["pooling"] != "mean":
        raise BadInputError(f"{encoder.reference} does not take the mean of its states: it cannot be the teacher")
    inputs = {"dataset": f"{dataset.name}@{dataset.version}", "base": encoder.reference}
    asked = request(
        KEY, "document_vectors", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate, rows=rows,
        chunk_tokens=config.index.chunk_tokens,
    )  # fmt: skip
    if (done := begin(store, asked)) is not None:
        return done
    progress.stage("cut into chunks")
    spec = EncoderSpec(
        {**encoder.files.config, MERGE: MERGED, SKIPPED: skipped(encoder.files)}, head="states",
        tokens=int(encoder.files.identity["max_tokens"]),
    )  # fmt: skip
    sides: dict[bool, list[Document]] = {False: [], True: []}
    for read in read_documents(store, dataset, section.held_out):
        sides[read.held_out].append(read.document)
    made = {"train": arrays_of(sides[False], encoder.files, config.index),
            "held_out": arrays_of(sides[True], encoder.files, config.index)}  # fmt: skip
    arrays = {f"{side}.{part}": array for side, found in made.items() for part, array in found.items()}
    texts = len(made["train"]["starts"]) - 1
    return carry_out(
        Training(
            asked, {"texts": texts}, spec, arrays, encoder.pad, encoder.weights(spec), rate,
            steps_over(section, texts, rows, epochs), lambda finished: (files_of(finished, encoder), {}), texts, rows,
            {"rows": rows},
        ),
        section, store, progress, workers,
    )  # fmt: skip


def skipped(files: ModelFiles) -> list[int]:
    """The ids of ``FUNCTION_WORDS`` that a tokenizer has as one token."""
    found = (files.tokenizer.token_to_id(word) for word in FUNCTION_WORDS.split())
    return sorted(number for number in found if number is not None)


def arrays_of(documents: list[Document], files: ModelFiles, section: IndexSection) -> Arrays:
    """The arrays of ``TaughtTexts``: the chunks of documents as an index embeds them, with their sentences."""
    from data_jobs.retrieval.embedder import tokenized

    ids, parts = [], []
    for piece in cut(with_enclosing(documents), files, section):
        row, runs = tokenized(files, embedded_text(piece.chunk), parts_of(piece))
        ids.append(row)
        parts.append([run for run in runs if run[1] > run[0]])
    starts = np.cumsum([0, *map(len, parts)])
    return {
        **flat(ids),
        "parts": np.array([run for own in parts for run in own], dtype=np.int64).reshape(-1, 2),
        "parts_of": starts,
    }


def files_of(finished: Finished, encoder: EncoderFolder) -> dict[str, bytes]:
    """The folder of a document encoder: weights without the embeddings, which are the teacher's."""
    from safetensors.torch import save

    from data_jobs.retrieval.bert import packed

    own = {
        name: weight
        for name, weight in finished.weights.items()
        if not any(name == f"embeddings.{part}.weight" for part in EMBEDDINGS)
    }
    spec = cast(EncoderSpec, finished.plan.model)
    config: dict[str, Any] = {**spec.settings, TEACHER: encoder.files.identity["weights_sha256"]}
    body = json.dumps(config, indent=1).encode()
    return {"config.json": body, "model.safetensors": save(packed(own), metadata={"format": "pt"})}
