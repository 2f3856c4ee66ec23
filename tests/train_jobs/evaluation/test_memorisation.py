"""Audits of models that are known to remember, and not to: functions first, then a real network by heart."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.storage import Store
from data_jobs.corpus.splits import is_held_out
from data_jobs.corpus.tokens import document_text
from tests.train_jobs.corpora import documents, make_dataset
from train_jobs.evaluation.memorisation import (
    CANDIDATES,
    LENGTH,
    PREFIX,
    audit,
    exposures,
    make_canaries,
    planted_documents,
    verbatim,
)  # fmt: skip

CANARIES = make_canaries(6)


def test_a_model_that_knows_the_secrets_exposes_them_and_another_does_not() -> None:
    known = {canary.phrase for canary in CANARIES[:3]}
    found = exposures(CANARIES, lambda texts: [0.0 if text in known else 1.0 for text in texts])
    assert found[:3] == [math.log2(CANDIDATES + 1)] * 3
    assert all(bits == pytest.approx(1.0, abs=0.01) for bits in found[3:]), "all candidates are as probable"
    import random

    rng = random.Random(0)
    blind = exposures(CANARIES * 8, lambda texts: [rng.random() for _ in texts])
    assert sum(blind) / len(blind) < 2.5


def test_verbatim_counts_exact_continuations_of_long_documents() -> None:
    learnt = [list(range(n, n + 60)) for n in range(0, 500, 100)]
    known = {tuple(ids[:PREFIX]): ids[PREFIX:] for ids in learnt[:3]}
    rate = verbatim([*learnt, [1, 2, 3]], lambda prompts, n: [known.get(tuple(p), [0] * n)[:n] for p in prompts])
    assert (rate.hits, rate.total) == (3, 5)
    with pytest.raises(BadInputError, match="nothing to audit"):
        audit([], lambda texts: [], [[1, 2]], [], lambda prompts, n: [])


def test_planted_documents_hold_each_phrase_as_often_as_it_says_and_are_not_alike() -> None:
    texts = [text for _, text in planted_documents(CANARIES)]
    for canary in CANARIES:
        assert sum(canary.phrase in text for text in texts) == canary.repeats
    assert len({canary.phrase for canary in CANARIES}) == len(CANARIES)
    lines = [set(text.split("\n\n")) for text in texts]
    assert max(len(a & b) for i, a in enumerate(lines) for b in lines[:i]) <= 2
    assert make_canaries(6) == CANARIES != make_canaries(6, seed=1)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.ci
def test_the_verb_finds_what_a_network_learnt_by_heart(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small Llama is trained on a few documents and half of the canaries until it knows them."""
    import torch
    import torch.nn.functional as F  # noqa: N812
    from safetensors.torch import save_file
    from transformers import PreTrainedTokenizerFast

    from train_jobs.data.tokenizer import fit
    from train_jobs.models.shape import Shape
    from train_jobs.models.spec import LlamaSpec

    assert main(["audit", "canaries", str(tmp_path / "planted"), "--count", "4", "--json"]) == 0
    canaries = json.loads((tmp_path / "planted/canaries.json").read_text())
    short = documents(160)
    texts_of_four = [" ".join(d.text for d in short[start : start + 4]) for start in range(0, 160, 4)]
    made = [dataclasses.replace(d, text=text) for d, text in zip(short, texts_of_four, strict=False)]
    coder = fit(iter(made), 512)
    texts = [document_text(d) for d in made]
    learnt = [t for d, t in zip(made, texts, strict=True) if not is_held_out(d.id, 0.1)][:8]
    learnt += [f"{c['prefix']} {c['secret']}" for c in canaries[:2]]
    rows = [torch.tensor(coder.encode(text, add_special_tokens=False).ids[:64]) for text in learnt]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads wait for each other
    spec = LlamaSpec(Shape(coder.get_vocab_size(), 64, 2, 4, 2, 128, 128))
    model, ids = spec.build(0), torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(100):
        logits = model(ids[:, :-1].clamp(min=0))
        F.cross_entropy(logits.reshape(-1, spec.vocab), ids[:, 1:].reshape(-1), ignore_index=-1).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)

    store = Store(Home(home).store_uri)
    dataset = make_dataset(
        store, [d for d, t in zip(made, texts, strict=True) if t in learnt or is_held_out(d.id, 0.1)]
    )
    folder = store.staging("by-heart")
    save_file({n: w.detach().contiguous() for n, w in model.named_parameters()}, f"{folder}/model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    Path(f"{folder}/config.json").write_text(json.dumps(spec.config(1, 2, 0)))
    PreTrainedTokenizerFast(tokenizer_object=coder).save_pretrained(folder)
    inputs = {"dataset": f"{dataset.name}@{dataset.version}"}
    store.publish("checkpoints", "heart", folder, run_key="heart", inputs=inputs)

    words = ["audit", "memorization", "heart", "--canaries", str(tmp_path / "planted/canaries.json")]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bits = [canary["exposure"] for canary in found["canaries"]]
    assert min(bits[:2]) > 8 > max(bits[2:])
    assert found["numbers"]["verbatim_train"] > 0.7
    assert found["numbers"]["verbatim_held_out"] < found["numbers"]["verbatim_train"]
    assert found["verbatim"]["train"]["total"] == 8
    assert found["tokens"] == {"prefix": PREFIX, "continuation": LENGTH}
    assert store.alias("audits", "heart", store.versions("checkpoints", "heart")[0].version) == found["version"]
    assert main(["audit", "memorization", "nobody"]) == 3
    assert main(["audit", "memorization", "heart", "--canaries", str(tmp_path / "none")]) == 3
