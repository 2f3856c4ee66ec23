"""The embedder against the published model's behaviour, and everything it must refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import BadInputError, EnvironmentFaultError, IntegrityError, UsageError
from cluster.core.sections.data import IndexSection
from data_jobs.retrieval import bert, model_files
from data_jobs.retrieval.embedder import BATCH_TOKENS, Embedder, load_embedder, tokenized
from data_jobs.retrieval.model_files import find_model

TEXTS = ["How do I copy a directory?", "Copy a directory tree.", "", "Bread needs yeast. " * 100, "Hello 世界 🌍"]


def test_vectors_are_unit_length_and_do_not_depend_on_order_or_company(embedder: Embedder) -> None:
    together = embedder.encode(TEXTS)
    assert together.shape == (len(TEXTS), 384)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)
    backwards = embedder.encode(TEXTS[::-1])[::-1]
    alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
    assert (together * backwards).sum(1).min() > 0.9999
    assert (together * alone).sum(1).min() > 0.9999


@pytest.mark.parametrize(
    "word", ["walrus ", "ünïcödé, 世界! ", "x" * 3_000 + " ", "a" + " " * 900, "x" * 40_000, " " * 40_000]
)
def test_of_a_long_text_the_beginning_has_the_tokens_of_the_whole(embedder: Embedder, word: str) -> None:
    text = f"It begins with a capital. {word * (40_000 // len(word))} and ends."
    files = embedder._files
    whole = files.tokenizer.encode(text, add_special_tokens=False)
    whole.truncate(embedder.max_tokens - 2)
    assert tokenized(files, text)[0] == files.tokenizer.post_process(whole).ids


def test_groups_of_about_one_pass_each(embedder: Embedder) -> None:
    texts = ["short"] * 100 + ["word " * n for n in range(60, 5, -5)] + ["long " * 5_000] * 3
    groups = embedder.batches(texts)
    assert sorted(place for group in groups for place in group) == list(range(len(texts)))
    assert groups[-1] == [len(texts) - 1]
    for group in groups:
        tokens = sum(len(tokenized(embedder._files, texts[place])[0]) for place in group)
        assert len(group) == 1 or tokens <= 1.5 * BATCH_TOKENS["cpu"]
    assert len(groups) < len(texts) / 4


def test_meaning_decides(embedder: Embedder) -> None:
    question, near, far = embedder.encode(["duplicate a folder", "Copy a directory tree.", "Bread needs yeast."])
    assert question @ near > question @ far + 0.2


def test_no_texts_no_vectors(embedder: Embedder) -> None:
    assert embedder.encode([]).shape == (0, 384)


def test_parts_are_pooled_from_the_pass_of_their_text(embedder: Embedder) -> None:
    text = "The pump is primed by hand. It stands in the north hall. Lions sleep in the shade of trees."
    spans = [(0, 27), (28, 56), (57, len(text))]
    whole, parts = embedder.encode_parts([text, "short", text], [spans, [], spans[::-1]])
    assert whole.shape == (3, 384)
    assert parts.shape == (6, 384)
    assert np.allclose(np.linalg.norm(parts, axis=1), 1, atol=1e-3)
    assert np.array_equal(whole, embedder.encode([text, "short", text]))  # parts change nothing of the whole
    assert (parts[:3] * parts[:2:-1]).sum(1).min() > 0.9999
    question = embedder.encode(["Where do lions sleep?", "How is the pump primed?"], kind="query")
    assert (question @ parts[:3].T).argmax(1).tolist() == [2, 0]
    # "It" was read together with the pump: alone, the sentence says nothing of one.
    alone = embedder.encode([text[28:56]])
    pump = embedder.encode(["Where is the pump?"], kind="query")[0]
    assert parts[1] @ pump > alone[0] @ pump + 0.1


def test_a_part_without_tokens_is_its_text(embedder: Embedder) -> None:
    text = "word " * 400 + "end"
    whole, parts = embedder.encode_parts([text], [[(len(text) - 3, len(text)), (4, 5)]])
    assert (parts @ whole[0]).min() > 0.9999  # cut off, and between two words


def test_precision_is_not_part_of_the_fingerprint(embedder: Embedder) -> None:
    exact = load_embedder(IndexSection(precision="fp32"))
    rough = load_embedder(IndexSection(precision="bf16"))
    assert exact.fingerprint == rough.fingerprint == embedder.fingerprint
    assert (exact.encode(TEXTS) * rough.encode(TEXTS)).sum(1).min() > 0.999


def test_int8_is_near_fp32(embedder: Embedder) -> None:
    if not bert.int8_supported():
        pytest.skip("this CPU does not multiply 8-bit integers fast")
    exact, whole = load_embedder(IndexSection(precision="fp32")), load_embedder(IndexSection(precision="int8"))
    texts = [text for text in (Path(__file__).parents[3] / "LOG.md").read_text().split("\n\n") if len(text) > 200][:24]
    assert (exact.encode(texts) * whole.encode(texts)).sum(1).mean() > 0.99
    assert whole.fingerprint == exact.fingerprint
    said = [text for text in TEXTS if text]  # scales are of the batch but for the widest layer
    assert (whole.encode(said) * np.concatenate([whole.encode([text]) for text in said])).sum(1).min() > 0.98


def test_int8_where_it_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert, "int8_supported", lambda: False)
    with pytest.raises(EnvironmentFaultError, match=r"index\.precision"):
        load_embedder(IndexSection(precision="int8"))


@pytest.mark.slow
def test_equals_the_published_pipeline_mean_pooled_by_hand() -> None:
    """transformers' own BertModel, masked mean, L2 norm, 256 tokens: what sentence-transformers does with it."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModel, AutoTokenizer

    ours = load_embedder(IndexSection(precision="fp32"))
    folder = find_model(IndexSection()).weights.parent
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    wanted = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    assert np.abs(ours.encode(TEXTS, "query") - wanted).max() < 1e-5


