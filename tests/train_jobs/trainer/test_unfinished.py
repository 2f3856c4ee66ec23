"""A change of the code in the middle of a run asks, instead of starting over without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import UsageError
from cluster.core.storage import Store
from train_jobs.trainer.unfinished import CodeChange, settle

INPUTS, SETTINGS = {"dataset": "manual@1"}, {"learning_rate": 0.1}


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Store:
    del home
    return Store(str(tmp_path / "store"))


def begin(store: Store, key: str, change: CodeChange = "ask", **settings: float) -> None:
    settle(store, "pretrain", key, INPUTS, {**SETTINGS, **settings}, change)


def checkpoint(store: Store, key: str, step: int) -> Path:
    path = Path(store.path("staging", key, "checkpoints", f"{step:08d}", "manifest.json"))
    store.write(str(path), b"{}")
    return path


def test_a_run_that_other_code_began_is_asked_about(store: Store) -> None:
    begin(store, "older")
    checkpoint(store, "older", 7)
    with pytest.raises(UsageError, match=r"step 7 .*--allow-code-change.*--fresh") as refused:
        begin(store, "newer")
    assert refused.value.extras == {"run": "pretrain-older", "step": 7}


def test_with_leave_it_goes_on_from_the_newest_checkpoints(store: Store) -> None:
    for key, step in (("older", 7), ("old", 9)):
        begin(store, key, None)
        checkpoint(store, key, step)
    begin(store, "newer", "resume")
    staging = Path(store.path("staging"))
    assert (staging / "newer" / "checkpoints" / "00000009" / "manifest.json").exists()
    assert sorted(path.name for path in staging.iterdir()) == ["newer", "older"]
    begin(store, "newer")  # its own checkpoints now: nothing to ask


def test_fresh_removes_what_was_begun(store: Store) -> None:
    for key in ("older", "newer"):
        begin(store, key, None)
        checkpoint(store, key, 7)
    begin(store, "newer", "fresh")
    assert [path.name for path in Path(store.path("staging")).iterdir()] == ["newer"]
    assert not Path(store.path("staging", "newer", "checkpoints")).exists()


@pytest.mark.parametrize("difference", ["settings", "no checkpoint", "running", "nobody to ask"])
def test_nothing_is_asked_where_there_is_nothing_to_go_on_from(store: Store, difference: str) -> None:
    from actors.registry.runs import RunLog

    begin(store, "older", learning_rate=0.2 if difference == "settings" else 0.1)
    if difference != "no checkpoint":
        checkpoint(store, "older", 7)
    if difference == "running":
        RunLog(store, "pretrain-older", "pretrain", {})
    begin(store, "newer", None if difference == "nobody to ask" else "ask")
    assert Path(store.path("staging", "older")).exists()
