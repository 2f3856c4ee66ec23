"""What is trained on documents that not everybody may read: only where it is wanted, and with their labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.config import PlinthConfig
from cluster.core.errors import ExitCode, PolicyRefusedError
from cluster.core.progress import Silent
from cluster.core.records import Manifest
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, make_dataset, make_examples
from tests.train_jobs.recipes.in_process import InProcess
from train_jobs.data.tokenizer import train_tokenizer
from train_jobs.launch import finetune, pretrain
from train_jobs.publishing.sources import model_of

pytestmark = pytest.mark.process  # torch takes seconds to import

SHORT = SECTION.model_copy(update={"steps": 2})
CLOSED = PlinthConfig(train=SHORT)
OPEN = PlinthConfig(train=SHORT, data=DataSection(train_labelled=True))
LABELS = {"access": {"": 100, "acme:hr": 20}}


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


def labelled(store: Store) -> Manifest:
    made = make_dataset(store, [replace(d, access="acme:hr" if n < 20 else "") for n, d in enumerate(documents())])
    folder = store.staging("labelled")
    for file in made.files:
        store.write(f"{folder}/{file.path}", store.read(f"{store.artefact(made)}/{file.path}"))
    return store.publish("datasets", "wages", folder, run_key="labelled", counts={**made.counts, **LABELS})


def test_a_model_is_trained_where_it_is_wanted_and_keeps_the_labels(store: Store, tmp_path: Path, capsys) -> None:
    dataset, plain = labelled(store), make_dataset(store)
    with pytest.raises(PolicyRefusedError, match="20 of its documents have access labels"):
        train_tokenizer(CLOSED, store, dataset, Silent())
    tokenizer = train_tokenizer(CLOSED, store, plain, Silent())
    with pytest.raises(PolicyRefusedError, match=r"data\.train_labelled=true"):
        pretrain(CLOSED, store, dataset, tokenizer, Silent(), workers=InProcess())
    base = pretrain(OPEN, store, dataset, tokenizer, Silent(), workers=InProcess())
    assert base.counts["access"] == LABELS["access"]
    # What goes on from it has them too, whatever it learns itself.
    tuned = finetune(CLOSED, store, base, make_examples(store, tokenizer), Silent(), workers=InProcess())
    assert tuned.counts["access"] == LABELS["access"]

    # Nor do a copy's get lost, and what would answer everybody is not made of it.
    assert main(["edge", "export", "tiny", "--output", str(tmp_path / "edge")]) == ExitCode.REFUSED
    assert "acme:hr" in capsys.readouterr().err
    copy = store.artefact(tuned)
    with model_of(store, copy) as (_, origin):
        assert origin["copy_of"] == f"tiny@{tuned.version}"
    assert main(["edge", "export", copy, "--output", str(tmp_path / "edge")]) == ExitCode.REFUSED
    assert not (tmp_path / "edge").exists()


def test_a_tokenizer_of_labelled_documents_leaves_its_labels_to_the_model(store: Store) -> None:
    tokenizer = train_tokenizer(OPEN, store, labelled(store), Silent())
    base = pretrain(CLOSED, store, make_dataset(store), tokenizer, Silent(), workers=InProcess())
    assert base.counts["access"] == LABELS["access"]
    assert json.loads(store.read(f"{store.artefact(base)}/training.json"))["steps"] == 2
