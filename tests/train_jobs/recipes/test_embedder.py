"""Fine-tuning the embedder: what it learns, what it publishes, and that its loss is InfoNCE."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, UnsupportedError
from cluster.core.progress import Silent
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION
from tests.train_jobs.recipes.encoders import make_encoder, words_of
from tests.train_jobs.recipes.in_process import InProcess

pytestmark = pytest.mark.process  # torch takes seconds to import
CONFIG = PlinthConfig(train=SECTION.model_copy(update={"steps": 80}))
# A code that only training can teach: which word answers which.
WORDS = ("apple", "river", "engine", "window", "doctor", "winter", "guitar", "harbor", "ladder", "mirror", "pepper",
         "rocket", "saddle", "temple", "violin", "wallet")  # fmt: skip


@pytest.fixture
def store(home, tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def pairs(path: Path) -> str:
    rows = []
    for number, word in enumerate(WORDS):
        answer = WORDS[(number + 5) % len(WORDS)]
        for ask in ("what follows {}", "who comes after {}", "what comes after {}"):
            split = "test" if ask.startswith("what comes") else "train"
            rows.append({"query": ask.format(word), "positive": f"it is the {answer}", "split": split,
                         "negatives": [f"it is the {word}"]})  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_it_learns_what_answers_what_and_is_served_as_it_was_trained(store: Store, tmp_path: Path) -> None:
    from data_jobs.retrieval.embedder import load_embedder
    from train_jobs.recipes.embedder import train_embedder

    data = pairs(tmp_path / "pairs.jsonl")
    base = make_encoder(tmp_path / "tiny", words_of([*WORDS, "what follows who comes after it is the"]))
    made = train_embedder(CONFIG, store, data, base, "codes", Silent(), rate=5e-3, pairs=16, workers=InProcess())
    counts = made.counts
    # By itself an encoder takes the word that was asked for: the hard negative.
    assert counts["held_out_first_at_start"] < 0.6
    assert counts["held_out_first"] > 0.8
    assert counts["held_out_mrr"] > counts["held_out_mrr_at_start"] + 0.3
    assert counts["held_out_loss"] < counts["held_out_loss_at_start"] / 2
    assert counts["agreement_openvino"] > 0.9999
    assert counts.get("agreement_int8", 1.0) > 0.98
    served = load_embedder(IndexSection(embedder=store.artefact(made), precision="fp32"))
    vectors = served.encode(["what follows apple", "it is the winter", "it is the apple"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    passes = PlinthConfig(train=SECTION.model_copy(update={"steps": 1, "micro_tokens": 256}))
    with pytest.raises(UnsupportedError, match="compares all of a step at once"):
        train_embedder(passes, store, data, base, "no", Silent(), workers=InProcess())
    again = train_embedder(CONFIG, store, data, base, "codes", Silent(), rate=5e-3, pairs=16, workers=None)
    assert again.version == made.version  # no workers: an identical run is not made twice
    on_top = train_embedder(
        PlinthConfig(train=SECTION.model_copy(update={"steps": 1})), store, data, "codes", "more", Silent(), rate=1e-9,
        workers=InProcess(),
    )  # fmt: skip
    assert on_top.inputs["base"] == f"codes@{made.version}"
    assert on_top.counts["held_out_mrr"] == pytest.approx(counts["held_out_mrr"], abs=0.01)


def test_a_network_is_bert_as_transformers_computes_it() -> None:
    import torch
    from transformers import BertConfig, BertModel

    from train_jobs.models.encoders import EncoderSpec

    settings = {"model_type": "bert", "vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2,
                "num_hidden_layers": 2, "intermediate_size": 32, "max_position_embeddings": 12}  # fmt: skip
    network = EncoderSpec(settings).build(3).eval()
    theirs = BertModel(BertConfig(**settings), add_pooling_layer=False).eval()
    theirs.load_state_dict(network.state_dict())
    ids = torch.arange(14).view(2, 7)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        assert torch.allclose(network.hidden(ids, mask)[mask], expected[mask], atol=1e-5)
        pooled = expected[1, :4].mean(0)
        assert torch.allclose(network(ids, mask)[1], pooled / pooled.norm(), atol=1e-5)


def test_the_loss_is_info_nce_and_a_text_is_a_candidate_once() -> None:
    import torch

    from train_jobs.data.texts import Texts
    from train_jobs.distributed.ranks import Ranks
    from train_jobs.objectives.contrastive import Pairs, TextPairs

    texts = Texts(np.arange(6), np.arange(7))  # six texts of one token, which is their number
    arrays = {
        "query": np.array([0, 1, 2]), "positive": np.array([3, 3, 4]),
        "negatives.ids": np.array([5, 3]), "negatives.starts": np.array([0, 1, 1, 2]),
    }  # fmt: skip
    vectors = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(3)), dim=-1)

    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(vectors.clone())

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.weight[ids[:, 0]]

    network = Table()
    pairs_ = Pairs(texts, arrays, 3, 0, 0, Ranks())
    loss = TextPairs().share_of_loss(network, pairs_.batch(0))
    wanted = torch.zeros(())
    for query, positive in ((0, 3), (1, 3), (2, 4)):  # candidates are the texts 3, 4 and 5, each once
        scores = (vectors[query] @ vectors[3:].T) / 0.05
        wanted += torch.logsumexp(scores, 0) - scores[positive - 3]
    assert float(loss) == pytest.approx(float(wanted) / 3, rel=1e-5)
    loss.backward()
    whole = network.weight.grad.clone()

    # Two workers, each with its own vectors and the other's without gradients: shares and gradients add up.
    class Two(Ranks):
        def add(self, tensor: torch.Tensor) -> torch.Tensor:
            tensor += self.missing.pop(0)
            return tensor

    total, grad = 0.0, torch.zeros_like(whole)
    for rank in (0, 1):
        ranks = Two(rank, 2)
        other = Pairs(texts, arrays, 3, 0, 0, ranks).batch(0, 1 - rank, 2)
        rows = vectors[other.ids[:, 0]]
        count = len(other.queries)
        ranks.missing = [
            torch.zeros(3, 4).index_copy(0, other.queries, rows[:count]),
            torch.zeros(3, 4).index_copy(0, other.candidates, rows[count:]),
        ]
        network.zero_grad()
        share = TextPairs().share_of_loss(network, Pairs(texts, arrays, 3, 0, 0, ranks).batch(0, rank, 2))
        share.backward()
        total += float(share)
        grad += network.weight.grad
    assert total == pytest.approx(float(wanted) / 3, rel=1e-5)
    assert torch.allclose(grad, whole, atol=1e-6)


def test_bad_rows_are_counted_and_named_and_too_few_good_ones_are_refused(store: Store, tmp_path: Path) -> None:
    from train_jobs.recipes.embedder import parse
    from train_jobs.recipes.rows import read_rows

    path = tmp_path / "rows.jsonl"
    good = [
        json.dumps({"query": f"q{n}", "positive": "p", "split": side}) for n, side in enumerate(("train", "test") * 2)
    ]
    bad = ['{"query": "q"}', "[1]", "{", '{"query": 3, "positive": "p"}',
           '{"query": "a", "positive": "b", "negatives": "c"}',
           '{"query": "a", "positive": " "}', '{"query": "\\ud800", "positive": "b"}']  # fmt: skip
    path.write_text("\n".join([*good, "", *bad]))
    rows = read_rows(str(path), parse, 0.1)
    assert (len(rows.train), len(rows.held_out)) == (2, 2)
    assert rows.refused == [
        "line 6: there is no positive", "line 7: it is no JSON object", "line 8: it is no JSON",
        "line 9: query is not a text", "line 10: negatives is not a list of texts", "line 11: positive is empty",
        "line 12: query holds half a surrogate pair",
    ]  # fmt: skip
    path.write_text("\n".join(bad))
    with pytest.raises(BadInputError, match=r"0 rows to train on.*7 were refused: line 1: there is no positive"):
        read_rows(str(path), parse, 0.1)
