"""What an earlier version stored stays readable: a store made by `plinth quickstart` at commit 6db0543, over 14 notes.

``stored/store-6db0543.tar.xz`` is that store as it was left: a dataset, an index, a tokenizer, checkpoints, training
examples, and a model that its gate refused. Readers change; what they read was written long ago.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from actors.registry.models import Registry
from actors.registry.runs import list_runs, read_metrics
from cluster.core.presets import laptop
from cluster.core.storage import Store
from data_jobs.corpus.dataset import read_documents
from data_jobs.corpus.report import load_report
from data_jobs.lineage.audit import audit
from data_jobs.lineage.graph import Inventory, document_lineage, graph
from train_jobs.data.tokenizer import load_tokenizer
from train_jobs.evaluation.held_out import load_rows
from train_jobs.publishing.card import render

STORED = Path(__file__).with_name("stored")


@pytest.fixture(scope="module", params=sorted(path.name for path in STORED.glob("*.tar.xz")))
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(STORED / request.param) as archive:
        archive.extractall(folder, filter="data")
    return Store(str(folder / "store"))


@pytest.fixture(autouse=True)
def own_home(home: Path) -> None:
    """Caches of remote stores are below PLINTH_HOME."""


KINDS = ("datasets", "indexes", "tokenizers", "checkpoints", "examples", "models", "gates")


def test_every_version_is_whole(store: Store) -> None:
    for kind in KINDS:
        versions = [manifest for name in store.names(kind) for manifest in store.versions(kind, name)]
        assert versions, kind
        for manifest in versions:
            store.verify(manifest)


def test_the_dataset_and_its_books(store: Store) -> None:
    dataset = store.manifest("datasets", "oldsrc", "latest")
    documents = read_documents(store, dataset)
    assert len(documents) == 14
    assert "feed pump moves cooling water" in next(d.text for d in documents if d.id.endswith("pump.md"))
    assert load_report(store, dataset)["counts"]["kept"] == 14
    assert audit(store, dataset)["documents"] == 14


@pytest.mark.process
def test_the_index_answers(store: Store, embedder) -> None:
    from data_jobs.retrieval.search import Searcher
    from data_jobs.retrieval.snapshot import Snapshot

    index = store.manifest("indexes", "main", "live")
    snapshot = Snapshot.load(store.fetch(index, Path()), index, embedder.asks, None)
    found = Searcher(snapshot, embedder, laptop().retrieval).search("When does the relief valve open?")
    assert found.passages[0].document == "valve.md"
    assert found.index_version == index.version


def test_lineage_leads_from_the_model_to_the_files(store: Store) -> None:
    catalogue = Inventory.read(store)
    text = str(graph(store, catalogue, store.manifest("models", "small", "candidate")))
    assert "pump.md" in text
    assert str(document_lineage(store, catalogue, "valve.md")).count("oldsrc") >= 1


def test_the_registry_knows_the_model_its_gate_and_its_card(store: Store) -> None:
    registry = Registry(store)
    assert registry.names() == ["small"]
    (version,) = registry.versions("small")
    assert version.verdict == "refused"
    assert registry.history("small")[0].event == "registered"
    assert "small" in render(registry.card("small", version.version))


def test_runs_and_examples(store: Store) -> None:
    runs = {run.kind: run for run in list_runs(store)}
    assert set(runs) == {"pretrain", "finetune"}
    assert read_metrics(store, runs["pretrain"].id)
    (examples,) = store.versions("examples", "small")
    assert load_rows(store, examples, laptop().gate)


def test_tokenizer_and_checkpoint_fit_each_other(store: Store) -> None:
    from safetensors.numpy import load_file

    tokenizer = load_tokenizer(store, store.manifest("tokenizers", "small", "latest"))
    checkpoint = store.manifest("checkpoints", "small", "latest")
    weights = load_file(store.fetch(checkpoint, Path()) / "model.safetensors")
    assert weights["model.embed_tokens.weight"].shape[0] == tokenizer.get_vocab_size()


@pytest.mark.process
def test_the_model_speaks(store: Store) -> None:
    from train_jobs.evaluation.generate import load_generator

    model = store.manifest("models", "small", "candidate")
    (said,) = load_generator(store.fetch(model, Path()), threads=1)(["The pump"])
    assert isinstance(said.text, str)
    assert 0 < said.probability <= 1
