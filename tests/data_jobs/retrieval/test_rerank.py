"""The reranker: a real transformers cross-encoder small enough to be written by hand, and what a search makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import BadInputError, UsageError
from cluster.core.records import Document
from cluster.core.sections.data import RetrievalSection
from data_jobs.retrieval.rerank import CrossEncoder, load_reranker
from data_jobs.retrieval.search import Searcher

pytestmark = pytest.mark.process
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "zebra", "horse", "what", "eats"]
PAGES = [
    Document(name, name, text, name)
    for name, text in (
        ("hay.md", "A horse eats hay in the stable every morning and every evening of the year."),
        ("oats.md", "A horse eats oats when it has worked hard, and a zebra zebra zebra does not."),
        ("ships.md", "The harbour master counts ships that leave with the tide before noon."),
    )
]


def save_model(folder: Path, labels: int = 1) -> Path:
    """A BERT of one layer that looks at all words alike: its score grows with the share of the word ``zebra``."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        num_labels=labels,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        for dense in (layer.attention.self.value, layer.attention.output.dense, model.bert.pooler.dense):
            dense.weight.copy_(torch.eye(4))
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 0] = 1.0
        words[VOCABULARY.index("zebra")] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        model.classifier.weight[0, 1] = 1.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    loaded = load_reranker(str(save_model(tmp_path_factory.mktemp("rerank") / "model")))
    assert isinstance(loaded, CrossEncoder)
    return loaded


def test_a_score_does_not_depend_on_the_texts_beside_it(reranker: CrossEncoder) -> None:
    texts = ["horse " * 30, "zebra horse", "horse", "zebra " * 2000, "", *(f"horse {'zebra ' * n}" for n in range(30))]
    together = reranker.scores("what eats", texts)
    assert together.dtype == np.float32
    alone = [reranker.scores("what eats", [text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together[3] == together.max()
    assert together[2] < together[1] < together[3]


def test_it_orders_the_best_candidates_and_changes_no_score(
    searcher: Callable[[Sequence[Document]], Searcher], reranker: CrossEncoder
) -> None:
    plain = searcher(PAGES)
    before = plain.search("What does a horse eat: hay?").passages
    assert [p.document for p in before][:2] == ["hay.md", "oats.md"]

    def order(rerank: int) -> list[str]:
        section = RetrievalSection(rerank=rerank)
        found = Searcher(plain.snapshot, plain.embedder, section, reranker).search("What does a horse eat: hay?")
        assert {p.document: p.score for p in found.passages} == {p.document: p.score for p in before}
        assert found.timings_ms["rerank"] > 0
        return [p.document for p in found.passages]

    assert order(2)[:2] == ["oats.md", "hay.md"]
    assert order(1) == [p.document for p in before]


def test_what_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    assert load_reranker("") is None
    with pytest.raises(UsageError, match=r"retrieval\.reranker: there is no folder"):
        load_reranker(str(tmp_path / "nothing"))
    with pytest.raises(BadInputError, match="holds no cross-encoder"):
        load_reranker(str(tmp_path))
    with pytest.raises(BadInputError, match="2 outputs"):
        load_reranker(str(save_model(tmp_path / "two", labels=2)))
    pickled = save_model(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(BadInputError, match="safetensors"):
        load_reranker(str(pickled))


def test_an_encoder_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    folder = save_model(tmp_path / "model")
    encoder = AutoModel.from_pretrained(folder)
    assert isinstance(encoder, torch.nn.Module)
    encoder.save_pretrained(folder)
    with pytest.raises(BadInputError, match="no trained cross-encoder"):
        load_reranker(str(folder))
