"""An encoder that has read texts of one's own: masked tokens. It is published as an embedder, to be fine-tuned on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.storage import Store
from train_jobs.data.batches import Arrays
from train_jobs.data.texts import encoded
from train_jobs.models.encoders import EncoderSpec
from train_jobs.recipes.encoder_folder import KIND, EncoderFolder, find_encoder
from train_jobs.recipes.rows import Row, read_rows, text_of
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
    from torch import Tensor

    from train_jobs.launch import TrainingWorkers

KEY = RunKey("masked", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, ROWS, EPOCHS = 1e-4, 32, 1.0
LONGEST = 128  # tokens of a text: what is longer is cut


def train_masked(
    config: PlinthConfig, store: Store, data: str, base: str, name: str, progress: Progress, epochs: float = EPOCHS,
    rate: float = RATE, rows: int = ROWS, workers: TrainingWorkers | None = None,
    code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Train an encoder on the masked tokens of {text} rows and publish ``embedders/<name>``.

    Raises:
        BadInputError: too few good rows, or a tokenizer that has no mask.
        PlinthError: what ``find_encoder`` and ``carry_out`` raise.
    """
    section = config.train
    found = read_rows(data, parse, section.held_out)
    encoder = find_encoder(store, base)
    tokenizer = encoder.files.tokenizer
    token = tokenizer.token_to_id("[MASK]")
    if token is None:
        raise BadInputError(f"the tokenizer of {encoder.reference} has no [MASK]")
    inputs = {"data": found.reference, "base": encoder.reference}
    asked = request(KEY, "masked", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate, rows=rows)
    if (done := begin(store, asked)) is not None:
        return done
    progress.stage("tokenise")
    spec = EncoderSpec(encoder.files.config, head="tokens")
    arrays: Arrays = {}
    cut = 0
    for side, texts in (("train", found.train), ("held_out", found.held_out)):
        made, more = encoded([row["text"] for row in texts], tokenizer, min(LONGEST, spec.context))
        arrays |= {f"{side}.{part}": array for part, array in made.items()}
        cut += more
    special = [number for number, added in tokenizer.get_added_tokens_decoder().items() if added.special]
    return carry_out(
        Training(
            asked, {**found.counts, "texts_cut": cut}, spec, arrays, encoder.pad, encoder.weights(spec), rate,
            steps_over(section, len(found.train), rows, epochs),
            lambda finished: (files_of(finished, encoder), {}), len(found.train), rows,
            {"rows": rows, "mask": token, "special": special},
        ),
        section, store, progress, workers,
    )  # fmt: skip


def parse(row: Mapping[str, Any]) -> Row:
    """A row of {text}.

    Raises:
        BadRowError: there is none.
    """
    text = text_of(row, "text")
    return {"key": text, "text": text}


def files_of(finished: Finished, encoder: EncoderFolder) -> dict[str, bytes]:
    """The folder of transformers' BertForMaskedLM."""
    from safetensors.torch import save

    config = {**encoder.files.config, "architectures": ["BertForMaskedLM"], "tie_word_embeddings": True}
    weights = save(to_masked_lm(finished.weights), metadata={"format": "pt"})
    return {**encoder.bodies(), "config.json": json.dumps(config, indent=1).encode(), "model.safetensors": weights}


def to_masked_lm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's weights under the names of transformers' BertForMaskedLM."""
    return {f"cls.{name}" if name.startswith("predictions.") else f"bert.{name}": w for name, w in weights.items()}
