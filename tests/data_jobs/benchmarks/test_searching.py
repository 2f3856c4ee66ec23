"""The benchmark of a large index: what it measures is what it says, on a small one."""

from __future__ import annotations

import pytest

from cluster.core.errors import BadInputError
from cluster.core.sections.data import IndexSection, RetrievalSection
from data_jobs.benchmarks.searching import measure
from data_jobs.retrieval import dense
from data_jobs.retrieval.model_files import find_model
from tests.data_jobs.hash_embedder import HashEmbedder

WORDS = ("river", "bridge", "copper", "dragon", "engine", "forest", "garden", "harbour", "island", "kettle", "ladder")


def texts() -> list[str]:
    return [
        " ".join(f"The {WORDS[(i + j) % 11]} number {i * j} stands beside the {WORDS[(i * j) % 11]}." for j in range(9))
        for i in range(60)
    ]


@pytest.mark.process
def test_latency_recall_and_size_of_a_clustered_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "EXACT_UP_TO", 500)
    embedder = HashEmbedder(find_model(IndexSection()).identity)
    result = measure(texts(), embedder, RetrievalSection(), chunks=1500, queries=10)  # type: ignore[arg-type]
    assert (result["chunks"], result["queries"]) == (1500, 10)
    assert result["recall_at_10"] >= 0.9
    assert 0 < result["search_ms"]["p50"] <= result["search_ms"]["p95"] <= result["whole_ms"]["p95"]
    assert 0.9 <= result["fused_recall_at_10"] <= 1
    disk, memory = result["disk_bytes_per_chunk"], result["memory_bytes_per_chunk"]
    assert disk["vectors"] == pytest.approx(5 * embedder.dim * 2, abs=1), "a chunk and four sentences, two bytes each"
    assert disk["dense"] >= embedder.dim * 4
    assert disk["all"] == pytest.approx(sum(disk.values()) - disk["all"], abs=len(disk))
    assert memory["all"] >= disk["vectors"] + disk["dense"]
    assert memory["texts and names"] > 0 < memory["lexical index"]
    assert set(result["load_s"]) == set(result["load_cpu_s"]) == {"read", "lexical"}
    assert "noise" in result["made"], "what is not real is said"
    assert set(result["stage_p95_ms"]) == {"embed", "lexical", "dense", "fuse", "sentences", "features"}


def test_too_little_text_is_refused() -> None:
    embedder = HashEmbedder(find_model(IndexSection()).identity)
    with pytest.raises(BadInputError, match="too little text"):
        measure(["One sentence. And another one."], embedder, RetrievalSection(), 1000, 10)  # type: ignore[arg-type]