@pytest.mark.slow
def test_other_architectures_go_through_transformers_silently(tmp_path: Path) -> None:
    """A local folder with another architecture: loads, pools as configured, and prints nothing."""
    code = f"""
from transformers import DistilBertConfig, DistilBertModel
import shutil, json, pathlib
from data_jobs.retrieval.model_files import find_model
from cluster.core.sections.data import IndexSection
folder = pathlib.Path({str(tmp_path)!r})
source = find_model(IndexSection()).weights.parent
sizes = dict(vocab_size=30522, dim=32, n_heads=2, n_layers=1, hidden_dim=64)
DistilBertModel(DistilBertConfig(**sizes)).save_pretrained(folder)
config = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps({{**config, "hidden_size": 32}}))
shutil.copy(source / "tokenizer.json", folder)
(folder / "1_Pooling").mkdir()
(folder / "1_Pooling" / "config.json").write_text(json.dumps({{"pooling_mode_cls_token": True}}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[3])
    code = f"""
from data_jobs.retrieval.embedder import load_embedder
from cluster.core.sections.data import IndexSection
e = load_embedder(IndexSection(embedder={str(tmp_path)!r}))
assert e.encode(["a", "b c d"]).shape == (2, 32) and e.identity["pooling"] == "cls"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- what is refused ------------------------------------------------------------------------------------------------
@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the packaged model's small files, with weights that only have to exist."""
    source = find_model(IndexSection()).weights.parent
    folder = tmp_path / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def found(folder: Path) -> model_files.ModelFiles:
    return find_model(IndexSection(embedder=str(folder)))


def test_a_local_folder_is_identified_by_its_bytes(model: Path) -> None:
    before = found(model)
    assert before.identity["pooling"] == "mean"
    assert before.identity["max_tokens"] == 256
    (model / "model.safetensors").write_bytes(b"other weights")
    assert found(model).fingerprint != before.fingerprint


def test_packaged_weights_must_be_the_official_ones(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "model_folder", lambda name, field: model)
    with pytest.raises(IntegrityError, match="not the official"):
        find_model(IndexSection())


def test_pickle_weights_are_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(BadInputError, match="pickle"):
        found(model)


def test_without_a_fast_tokenizer_it_is_refused(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(BadInputError, match=r"tokenizer\.json"):
        found(model)


def test_unknown_pooling_is_refused(model: Path) -> None:
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(BadInputError, match="pooling"):
        found(model)


def test_a_missing_folder_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no folder"):
        found(Path("/nowhere/at/all"))


def test_a_hub_id_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFaultError, match=r"index\.embedder: .*set it to a local folder"):
        find_model(IndexSection(embedder="some-group/some-model"))
