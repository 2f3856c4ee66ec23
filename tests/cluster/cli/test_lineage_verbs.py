"""plinth lineage, data audit, data forget, gc: exit codes, JSON, and what a person sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.main import main
from cluster.core.records import Manifest
from cluster.core.storage import Store
from tests.data_jobs.artefacts import dataset, document, index, made_of, reference


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLINTH_STORE", str(tmp_path / "store"))
    return Store(str(tmp_path / "store"))


@pytest.fixture
def notes(store: Store) -> Manifest:
    made = dataset(store, [document("a.md"), document("b[/bold].md")])
    index(store, made, ["a.md"])
    return made


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_verb_answers_people_and_programs(
    store: Store, notes: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_json(capsys, "lineage", "notes")["artefact"]["version"] == notes.version
    assert as_json(capsys, "lineage", "--document", "a.md")["indexes"][0]["chunks"] == 1
    assert as_json(capsys, "data", "audit", "notes")["documents"] == 2
    assert as_json(capsys, "gc", "--dry-run")["items"] == []
    for verb in (["lineage", "main@live"], ["lineage", "--document", "a.md"], ["data", "audit"], ["gc", "--dry-run"]):
        assert main(verb) == 0
        assert notes.version in capsys.readouterr().out, verb


def test_the_tree_leaves_out_an_empty_input_and_counts_one_document_as_one(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    made = dataset(store, [document("a.md")])
    staging = store.staging("tokenizer-small")
    store.write(f"{staging}/tokenizer.json", b"{}")
    inputs = {"dataset": reference(made), "warning": ""}
    store.publish("tokenizers", "small", staging, run_key="t", inputs=inputs)
    assert main(["lineage", "tokenizers/small"]) == 0
    shown = capsys.readouterr().out
    assert "warning" not in shown
    assert "source: /somewhere" in shown
    assert "1 document\n" in shown


def test_they_fit_80_columns(store: Store, notes: Manifest, at_80_columns: Callable[..., str]) -> None:
    at_80_columns("lineage main@live", notes.version)
    at_80_columns("lineage --document a.md", notes.version)
    at_80_columns("data audit", notes.version)
    at_80_columns("gc --dry-run", notes.version)
    at_80_columns("index list", notes.version)
    at_80_columns("data sources")


def test_forgetting_marks_the_model_and_is_verified(
    store: Store, notes: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    made_of(store, "models", "small", dataset=notes)
    receipt = as_json(capsys, "data", "forget", "--document", "a.md", "--why", "asked")
    assert receipt["found"][0]["dataset"] == reference(notes)
    assert main(["data", "forget", "--verify", receipt["receipt"]]) == 0
    assert "genuine" in capsys.readouterr().out
    dataset(store, [document("a.md"), document("c.md")])  # somebody published it again
    assert main(["data", "forget", "--verify", receipt["receipt"]]) == 4
    stored = Path(store.path("forgotten", "receipts", f"{receipt['receipt']}.json"))
    stored.write_text(stored.read_text().replace("asked", "taken"))
    assert main(["data", "forget", "--verify", receipt["receipt"]]) == 3
    assert "changed after it was signed" in capsys.readouterr().err
    events = [json.loads(p.read_text()) for p in Path(store.path("models", "small", "history")).glob("*.json")]
    assert [(e["event"], receipt["receipt"] in e["reason"]) for e in events] == [("tainted", True)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["lineage"], 2), (["lineage", "x", "--document", "y"], 2), (["lineage", "nothing"], 3),
        (["lineage", "--document", "nothing"], 3), (["data", "forget"], 2), (["data", "forget", "--where", "a=b"], 2),
        (["data", "forget", "--where", "source=*"], 2), (["data", "forget", "--document", "nothing"], 3),
        (["data", "forget", "--verify", "nothing"], 3), (["data", "audit", "nothing"], 3),
        (["gc", "--pin", "nothing"], 3),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    notes: Manifest, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("plinth: ")
    assert error.count("\n") == 1


def test_a_pinned_version_stays_until_it_is_unpinned(
    store: Store, notes: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        dataset(store, [document("a.md"), document(f"{number}.md")])
    for name in ("live",):
        store.remove_alias("indexes", "main", name)
    path = f"datasets/notes/{notes.version}"
    assert path in [item["path"] for item in as_json(capsys, "gc", "--dry-run", "--keep", "0")["items"]]
    as_json(capsys, "gc", "--pin", reference(notes))
    assert path not in [item["path"] for item in as_json(capsys, "gc", "--dry-run", "--keep", "0")["items"]]
    as_json(capsys, "gc", "--unpin", reference(notes))
    assert path in [item["path"] for item in as_json(capsys, "gc", "--keep", "0")["items"]]
    assert not Path(store.artefact(notes)).exists()
