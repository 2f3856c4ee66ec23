"""Snapshots: what is written comes back, equal inputs give equal bytes, and damage or a foreign embedder is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import IncompatibleError, IntegrityError
from cluster.core.records import Document
from data_jobs.retrieval import dense
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.snapshot import CHUNK, SENTENCE, Snapshot
from tests.data_jobs.retrieval.conftest import Publish
from tests.data_jobs.retrieval.documents import CORPUS


def test_round_trip(publish: Publish, embedder: Embedder, tmp_path: Path) -> None:
    store, manifest = publish(CORPUS)
    loaded = Snapshot.load(store.fetch(manifest, tmp_path), manifest, embedder.fingerprint)
    texts = {d.id: d.text for d in CORPUS}
    assert {c.document for c in loaded.chunks} == set(texts)
    assert all(c.text == texts[c.document][c.start : c.end] for c in loaded.chunks)
    copytree = next(i for i, c in enumerate(loaded.chunks) if c.document == "files.copytree")
    assert loaded.aliases[copytree] == ("files.api.copytree",)
    assert loaded.chunks[copytree].prior > 0
    assert "Operations on files and trees of files." in loaded.chunks[copytree].context
    assert set(loaded.unit_kind.tolist()) == {CHUNK, SENTENCE}
    assert np.allclose(np.linalg.norm(loaded.vectors, axis=1), 1, atol=2e-3)
    assert (loaded.version, loaded.as_of) == (manifest.version, manifest.created_at)


def test_equal_inputs_give_an_equal_version(publish: Publish) -> None:
    assert publish(CORPUS)[1].version == publish(CORPUS)[1].version


def test_one_flipped_bit_in_any_file_is_refused(publish: Publish, tmp_path: Path) -> None:
    store, manifest = publish(CORPUS)
    folder = Path(store.artefact(manifest))
    names = {Path(f.path).name for f in manifest.files}
    assert names >= {"chunks.parquet", "units.parquet", "vectors.npy", "keys.npy", "meta.json"}
    for entry in manifest.files:
        path = folder / entry.path
        good = path.read_bytes()
        for at in (0, len(good) // 2, len(good) - 1):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            with pytest.raises(IntegrityError):
                store.fetch(manifest, tmp_path)
        path.write_bytes(good)
    store.fetch(manifest, tmp_path)


def test_a_large_index_is_stored_clustered_and_finds_the_same(
    publish: Publish, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = [Document(f"n{i}.md", f"Note {i}", f"Note {i} is about topic {i * 7}.", f"n{i}.md") for i in range(130)]
    small = publish(notes)
    monkeypatch.setattr(dense, "EXACT_UP_TO", 100)
    large, again = publish(notes), publish(notes)
    assert large[1].version == again[1].version != small[1].version
    question = embedder.encode(["Which note is about topic 84?"])[0]
    found = []
    for store, manifest in (small, large):
        snapshot = Snapshot.load(store.fetch(manifest, tmp_path), manifest, embedder.fingerprint)
        index = snapshot.dense.get(CHUNK) or dense.DenseIndex(snapshot.vectors[snapshot.unit_kind == CHUNK])
        assert (CHUNK in snapshot.dense) == ("dense.faiss" in {Path(f.path).name for f in manifest.files})
        found.append(index.search(question, 5)[0].tolist())
    assert found[0] == found[1]


def test_another_embedder_is_refused(publish: Publish, tmp_path: Path) -> None:
    store, manifest = publish(CORPUS)
    with pytest.raises(IncompatibleError, match="rebuild the index"):
        Snapshot.load(store.fetch(manifest, tmp_path), manifest, "0123456789abcdef")
