"""The suites of the data plane: what they count, what they refuse, and the goals on the real data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.core.errors import BadInputError
from train_jobs.evaluation.dedup_suite import compare_clusters, components, score_dedup
from train_jobs.evaluation.pii_suite import CORE, score_pii

WORDS = [f"word{i}" for i in range(100)]


def rows(path: Path, *items: dict) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_characters_are_counted_by_type_and_half(tmp_path: Path) -> None:
    text = "mail ann@corp.io or call 415-555-2671 for Ann"
    spans = [
        {"type": "EMAIL_ADDRESS", "start": 5, "end": 16}, {"type": "PERSON", "start": 42, "end": 45},
        {"type": "AGE", "start": 0, "end": 4},
    ]  # fmt: skip
    data = rows(tmp_path / "a.jsonl", {"text": text, "spans": spans, "template_id": 3},
                {"text": "nothing", "spans": [], "template_id": 2})  # fmt: skip
    result = score_pii(data)
    table = result.splits["report"]
    assert vars(table["EMAIL"]) == {"gold": 11, "found": 11, "right": 11}
    assert vars(table["PHONE"]) == {"gold": 0, "found": 12, "right": 0}
    assert vars(table["PERSON"]) == {"gold": 3, "found": 0, "right": 0}
    assert vars(table["core"]) == {"gold": 11, "found": 23, "right": 11}
    assert table["core"].precision == pytest.approx(11 / 23)
    assert table["all"].recall == pytest.approx(11 / 14)
    assert vars(table["all+names"]) == {"gold": 14, "found": 26, "right": 14}
    assert result.unmapped == {"AGE": 1}
    assert all(score.gold + score.found == 0 for score in result.splits["tune"].values())
    assert json.loads(json.dumps(result.to_dict()))["splits"]["report"]["EMAIL"]["f1"] == 1


@pytest.mark.parametrize("body", ["", "not json\n", '{"text": "a"}\n', '{"text": "a", "spans": [{"type": "X"}]}\n'])
def test_data_without_the_form_are_refused(body: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(body)
    with pytest.raises(BadInputError):
        score_pii(path)
    with pytest.raises(BadInputError):
        score_dedup(tmp_path)


def test_rules_reach_the_goal_on_the_half_they_were_not_written_on(data_set: Callable[[str], Path]) -> None:
    result = score_pii(data_set("pii_presidio_synth"))
    core = result.splits["report"]["core"]
    assert core.gold > 2000
    assert core.f1 is not None
    assert core.f1 >= 0.95
    assert set(CORE) - {"SECRET"} <= {kind for kind, score in result.splits["report"].items() if score.gold}


def test_clusterings_are_compared_by_pairs() -> None:
    gold = components("abcdef", [("a", "b"), ("b", "c"), ("d", "e")])
    assert gold["a"] == gold["b"] == gold["c"] != gold["d"] == gold["e"] != gold["f"]
    assert compare_clusters(gold, gold) == (1, 1, 1, 1)
    apart = {name: name for name in "abcdef"}
    assert compare_clusters(gold, apart) == (1, 0, 0, 0)
    precision, recall, f1, ari = compare_clusters(gold, components("abcdef", [("a", "b"), ("e", "f")]))
    assert (precision, recall, f1) == (0.5, 0.25, pytest.approx(1 / 3))
    assert ari == pytest.approx((1 - 8 / 15) / (3 - 8 / 15))


def test_pairs_and_clusters_of_small_documents(tmp_path: Path) -> None:
    near = " ".join([*WORDS, "tail"])
    rows(tmp_path / "docs.jsonl", {"id": "a", "text": " ".join(WORDS)}, {"id": "b", "text": near},
         {"id": "c", "text": " ".join(WORDS[50:])})  # fmt: skip
    (tmp_path / "pairs.tsv").write_text(
        "id_a\tid_b\trelation\tjaccard\nb\ta\tx\t0.9897\na\tc\tx\t0.479\nb\tc\tx\t0.474\n"
    )
    (score,) = score_dedup(tmp_path, [0.8]).scores
    assert (score.pairs, score.found, score.right, score.clusters, score.clusters_found) == (1, 1, 1, 1, 1)
    assert score.pairwise_f1 == score.ari == score.recall == score.precision == 1
    (strict,) = score_dedup(tmp_path, [0.995]).scores
    assert (strict.pairs, strict.found, strict.clusters_found) == (0, 0, 0)


def test_recall_of_pairs_and_final_clusters_on_versions_of_real_documents(data_set: Callable[[str], Path]) -> None:
    (score,) = score_dedup(data_set("dup_doc_versions"), [0.8]).scores
    assert score.pairs > 700
    assert score.recall >= 0.99
    assert score.precision >= 0.99
    assert score.pairwise_f1 >= 0.99
    assert score.ari >= 0.99
