"""What an audit counts and shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import IntegrityError
from cluster.core.records import Dropped
from cluster.core.storage import Store
from data_jobs.lineage.audit import audit
from tests.data_jobs.artefacts import dataset, document, reference


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_counts_extremes_and_age(store: Store) -> None:
    first = dataset(store, [document("a.md", "x" * 10), document("b.md", "y" * 20)])
    second = dataset(
        store,
        [
            document("a.md", "x" * 10, licence="MIT", language="en", steps=("normalised", "redacted:EMAIL")),
            document("b.md", "z" * 30, licence="MIT", language="de", sensitivity="internal", steps=("redacted:EMAIL",)),
            document("c.md", "c" * 5, steps=("redacted:CARD", "redacted:EMAIL")),
        ],
        dropped=[
            Dropped("d.md", "d.md", "duplicate", "near_duplicate", "a.md"),
            Dropped("e.md", "e.md", "filtered", "too_few_words"),
            Dropped("f.md", "f.md", "filtered", "too_few_words"),
        ],
    )
    found = audit(store, second, samples=2)
    assert (found["documents"], found["characters"]) == (3, 45)
    assert found["by"]["licence"] == {"MIT": 2, "unknown": 1}
    assert found["by"]["language"] == {"en": 1, "de": 1, "unknown": 1}
    assert found["by"]["sensitivity"] == {"unknown": 2, "internal": 1}
    assert found["by"]["step"] == {"normalised": 1}
    assert {kind: c["documents"] for kind, c in found["pii"].items()} == {"EMAIL": 3, "CARD": 1}
    assert found["duplicates"] == {"near_duplicate": 1}
    assert found["filtered"] == {"too_few_words": 2}
    assert found["longest"] == [{"id": "b.md", "characters": 30}, {"id": "a.md", "characters": 10}]
    assert found["shortest"] == [{"id": "c.md", "characters": 5}, {"id": "a.md", "characters": 10}]
    assert [(o["id"], o["version"]) for o in found["oldest"]] == [("a.md", reference(first))]
    assert found["lengths"] == {"p0": 5, "p25": 5, "p50": 10, "p75": 30, "p100": 30}


def test_samples_follow_from_the_seed(store: Store) -> None:
    made = dataset(store, [document(f"{n:03}.md") for n in range(200)])
    drawn = [[s["id"] for s in audit(store, made, samples=10, seed=seed)["samples"]] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10
    assert audit(store, made, samples=0)["samples"] == []


def test_a_damaged_dataset_is_refused_by_file(store: Store) -> None:
    made = dataset(store, [document("a.md")])
    path = Path(store.artefact(made)) / "documents-00000.parquet"
    path.write_bytes(b"PAR1" + path.read_bytes()[8:])
    with pytest.raises(IntegrityError, match="documents-00000"):
        audit(store, made)
