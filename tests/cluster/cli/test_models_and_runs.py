"""`plinth models` and `plinth runs` over a real store: what they print, as tables and as JSON, and how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.registry.models import Registry
from actors.registry.runs import RunLog, read_run
from cluster.cli.main import main
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.actors.published import REFUSED, Gate, publish


@pytest.fixture
def store(home: Path) -> Store:
    return Store(Home(home).store_uri)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The JSON a verb prints."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    from cluster.cli import output

    monkeypatch.setattr(output.console, "width", 160)
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.fixture
def two_models(store: Store) -> tuple[str, str]:
    registry = Registry(store, actor="ada@home")
    one, two = (registry.register("small", publish(store, "small", body).version).version for body in ("one", "two"))
    registry.promote("small", one, Gate())
    registry.refuse("small", two, REFUSED)
    return one, two


def test_models_list_show_card_history(
    two_models: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = two_models
    listed = said(capsys, "models", "list")
    assert [(m["version"], m["verdict"], m["aliases"]) for m in listed] == [
        (one, "passed", ["champion"]), (two, "refused", ["candidate"]),
    ]  # fmt: skip
    assert said(capsys, "models", "show", "small")["version"] == one, "by default what is served"
    assert said(capsys, "models", "show", "small@candidate")["version"] == two
    assert said(capsys, "models", "show", f"small@{two[:6]}")["gate"]["passed"] is False
    assert [e["event"] for e in said(capsys, "models", "history", "small")][-1] == "gate_refused"
    assert said(capsys, "models", "history", "small", "--at", "2100-01-01")["champion"] == one
    assert said(capsys, "models", "history", "small", "--at", "2000-01-01")["champion"] is None
    assert said(capsys, "models", "card", "small@candidate")["state"]["verdict"] == "refused"

    table = shown(capsys, monkeypatch, "models", "show", f"small@{two}")
    assert "does not beat the baseline" not in table, "the table shows each check's own reason"
    assert "above the baseline" in table
    assert "-0.100" in table
    assert "model.safetensors" in table
    card = shown(capsys, monkeypatch, "models", "card", "small@candidate")
    assert card.startswith("# Model card")
    assert "Gate: **refused**" in card
    assert f"champion none → {one}" in shown(capsys, monkeypatch, "models", "history", "small")


def test_models_and_runs_fit_80_columns(
    two_models: tuple[str, str], two_runs: None, at_80_columns: Callable[..., str]
) -> None:
    one, two = two_models
    at_80_columns("models list", one, two)
    at_80_columns("models show small", one)
    at_80_columns("models history small", one, two)
    at_80_columns("runs list", "pretrain-a1", "pretrain-b2")
    at_80_columns("runs show pretrain-b", "pretrain-b2")
    at_80_columns("runs compare pretrain-a pretrain-b", "pretrain-a1", "pretrain-b2")
    at_80_columns("status", one, two)
    at_80_columns("doctor")
    at_80_columns("doctor --fields", "serve.max_prompt_chars")


def test_losses_stay_a_table_where_not_every_number_fits(
    store: Store, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.cli import output

    log = RunLog(store, "pretrain-wide", "pretrain", {})
    others = {f"measured_{number}": 0.5 for number in range(9)}
    for step in (1, 2):
        log.log(step, tokens=step * 8192, train_loss=5.0 - step, **others)
    log.finish("finished")
    monkeypatch.setattr(output.console, "width", 80)
    assert main(["runs", "show", "pretrain-wide"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = (line for line in lines if line.strip().startswith("step"))
    assert "train loss" in head
    assert any(line.split()[:2] == ["2", "16,384"] and "3.0000" in line for line in lines)
    told = next(number for number, line in enumerate(lines) if line.startswith("not shown for want of room"))
    assert "measured_8" in " ".join(lines[told:])
    assert len(head) <= 80


def test_models_that_are_not_there(
    home: Path, two_models: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "there are small" in said(capsys, "models", "show", "large", code=2)["error"]["message"]
    assert "no version" in said(capsys, "models", "card", "small@zzz", code=3)["error"]["message"]
    assert "large" in said(capsys, "models", "history", "large", code=2)["error"]["message"]
    assert "ISO" in said(capsys, "models", "history", "small", "--at", "noon", code=2)["error"]["message"]
    missing = str(tmp_path / "nothing")
    assert "no folder" in said(capsys, "models", "add", missing, "--tier", "other", code=3)["error"]["message"]
    assert "reserved" in said(capsys, "models", "add", missing, "--tier", "auto", code=4)["error"]["message"]
    assert "usable name" in said(capsys, "models", "add", missing, "--tier", "../x", code=2)["error"]["message"]


def test_an_empty_store_says_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(capsys, "models", "list") == []
    assert said(capsys, "runs", "list") == []
    assert "plinth quickstart" in shown(capsys, monkeypatch, "models", "list")
    assert "plinth quickstart" in shown(capsys, monkeypatch, "runs", "list")


@pytest.fixture
def two_runs(store: Store) -> None:
    for name, hidden in (("pretrain-a1", 160), ("pretrain-b2", 320)):
        log = RunLog(store, name, "pretrain", {"hidden": hidden, "layers": 4}, {"dataset": f"notes@{hidden}"})
        for step in range(1, 61):
            log.log(step, tokens=step * 8192, train_loss=5.0 - step / hidden)
            if step % 10 == 0:
                log.log(step, held_out_loss=5.25 - step / hidden)
    log.finish("failed", "a loss [that] is not a number")


def test_runs_list_show_compare_cancel(
    two_runs: None, store: Store, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    listed = said(capsys, "runs", "list")
    assert [(r["id"], r["state"], r["last"]["step"]) for r in listed] == [
        ("pretrain-a1", "running", 60), ("pretrain-b2", "failed", 60),
    ]  # fmt: skip
    compared = said(capsys, "runs", "compare", "pretrain-a", "pretrain-b")
    assert [c["params"] for c in compared] == [
        {"hidden": hidden, "inputs.dataset": f"notes@{hidden}"} for hidden in (160, 320)
    ], "packages, commit and machine are the same"
    assert compared[1]["deltas"]["train_loss"] == pytest.approx(60 / 160 - 60 / 320)
    assert compared[0]["deltas"]["train_loss"] == 0.0
    together = tmp_path / "together.png"
    beside = shown(capsys, monkeypatch, "runs", "compare", "pretrain-a", "pretrain-b", "--plot", str(together))
    assert beside.index("inputs.dataset") < beside.index("train loss"), "what differs comes first"
    assert f"{5 - 60 / 320:.4f} (+0.1875)" in beside
    assert together.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert compared[0]["last"]["train_loss"] == pytest.approx(5 - 60 / 160)

    plot = tmp_path / "curve.png"
    text = shown(capsys, monkeypatch, "runs", "show", "pretrain-b", "--plot", str(plot))
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert str(plot) in text
    assert "a loss [that] is not a number" in text
    assert "held out loss" in text
    assert "versions.torch" in text
    assert "hardware.cpu" in text
    assert f"{5.25 - 60 / 320:.4f}" in text
    default = said(capsys, "runs", "show", "pretrain-b2")
    assert Path(default["plot"]).is_relative_to(home)
    assert len(default["metrics"]) == 60

    assert said(capsys, "runs", "cancel", "pretrain-a") == {"id": "pretrain-a1", "cancelling": True}
    log = RunLog(store, "pretrain-a1", "pretrain", {})
    assert log.cancelled()
    log.finish("cancelled")
    assert read_run(store, "pretrain-a1").state == "cancelled"
    assert "cancelled" in said(capsys, "runs", "cancel", "pretrain-a", code=2)["error"]["message"]
    assert "no run" in said(capsys, "runs", "show", "zzz", code=3)["error"]["message"]


def test_a_plot_that_cannot_be_written(two_runs: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = said(capsys, "runs", "show", "pretrain-a", "--plot", str(tmp_path / "file" / "x.png"), code=5)["error"]
    assert "cannot write" in error["message"]


@pytest.mark.process
def test_reading_needs_no_heavy_library(two_models: tuple[str, str], two_runs: None) -> None:
    verbs = [
        ["models", "list"], ["models", "show", "small"], ["models", "card", "small"], ["models", "history", "small"],
        ["runs", "list"], ["runs", "compare", "pretrain-a", "pretrain-b"],
    ]  # fmt: skip
    heavy = ("ray", "mlflow", "torch", "transformers", "matplotlib", "sqlalchemy")
    code = (
        "import sys\nfrom cluster.cli.main import main\n"
        f"for verb in {verbs!r}: assert main([*verb, '--json']) == 0\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_status_tells_champion_and_candidate(two_models: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    one, two = two_models
    assert said(capsys, "status")["registry"] == {"small": {"champion": one, "candidate": two}}


def test_the_order_of_a_checkpoint_is_checked_by_its_certificate(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.train_jobs.data.test_certificate import certificate

    def published(name: str, body: dict[str, Any]) -> None:
        staging = store.staging(name)
        store.write(f"{staging}/order.json", json.dumps(body).encode())
        store.publish("checkpoints", name, staging, run_key=name)

    whole = {**certificate(), "context_tokens": 64}
    whole["corpora"] = [{**row, "dataset": "notes@1", "epochs": 1.0} for row in whole["corpora"]]
    published("good", whole)
    published("bad", {**whole, "seed": 9})
    assert main(["train", "order", "good"]) == 0
    assert "200 windows" in capsys.readouterr().out
    assert main(["train", "order", "bad"]) == 3
    assert "hash" in capsys.readouterr().err
