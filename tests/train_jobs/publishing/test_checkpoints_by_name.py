"""Where a model is taken from: what was trained here is named like a registered model, and is its origin."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.errors import BadInputError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store
from data_jobs.lineage.graph import Inventory
from tests.train_jobs.publishing.model_folders import plain_folder
from train_jobs.publishing.sources import model_of


def checkpoint(store: Store, folder: Path, name: str, stage: str) -> Manifest:
    files = {path.name: path.read_bytes() for path in plain_folder(folder).iterdir()}
    files |= {"training.json": json.dumps({"stage": stage}).encode(), "metrics.jsonl": b"{}\n"}
    for file, body in files.items():
        store.write(posixpath.join(store.staging(name), file), body)
    made = store.publish("checkpoints", name, store.staging(name), run_key=name)
    store.move_alias("checkpoints", name, "latest", made.version, why="test")
    return made


def test_a_checkpoint_by_its_name(home: Path, tmp_path: Path) -> None:
    store = Store(Home(home).store_uri)
    made = checkpoint(store, tmp_path / "model", "small-base-chat", "chat")
    for source in ("small-base-chat", f"small-base-chat@{made.version}"):
        with model_of(store, source) as (folder, origin):
            assert origin == {"checkpoint": f"small-base-chat@{made.version}"}
            assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(folder.files)
            assert not (folder.path / "metrics.jsonl").exists()
    with pytest.raises(BadInputError, match="nobody"), model_of(store, "nobody"):
        pass


def test_a_folder_of_that_name_comes_first(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Home(home).store_uri)
    checkpoint(store, tmp_path / "model", "mine", "chat")
    plain_folder(tmp_path / "here" / "mine")
    monkeypatch.chdir(tmp_path / "here")
    with model_of(store, "mine") as (_, origin):
        assert origin == {"source": "folder mine"}


def test_one_that_only_points_is_not_exported(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(Home(home).store_uri)
    checkpoint(store, tmp_path / "model", "small", "finetune")
    assert main(["edge", "export", "small", "--output", str(tmp_path / "out")]) == 3
    assert "nothing to say alone" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.slow
def test_a_tier_made_of_a_checkpoint_inherits_what_it_was_trained_on(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else forgetting a document would not mark it."""
    from tests.train_jobs.recipes.language_models import make_checkpoint

    store = Store(Home(home).store_uri)
    base = make_checkpoint(store, "tiny-base")
    assert main(["models", "add", "tiny-base", "--tier", "chatty", "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    assert added["metadata"]["provenance"]["checkpoint"] == f"tiny-base@{base.version}"
    (made,) = store.versions("models", "chatty")
    assert made in Inventory.read(store).descendants([base])
