"""Classifiers and masked tokens: what they learn, what they publish, and what is said about them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.recipes.encoders import make_encoder, words_of
from tests.train_jobs.recipes.in_process import InProcess

pytestmark = pytest.mark.process  # torch takes seconds to import
GOOD, BAD, OTHER = ("calm", "kind", "safe", "warm"), ("rude", "harsh", "cruel", "cold"), ("dog", "cat", "fox", "hen")


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def config(steps: int, **changes: object) -> PlinthConfig:
    return PlinthConfig(train=SECTION.model_copy(update={"steps": steps, **changes}))


def labelled(path: Path, pairs: bool) -> str:
    """Whether the animal is described as bad; of pairs only the second text says. Some labels are wrong."""
    rng, rows = random.Random(3), []
    for number in range(160):
        kind = rng.choice((GOOD, BAD))
        text, truth = f"the {rng.choice(OTHER)} is {rng.choice(kind)}", kind is BAD
        row = {"text": text, "label": truth != (number % 20 == 0), "split": "test" if number % 4 == 0 else "train"}
        rows.append({**row, "text": f"the {rng.choice(OTHER)}", "text_pair": text} if pairs else row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_a_classifier_learns_is_calibrated_and_serves_what_it_learnt(store: Store, tmp_path: Path, pairs: bool) -> None:
    from data_jobs.retrieval.classifier import TextClassifier
    from train_jobs.recipes.classifier import train_classifier

    data = labelled(tmp_path / "rows.jsonl", pairs)
    base = make_encoder(tmp_path / "tiny", words_of([*GOOD, *BAD, *OTHER, "the is"]))
    made = train_classifier(config(40), store, data, base, "mood", Silent(), rate=5e-3, workers=InProcess())
    counts = made.counts
    # One label in five of the held-out side is wrong on purpose.
    assert counts["held_out_accuracy_at_start"] < 0.7 < 0.78 < counts["held_out_accuracy"] <= 0.82
    assert counts["positive"] == "true"
    assert counts["auc"] > 0.75
    assert counts["ece"] < 0.2
    folder = Path(store.artefact(made))
    classifier = TextClassifier(folder)
    assert classifier.labels == ["false", "true"]
    texts = ["the dog is cruel", "the hen is warm"]
    found = classifier.probabilities(["the dog"] * 2, texts) if pairs else classifier.probabilities(texts)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert found[0, 1] > 0.5 > found[1, 1]
    known = json.loads((folder / "report.json").read_text())
    assert known["labels"]["true"]["rows"] + known["labels"]["false"]["rows"] == known["rows"] == 40


def test_a_label_that_cannot_be_learnt_is_refused(store: Store, tmp_path: Path) -> None:
    from train_jobs.recipes.classifier import train_classifier

    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"t{n}", "label": "a", "split": side} for side in ("train", "test") for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInputError, match="has 1 labels"):
        train_classifier(config(1), store, str(path), "minilm", "x", Silent())
    path.write_text(path.read_text() + json.dumps({"text": "u", "label": "b", "split": "test"}) + "\n")
    with pytest.raises(BadInputError, match="'b' is among the held-out rows only"):
        train_classifier(config(1), store, str(path), "minilm", "x", Silent())


def test_temperature_error_and_thresholds_against_known_truth() -> None:
    from train_jobs.recipes.calibration import calibration_error, fit_temperature, probabilities, report, threshold_at

    rng = np.random.default_rng(0)
    truth = rng.normal(0, 2, (4000, 1)) * np.array([[-0.5, 0.5]])
    labels = (rng.random(4000) < probabilities(truth)[:, 1]).astype(np.int64)
    assert fit_temperature(3 * truth, labels) == pytest.approx(3, rel=0.1)  # scores three times too sure
    assert (
        calibration_error(probabilities(truth), labels)
        < 0.03
        < 0.1
        < calibration_error(probabilities(3 * truth), labels)
    )
    found = report(3 * truth, labels, ["no", "yes"])
    assert found["ece"] < 0.03 < found["ece_uncalibrated"]
    assert found["labels"]["yes"]["fpr"] == pytest.approx(0.05, abs=0.015)
    scores = np.arange(100) / 100
    assert 0.94 < threshold_at(scores, np.zeros(100, dtype=bool)) < 0.96
    by_hand = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert calibration_error(by_hand, np.array([0, 1, 1])) == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.6 - 1)) / 3)


@pytest.mark.slow
@pytest.mark.ci
def test_masked_tokens_are_learnt_and_the_result_is_a_base(store: Store, tmp_path: Path) -> None:
    import torch
    from transformers import BertForMaskedLM

    from train_jobs.recipes.masked import train_masked

    rng = random.Random(1)
    sentences = [f"the {rng.choice(OTHER)} is {rng.choice(kind)} and {word}" for kind, word in
                 ((GOOD, "good"), (BAD, "bad")) * 60]  # fmt: skip
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": f"{s}"}) + "\n" for s in sentences))
    base = make_encoder(tmp_path / "tiny", words_of([*sentences]))
    made = train_masked(config(80, held_out=0.3), store, str(data), base, "mood", Silent(), rate=5e-3, rows=32,
                        workers=InProcess())  # fmt: skip
    counts = made.counts
    assert counts["held_out_loss_at_start"] > 2.5  # 20 words, all alike
    assert counts["held_out_loss"] < 1.6  # what is left are animals and which of four words: nobody can tell
    folder = store.artefact(made)
    theirs = BertForMaskedLM.from_pretrained(folder).eval()
    from safetensors.torch import load_file

    from train_jobs.models.encoders import EncoderSpec

    network = EncoderSpec(json.loads((Path(folder) / "config.json").read_text()), head="tokens").build().eval()
    tensors = load_file(Path(folder) / "model.safetensors")
    network.load_state_dict({n.removeprefix("bert.").removeprefix("cls."): t for n, t in tensors.items()})
    ids = torch.tensor([[2, 6, 4, 8, 3]])
    with torch.no_grad():
        assert torch.allclose(network(ids)[:5], theirs(input_ids=ids).logits[0], atol=1e-4)

    from train_jobs.recipes.classifier import train_classifier

    rows = labelled(tmp_path / "rows.jsonl", False)
    head = train_classifier(config(2), store, rows, "mood", "head", Silent(), workers=InProcess())
    assert head.inputs["base"] == f"mood@{made.version}"


def test_masks_are_80_10_10_of_15_per_cent_and_the_same_on_any_number_of_workers() -> None:
    import torch

    from train_jobs.data.texts import flat
    from train_jobs.objectives.masked import MaskedTexts

    rows = [[2, *range(10, 110), 3] for _ in range(64)]
    texts = MaskedTexts(flat(rows), 64, 0, 0, 4, 1000, [0, 2, 3, 4])
    batch = texts.batch(0)
    seen = batch.ids.reshape(-1)[batch.where]
    assert batch.total == len(batch.where) == 64 * 15
    assert float((seen == 4).float().mean()) == pytest.approx(0.8, abs=0.05)
    assert float((seen == batch.targets).float().mean()) == pytest.approx(0.1, abs=0.04)
    untouched = batch.ids.clone().reshape(-1)
    untouched[batch.where] = batch.targets
    assert untouched.reshape(64, -1).tolist() == rows  # nothing else changed, special tokens least of all
    halves = [texts.batch(0, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.stack([half.ids for half in halves], 1).reshape(64, -1), batch.ids)
    assert sum(len(half.where) for half in halves) == halves[0].total == batch.total
    assert not torch.equal(texts.batch(1).ids, batch.ids)
