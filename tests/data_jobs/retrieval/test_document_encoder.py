"""The document encoder on odd texts and out of damaged folders: right vectors, or an error that says what to do."""

# ruff: noqa: E501 (a fault a line)
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster.core.errors import BadInputError, IncompatibleError
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval import embedder as embedding
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.model_files import DOCUMENT_ENCODER, ModelFiles, find_model

FUNCTION_WORDS = "the of and to in a is that it was for on "


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return find_model(IndexSection())


@pytest.fixture(scope="module")
def teacher(files: ModelFiles) -> dict[str, torch.Tensor]:
    return load_file(files.weights)


def test_texts_of_function_words_mean_the_same_to_both_networks(embedder: Embedder) -> None:
    texts = [FUNCTION_WORDS * 12, FUNCTION_WORDS * 3, ", . ( ) " * 30]
    documents, questions = embedder.encode(texts), embedder.encode(texts, "query")
    assert (documents * questions).sum(1).min() > 0.97


def test_odd_texts_have_finite_vectors(embedder: Embedder) -> None:
    texts = ["", " \n\t", "😀👨‍👩‍👧" * 60, "x" * 100_000, "\x00\x01\x1b[31m" * 60, "[CLS] [SEP] [MASK] [PAD] " * 20]
    texts += [
        "Die Pumpe 水泵 насос مضخة पंप 펌프 " * 12,
        "Z\u0335\u0321" * 300,
        *(" ".join(["pump"] * n) for n in (30, 31, 254, 300)),
    ]
    whole, parts = embedder.encode_parts(texts, [[(0, 20), (5, 5), (10**6, 10**6 + 5)]] * len(texts))
    for vectors in (whole, parts):
        assert np.isfinite(vectors).all()
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")

    return changed


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


def _poisoned(tensors: dict[str, torch.Tensor]) -> None:
    tensors["merge.dense.bias"][3] = float("nan")


FAULTS: dict[str, Callable[[Path], None]] = {
    "cut off": _cut, "empty": lambda folder: (folder / "model.safetensors").write_bytes(b"") and None,
    "no scale": _weights(lambda t: t.pop("encoder.layer.2.output.dense.weight.scale")),
    "no layer": _weights(lambda t: [t.pop(name) for name in list(t) if name.startswith("encoder.layer.5.")]),
    "no merging": _weights(lambda t: t.pop("merge.dense.weight")), "not a number": _weights(_poisoned),
    "another size": _weights(lambda t: t.update({"projection.weight": torch.zeros(100, 384), "projection.bias": torch.zeros(100)})),
    "another network": _config(model_type="roberta"), "merging nothing": _config(merge_tokens=0), "merging one": _config(merge_tokens=1),
    "merging more": _config(merge_tokens=3), "more layers": _config(num_hidden_layers=12), "no layers said": _config(num_hidden_layers=None),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_or_foreign_folder_is_refused_and_named(
    fault: str, files: ModelFiles, teacher: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = shutil.copytree(DOCUMENT_ENCODER, tmp_path / "encoder")
    FAULTS[fault](folder)
    found = find_model(IndexSection(document_encoder=str(folder))).documents
    assert found is not None
    with pytest.raises(BadInputError, match=re.escape(str(folder))):
        embedding._document_network(found, teacher, torch.float32, "cpu", files)


def test_a_folder_for_another_embedder_or_without_a_config_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(DOCUMENT_ENCODER, tmp_path / "encoder")
    _config(teacher_sha256="0" * 64)(folder)
    with pytest.raises(IncompatibleError, match="another embedder"):
        find_model(IndexSection(document_encoder=str(folder)))
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInputError, match=r"config\.json"):
        find_model(IndexSection(document_encoder=str(folder)))


def test_a_good_folder_is_not_refused(files: ModelFiles, teacher: dict[str, torch.Tensor]) -> None:
    assert files.documents is not None
    embedding._document_network(files.documents, teacher, torch.float32, "cpu", files)
