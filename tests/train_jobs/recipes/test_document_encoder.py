"""A document encoder: it comes nearer to its teacher, is served as it was trained, and is bound to its teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import IncompatibleError
from cluster.core.progress import Silent
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, make_dataset
from tests.train_jobs.recipes.encoders import make_encoder, words_of
from tests.train_jobs.recipes.in_process import InProcess

pytestmark = pytest.mark.process  # torch takes seconds to import
CONFIG = PlinthConfig(train=SECTION.model_copy(update={"steps": 60}), index=IndexSection(chunk_tokens=32))


def test_it_learns_its_teachers_vectors_and_is_served_as_it_was_trained(home: object, tmp_path: Path) -> None:
    import torch

    from data_jobs.retrieval.embedder import load_embedder, tokenized
    from data_jobs.retrieval.model_files import find_model
    from train_jobs.models.encoders import EncoderSpec
    from train_jobs.recipes.document_encoder import train_document_encoder
    from train_jobs.recipes.encoder_folder import find_encoder

    store = Store(str(tmp_path / "store"))
    dataset = make_dataset(store)
    base = make_encoder(tmp_path / "tiny", words_of([f"{d.text} {d.title}" for d in documents()]) | {".", ","})
    made = train_document_encoder(CONFIG, store, dataset, base, "fast", Silent(), rate=3e-3, workers=InProcess())
    assert made.counts["held_out_loss"] < 0.6 * made.counts["held_out_loss_at_start"]
    assert made.counts["held_out_cosine"] > made.counts["held_out_cosine_at_start"] + 0.02
    folder = store.artefact(made)
    section = IndexSection(embedder=base, document_encoder=folder, precision="fp32")
    # Long enough not to go through the teacher, and an odd number of tokens beside an even one.
    texts = [" ".join(d.text for d in documents(4, seed)) for seed in (1, 2)]
    texts[1] += " engine"
    spans = [(0, 30), (31, len(texts[0]))]
    served, parts = load_embedder(section).encode_parts(texts, [spans, []])
    files = find_model(section)
    network = EncoderSpec(files.documents.config, head="states").build()  # type: ignore[union-attr]
    teacher = find_encoder(store, base).weights(network.spec)  # type: ignore[arg-type]
    from safetensors.torch import load_file

    from data_jobs.retrieval.bert import unpacked

    network.load_state_dict(teacher | unpacked(load_file(files.documents.weights)))  # type: ignore[union-attr]
    for text, vector in zip(texts, served, strict=True):
        ids = torch.tensor([tokenized(files, text)[0]])
        shown, mask, _ = network.spec.shown(ids, torch.ones_like(ids, dtype=torch.bool))  # type: ignore[operator, union-attr]
        assert shown.shape[1] < ids.shape[1]
        states = network(shown, mask)[0].detach()
        real = torch.tensor([min(2, shown.shape[1] - 2 * i) for i in range(len(states))]).unsqueeze(-1)
        pooled = torch.nn.functional.normalize((states * real).sum(0) / real.sum(), dim=-1).numpy()
        assert vector @ pooled > 0.99999
    assert np.allclose(np.linalg.norm(parts, axis=1), 1, atol=1e-5)
    # Questions, and texts as short as one, are the embedder's own.
    alone = load_embedder(IndexSection(embedder=base, document_encoder="same", precision="fp32"))
    both = load_embedder(section)
    assert np.array_equal(both.encode(["clean the pump"], "query"), alone.encode(["clean the pump"], "query"))
    assert np.array_equal(both.encode(["clean the pump"]), alone.encode(["clean the pump"]))
    assert both.fingerprint != alone.fingerprint
    assert not np.allclose(both.encode(texts), alone.encode(texts), atol=1e-3)
    again = train_document_encoder(CONFIG, store, dataset, base, "fast", Silent(), rate=3e-3, workers=None)
    assert again.version == made.version
    other = make_encoder(tmp_path / "other", words_of(["clean the pump"]))
    with pytest.raises(IncompatibleError, match="made for another embedder"):
        find_model(IndexSection(embedder=other, document_encoder=folder))


def test_a_vector_does_not_depend_on_its_company() -> None:
    from data_jobs.retrieval.embedder import load_embedder

    embedder = load_embedder(IndexSection(precision="fp32"))
    text = "The valve of the second pump has to be opened by hand before the engine is started. " * 4
    longer = text + "Then the gauge shows the pressure, and the filter may be cleaned without stopping the engine. " * 5
    alone, (together, _) = embedder.encode([text])[0], embedder.encode([text, longer])
    assert np.allclose(alone, together, atol=1e-5)
    _, parts = embedder.encode_parts([text], [[(0, 84), (84, 168)]])
    teacher = load_embedder(IndexSection(document_encoder="same", precision="fp32"))
    assert parts[0] @ teacher.encode([text])[0] > 0.6
