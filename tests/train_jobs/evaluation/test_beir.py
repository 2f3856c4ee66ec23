"""Scoring of rankings by hand-made cases, and what a bad folder is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from data_jobs.retrieval.model_files import find_model
from tests.data_jobs.hash_embedder import HashEmbedder
from train_jobs.evaluation.beir import bootstrapped, load_beir, run_retrieval, scored


def folder(tmp_path: Path, qrels: str) -> Path:
    corpus = [{"_id": f"d{i}", "title": f"About {word}", "text": f"This text speaks of {word} at length."}
              for i, word in enumerate(("apples", "bridges", "copper", "dragons"))]  # fmt: skip
    queries = [{"_id": "q1", "text": "apples"}, {"_id": "q2", "text": "dragons"}, {"_id": "q3", "text": "unjudged"}]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.tsv").write_text(qrels)
    return tmp_path


def test_measures_of_a_ranking() -> None:
    grades = {"a": 2.0, "b": 1.0, "c": 0.0}
    best = scored(["a", "b", "c"], grades)
    assert best == {"ndcg@10": 1.0, "recall@5": 1.0, "recall@10": 1.0, "recall@100": 1.0, "mrr": 1.0}
    swapped = scored(["c", "b", "a"], grades)
    assert swapped["ndcg@10"] == pytest.approx((1 / 1.5849625 + 2 / 2) / (2 + 1 / 1.5849625))
    assert swapped["mrr"] == 0.5
    sixth = scored([*"vwxyz", "a"], grades)
    assert (sixth["recall@5"], sixth["recall@10"]) == (0.0, 0.5)
    late = scored([*(f"x{i}" for i in range(20)), "a"], grades)
    assert (late["recall@10"], late["recall@100"]) == (0.0, 0.5)
    assert scored([], grades) == {"ndcg@10": 0.0, "recall@5": 0.0, "recall@10": 0.0, "recall@100": 0.0, "mrr": 0.0}


def test_intervals_hold_the_mean_and_are_reproducible() -> None:
    values = [0.0, 1.0] * 50
    mean = bootstrapped(values)
    assert mean == bootstrapped(values)
    assert mean.low < mean.value == 0.5 < mean.high
    assert bootstrapped([1.0] * 10).low == 1.0


def test_a_folder_is_ranked_by_each_search(tmp_path: Path) -> None:
    data = load_beir(folder(tmp_path, "query-id\tcorpus-id\tscore\nq1\td0\t1\nq2\td3\t1\nq2\td1\t0\n"))
    assert set(data.queries) == {"q1", "q2"}
    embedder = HashEmbedder(find_model(PlinthConfig().index).identity)
    result = run_retrieval(data, PlinthConfig(), embedder)  # type: ignore[arg-type]
    assert {system: table["ndcg@10"].value for system, table in result.scores.items()} == {
        "bm25": 1.0, "dense": 1.0, "fused": 1.0
    }  # fmt: skip
    assert json.loads(json.dumps(result.to_dict()))["scores"]["fused"]["mrr"]["low"] == 1.0


@pytest.mark.parametrize(
    ("qrels", "told"),
    [
        ("q1\td0\n", r"qrels.tsv:1: not query-id"),
        ("query-id\tcorpus-id\tscore\nq1\td9\t1\n", r"qrels.tsv:2: there is no query q1 or no document d9"),
        ("query-id\tcorpus-id\tscore\nq1\td0\t0\n", "no query has a relevant document"),
    ],
)
def test_bad_judgements_are_named(tmp_path: Path, qrels: str, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        load_beir(folder(tmp_path, qrels))


def test_bad_lines_are_named(tmp_path: Path) -> None:
    made = folder(tmp_path, "query-id\tcorpus-id\tscore\nq1\td0\t1\n")
    (made / "queries.jsonl").write_text('{"_id": "q1"}\n')
    with pytest.raises(BadInputError, match=r"queries.jsonl:1: text is missing"):
        load_beir(made)
    (made / "queries.jsonl").write_text("nonsense\n")
    with pytest.raises(BadInputError, match=r"queries.jsonl:1: not JSON"):
        load_beir(made)
    with pytest.raises(BadInputError, match="BEIR form"):
        load_beir(tmp_path / "nowhere")
