"""Labels behind an artefact: every document's that had a part in it, however far back, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.lineage.labels import labels_behind
from tests.data_jobs.artefacts import made_of, reference


@pytest.fixture
def store(home: Path) -> Store:
    return Store(str(home / "store"))


def dataset(store: Store, name: str, **access: int) -> Manifest:
    staging = store.staging(name)
    store.write(f"{staging}/content.json", name.encode())
    labels = {label.replace("_", ":"): count for label, count in access.items()}
    counts: dict[str, Any] = {"kept": 9} | ({"access": labels} if labels else {})
    return store.publish("datasets", name, staging, run_key=name, counts=counts)


def test_the_union_of_all_that_is_behind(store: Store) -> None:
    notes, wages, plain = (
        dataset(store, "notes", acme=3),
        dataset(store, "wages", acme=1, acme_hr=2),
        dataset(store, "p"),
    )
    tokens = made_of(store, "tokens", "notes", dataset=notes)
    tokenizer = made_of(store, "tokenizers", "small", dataset=plain)
    base = made_of(store, "checkpoints", "base", tokens=tokens, tokenizer=tokenizer)
    examples = made_of(store, "examples", "small", dataset=wages, tokenizer=tokenizer)
    of = {"base": reference(base), "examples": reference(examples), "source": "folder x", "weights": "0123"}
    assert labels_behind(store, of) == {"access": {"acme": 3, "acme:hr": 2}}
    assert labels_behind(store, {"base": reference(base)}) == {"access": {"acme": 3}}
    assert labels_behind(store, {"tokenizer": reference(tokenizer)}) == {}


def test_what_is_not_here_counts_nothing_and_what_is_named_twice_once(store: Store) -> None:
    wages = dataset(store, "wages", acme_hr=2)
    again = made_of(store, "tokens", "t", dataset=wages, same=wages)
    of = {"tokens": reference(again), "dataset": reference(wages), "base": "gone@0123456789ab", "n": 7}
    assert labels_behind(store, of) == {"access": {"acme:hr": 2}}


def test_what_a_checkpoint_says_outlives_its_dataset(store: Store) -> None:
    staging = store.staging("c")
    store.write(f"{staging}/content.json", b"c")
    checkpoint = store.publish("checkpoints", "c", staging, run_key="c", inputs={"dataset": "gone@0123456789ab"},
                               counts={"access": {"acme:hr": 1}})  # fmt: skip
    assert labels_behind(store, {"checkpoint": reference(checkpoint)}) == {"access": {"acme:hr": 1}}
