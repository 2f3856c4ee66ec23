"""An embedding model that has learnt which texts answer which queries: contrastive fine-tuning of a BERT encoder.

It is published as a folder that ``index.embedder`` takes (and sentence-transformers loads). Before, its vectors of
held-out texts as they will be served, in 8-bit integers and by OpenVINO, are compared with the trained network's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs.data.batches import Arrays
from train_jobs.data.texts import encoded, flat
from train_jobs.models.encoders import EncoderSpec
from train_jobs.recipes.encoder_folder import KIND, EncoderFolder, agreement, find_encoder
from train_jobs.recipes.rows import Row, Rows, read_rows, text_of, texts_of
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

KEY = RunKey("embedder", (__name__,), inside=KEY_INSIDE, outside=KEY_OUTSIDE)
RATE, PAIRS, EPOCHS = 5e-5, 32, 1.0
COMPARED = 64  # held-out texts whose vectors are compared at publication
AGREES = 0.99  # mean cosine with the trained network's vectors


def train_embedder(
    config: PlinthConfig, store: Store, data: str, base: str, name: str, progress: Progress, epochs: float = EPOCHS,
    rate: float = RATE, pairs: int = PAIRS, workers: TrainingWorkers | None = None,
    code_change: CodeChange = None,
) -> Manifest:  # fmt: skip
    """Fine-tune an embedder on pairs and publish ``embedders/<name>``.

    Args:
        data: a JSONL file of {query, positive, negatives?}.
        base: what it starts from (``find_encoder``).
        pairs: of a step; all other answers of a step are wrong ones for a query.

    Raises:
        BadInputError: too few good rows.
        PlinthError: what ``find_encoder`` and ``carry_out`` raise.
    """
    section = config.train
    rows = read_rows(data, parse, section.held_out)
    encoder = find_encoder(store, base)
    inputs = {"data": rows.reference, "base": encoder.reference}
    asked = request(KEY, "text_pairs", KIND, name, inputs, section, code_change, epochs=epochs, rate=rate, pairs=pairs)
    if (found := begin(store, asked)) is not None:
        return found
    progress.stage("tokenise")
    spec = EncoderSpec(encoder.files.config, tokens=int(encoder.files.identity["max_tokens"]))
    arrays, cut = arrays_of(rows, encoder, spec.context)
    steps = steps_over(section, len(rows.train), pairs, epochs)
    queries = [encoder.files.identity["prompts"]["query"] + row["query"] for row in rows.held_out[:COMPARED]]
    return carry_out(
        Training(
            asked, {**rows.counts, "texts_cut": cut}, spec, arrays, encoder.pad, encoder.weights(spec), rate, steps,
            lambda finished: publication(finished, encoder, queries), len(rows.train), pairs, {"pairs": pairs},
        ),
        section, store, progress, workers,
    )  # fmt: skip


def parse(row: Mapping[str, Any]) -> Row:
    """A row of {query, positive, negatives?}; rows of one query are on one side.

    Raises:
        BadRowError: something is missing or no text.
    """
    query = text_of(row, "query")
    return {
        "key": query, "query": query, "positive": text_of(row, "positive"), "negatives": texts_of(row, "negatives"),
    }  # fmt: skip


def arrays_of(rows: Rows, encoder: EncoderFolder, longest: int) -> tuple[Arrays, int]:
    """The arrays of ``contrastive.Pairs`` for both sides, and how many texts were cut; a text is held once."""
    prompts = encoder.files.identity["prompts"]
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        return numbers.setdefault(text, len(numbers))

    arrays: Arrays = {}
    for side, found in (("train", rows.train), ("held_out", rows.held_out)):
        asked = [number(prompts["query"] + row["query"]) for row in found]
        right = [number(prompts["document"] + row["positive"]) for row in found]
        wrong = flat([[number(prompts["document"] + text) for text in row["negatives"]] for row in found])
        arrays |= {
            f"{side}.query": np.array(asked, dtype=np.int64),
            f"{side}.positive": np.array(right, dtype=np.int64),
        }
        arrays |= {f"{side}.negatives.{name}": array for name, array in wrong.items()}
    texts, cut = encoded(list(numbers), encoder.files.tokenizer, longest)
    return arrays | {f"texts.{name}": array for name, array in texts.items()}, cut


def publication(
    finished: Finished, encoder: EncoderFolder, texts: list[str]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The embedder's folder, and how well its vectors agree where it is served."""
    from safetensors.torch import save

    from data_jobs.retrieval import bert

    files = {**encoder.bodies(), "model.safetensors": save(finished.weights, metadata={"format": "pt"})}
    trained = vectors_of(finished, encoder, texts)
    found = {"agreement_openvino": agreement(trained, openvino_vectors(finished, encoder, texts))}
    if bert.int8_supported():
        found["agreement_int8"] = agreement(trained, int8_vectors(finished, encoder, texts))
    for way, cosine in found.items():
        if cosine < AGREES:
            log_event("train", "embedder_disagrees", way=way, cosine=round(cosine, 4), wanted=AGREES)
    return files, {name: round(cosine, 5) for name, cosine in found.items()}


def vectors_of(finished: Finished, encoder: EncoderFolder, texts: list[str]) -> np.ndarray:
    """Float32 [n, d] of length 1, by the network that was trained."""
    import torch

    network = finished.plan.model.build(device="cpu")
    network.load_state_dict(finished.weights)
    network.eval()
    with torch.inference_mode():
        return np.concatenate([network(ids, None).numpy() for ids in _ids(encoder, texts)])


def int8_vectors(finished: Finished, encoder: EncoderFolder, texts: list[str]) -> np.ndarray:
    """The same as the index computes them on a CPU: in 8-bit integers."""
    import torch

    from data_jobs.retrieval.bert import BertEncoder
    from data_jobs.retrieval.embedder import SAMPLES, Embedder, Forward

    served = BertEncoder(encoder.files.config, finished.weights, torch.float32, "cpu")
    served.quantize(list(_ids(encoder, list(SAMPLES))))
    return Embedder(encoder.files, lambda kind: Forward(served), "int8", "cpu").encode(texts)


def openvino_vectors(finished: Finished, encoder: EncoderFolder, texts: list[str]) -> np.ndarray:
    """The same by OpenVINO, out of the trained network as its converter reads it."""
    import openvino
    import torch

    network = finished.plan.model.build(device="cpu")
    network.load_state_dict(finished.weights)
    example = torch.zeros(1, 8, dtype=torch.int64)
    with torch.inference_mode():
        model = openvino.convert_model(network.eval(), example_input=example, input=[("ids", [-1, -1], np.int64)])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled([ids.numpy()])[0] for ids in _ids(encoder, texts)])


def _ids(encoder: EncoderFolder, texts: list[str]) -> Any:
    import torch

    for text in texts:
        encoding = encoder.files.tokenizer.encode(text)
        yield torch.tensor([encoding.ids[: int(encoder.files.identity["max_tokens"])]])
