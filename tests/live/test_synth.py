"""`plinth data synth` on a real cluster: publishes, reuses, refuses, and runs as a job with the same result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.home import Home
from cluster.core.storage import Store
from data_jobs.parquet import read_table
from tests.live.conftest import Service

pytestmark = pytest.mark.live


def test_rows_are_published_with_their_report_and_the_same_run_is_reused(service: Service) -> None:
    made = service.json("data", "synth", "--share", "0.5", "--seed", "1")
    counts = made["counts"]
    assert made["kind"] == "synthetic"
    assert counts["candidates"] == counts["kept"] + counts["filtered"] + counts["not_chosen"]
    assert 0 < counts["kept"] <= counts["allowed"] == counts["documents"]
    store = Store(Home(service.home).store_uri)
    manifest = store.manifest("synthetic", made["name"], made["version"])
    rows = [
        row for f in manifest.files if f.path.startswith("rows-")
        for row in read_table(store.read(f"{store.artefact(manifest)}/{f.path}")).to_pylist()
    ]  # fmt: skip
    assert len(rows) == counts["kept"]
    assert {row["kind"] for row in rows} == {"synthetic"}
    assert all(row["answer"] in row["passage"] for row in rows)
    again = service.json("data", "synth", "--share", "0.5", "--seed", "1")
    assert again["version"] == made["version"]


def test_more_than_the_share_allows_is_refused(service: Service) -> None:
    done = service.plinth("data", "synth", "--count", "100000", "--json", check=False)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["policy"] == "synthetic_share"


def test_a_dataset_becomes_token_shards(service: Service, tmp_path: Path) -> None:
    words = {"[UNK]": 0, "<|endoftext|>": 1, "the": 2, "pump": 3}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    made = service.json("data", "tokens", "--tokenizer", str(tmp_path))
    assert made["kind"] == "tokens"
    assert made["counts"]["documents"] > 0
    assert made["counts"]["tokens"] > made["counts"]["documents"]
    again = service.json("data", "tokens", "--tokenizer", str(tmp_path))
    assert again["version"] == made["version"]
