"""The name model: a real transformers model small enough to be written by hand, in a real folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import BadInputError

pytestmark = pytest.mark.process
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "anna", "smith", "went", "home", "to", "##son", "o"]


def save_model(folder: Path, labels: list[str]) -> Path:
    """A BERT of no layers: its label is a look-up of the word. ``anna`` begins a name, ``smith`` goes on, rest is O."""
    import torch
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=4, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4,
        num_labels=len(labels), id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        words = model.bert.embeddings.word_embeddings.weight
        words[:, 0] = 1.0
        words[VOCABULARY.index("anna")] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        words[VOCABULARY.index("smith")] = torch.tensor([0.0, 0.0, 1.0, 0.0])
        model.classifier.weight[: len(labels), : len(labels)] = torch.eye(len(labels), 4)[:, : len(labels)]
    model.save_pretrained(folder)
    return folder


def test_names_are_found_whole_in_texts_longer_than_the_window(tmp_path: Path) -> None:
    from data_jobs.pii import redact
    from data_jobs.pii.names import load_names

    names = load_names(str(save_model(tmp_path / "m", ["O", "B-PER", "I-PER"])))
    text = "Anna Smith went home. " + "went home to " * 300 + "Annason, Smith; anna@corp.io"
    redacted, found = redact(text, names=names)
    assert redacted == ("<PERSON_1> went home. " + "went home to " * 300 + "<PERSON_2>, <PERSON_3>; <EMAIL_1>")
    assert [f.type for f in found] == ["PERSON", "PERSON", "PERSON", "EMAIL"]
    assert names.spans(" \n") == []


def test_a_folder_that_is_no_name_model_is_refused(tmp_path: Path) -> None:
    from data_jobs.pii.names import load_names

    with pytest.raises(BadInputError, match="no folder"):
        load_names(str(tmp_path / "nothing"))
    with pytest.raises(BadInputError, match="no token classification model"):
        load_names(str(tmp_path))
    with pytest.raises(BadInputError, match="no label PER"):
        load_names(str(save_model(tmp_path / "m", ["O", "B-LOC", "I-LOC"])))


def test_guards_use_the_same_model_in_both_directions(tmp_path: Path) -> None:
    import asyncio

    from cluster.core.config import PlinthConfig, configured
    from serve_apps.replicas.guard import GuardReplica

    folder = save_model(tmp_path / "m", ["O", "B-PER", "I-PER"])
    text = "who is anna smith today"
    for settings, wanted in (([f"data.name_model={folder}"], "who is <PERSON_1> today"), ([], text)):
        guard = GuardReplica(configured(PlinthConfig(), settings))
        assert asyncio.run(guard.check_input([text]))[0].text == wanted
        spans = asyncio.run(guard.check_output([text]))[0].spans
        assert [(span.type, text[span.start : span.end]) for span in spans] == (
            [("PERSON", "anna smith")] if settings else []
        )
