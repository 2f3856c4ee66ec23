"""The mlflow mirror: what other tools read there is what the store says, whatever happens to the SQLite file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from actors.draining import DrainingError
from actors.registry.mlflow_mirror import Mirror
from actors.registry.mlflow_server import prepare_mlflow
from actors.registry.models import Registry
from actors.registry.runs import RunLog
from actors.registry.server import RegistryServer
from cluster.core.errors import PolicyRefusedError
from cluster.core.storage import Store
from tests.actors.published import REFUSED, Gate, publish

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Path, str]:
    """A store with a finished run and a champion, the home beside it, and the champion's version."""
    store = Store(str(tmp_path / "store"))
    log = RunLog(store, "pretrain-1", "pretrain", {"hidden": 160, "shape": {"layers": 4}})
    for step in range(1, 31):
        log.log(step, train_loss=5.0 - step / 10, stage="pretrain")
    log.finish("finished")
    version = Registry(store).register("small", publish(store, "small", "one").version).version
    Registry(store).promote("small", version, Gate())
    home = tmp_path / "home"
    home.mkdir()
    return store, home, version


def client(path: Path) -> Any:
    prepare_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{path}", registry_uri=f"sqlite:///{path}")


def seen(path: Path) -> dict[str, Any]:
    """What mlflow's own client finds in a database."""
    reader = client(path)
    experiments = [e.experiment_id for e in reader.search_experiments()]
    runs = {
        run.data.tags["plinth.run"]: (
            run.info.status, run.data.params,
            [(m.step, m.value) for m in reader.get_metric_history(run.info.run_id, "train_loss")],
        ) for run in reader.search_runs(experiments)
    }  # fmt: skip
    versions = {
        (v.name, v.tags["plinth.version"]): (v.tags["plinth.gate"], v.tags["plinth.license"])
        for v in reader.search_model_versions()
    }
    aliases = {
        model.name: {alias: reader.get_model_version(model.name, number).tags["plinth.version"]
                     for alias, number in model.aliases.items()}
        for model in reader.search_registered_models()
    }  # fmt: skip
    return {"runs": runs, "versions": versions, "aliases": aliases}


@pytest.mark.slow
@pytest.mark.ci
def test_the_mirror_follows_the_store_and_storage_wins(filled: tuple[Store, Path, str]) -> None:
    store, home, version = filled
    mirror = Mirror(store, home)
    assert mirror.sync() == "rebuilt"
    assert (mirror.path.stat().st_mode & 0o777, (home / "mlflow.db.json").stat().st_mode & 0o777) == (0o600, 0o600)
    first = seen(mirror.path)
    status, params, losses = first["runs"]["pretrain-1"]
    assert status == "FINISHED"
    assert {"hidden": "160", "shape.layers": "4"}.items() <= params.items()
    assert {"versions.python", "versions.torch", "hardware.cpus"} <= params.keys()
    assert losses == [(step, 5.0 - step / 10) for step in range(1, 31)]
    assert first["versions"] == {("small", version): ("passed", "Apache-2.0")}
    assert first["aliases"] == {"small": {"champion": version, "candidate": version}}
    assert mirror.sync() == "nothing"

    # It grows with the store.
    log = RunLog(store, "finetune-1", "finetune", {})
    log.log(1, train_loss=2.0)
    two = Registry(store).register("small", publish(store, "small", "two").version).version
    Registry(store).refuse("small", two, REFUSED)
    assert mirror.sync() == "added"
    log.log(1, held_out_loss=2.5)
    log.log(2, train_loss=1.5)
    assert mirror.sync() == "added"
    log.finish("cancelled")
    assert Mirror(store, home).sync() == "added", "another instance (a restarted actor) goes on"
    found = seen(mirror.path)
    assert (found["runs"]["finetune-1"][0], found["runs"]["finetune-1"][2]) == ("KILLED", [(1, 2.0), (2, 1.5)])
    assert found["versions"][("small", two)][0] == "refused"
    assert found["aliases"]["small"] == {"champion": version, "candidate": two}

    # Somebody edits it: the store wins.
    with sqlite3.connect(mirror.path) as database:
        database.execute("UPDATE metrics SET value = -1")
        database.execute("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'")
    assert seen(mirror.path) != found
    assert mirror.sync() == "rebuilt"
    assert seen(mirror.path) == found

    # It is lost, then damaged: everything is found again.
    mirror.path.unlink()
    assert mirror.sync() == "rebuilt"
    assert seen(mirror.path) == found
    mirror.path.write_bytes(b"not a database")
    assert Mirror(store, home).sync() == "rebuilt"
    assert seen(mirror.path) == found

    # A resumed run went back to its checkpoint.
    again = RunLog(store, "pretrain-1", "pretrain", {"hidden": 160})
    again.log(29, train_loss=9.0)
    again.finish("finished")
    assert mirror.sync() == "rebuilt"
    losses = seen(mirror.path)["runs"]["pretrain-1"][2]
    assert losses[-2:] == [(28, pytest.approx(2.2)), (29, 9.0)]
    assert list(home.glob("*.building*")) == []


def test_no_network_and_nothing_said(filled: tuple[Store, Path, str]) -> None:
    """Python's audit hooks see every connection and name look-up, as strace would."""
    store, home, _ = filled
    code = f"""
import sys
calls = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        calls.append((event, str(arguments)))
sys.addaudithook(hook)
from pathlib import Path
from actors.registry.mlflow_mirror import Mirror
from cluster.core.storage import Store
assert Mirror(Store({store.uri!r}), Path({str(home)!r})).sync() == "rebuilt"
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
print(calls)
"""
    # mlflow is silent of itself in tests and CI: make it believe this is neither.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "CI", "GITHUB", "MLFLOW"))}
    environment.pop("DO_NOT_TRACK", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
    assert not (ROOT / "mlruns").exists()


def eventually(condition: Callable[[], Any], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.ci
def test_the_server_writes_and_mirrors_by_itself(
    filled: tuple[Store, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, home, version = filled
    monkeypatch.setenv("PLINTH_HOME", str(home))
    two = publish(store, "small", "two").version
    server = RegistryServer(store.uri, str(home), period_s=600)
    try:
        assert server.mirror_state()["syncs"] == 0, "mlflow is not imported before there is something to do"
        assert server.write("register", "ada@home", {"name": "small", "version": two}).version == two
        eventually(lambda: server.mirror_state()["done"] == "rebuilt")
        with pytest.raises(PolicyRefusedError):
            server.write("promote", "ada@home", {"name": "small", "version": two, "gate": REFUSED})
        with pytest.raises(ValueError, match="no write"):
            server.write("served", "ada@home", {"name": "small"})
        server.write("promote", "ada@home", {"name": "small", "version": two, "gate": Gate()})
        eventually(
            lambda: (
                seen(home / "mlflow.db")["aliases"]["small"] == {"champion": two, "candidate": two, "previous": version}
            )
        )
        assert Registry(store).history("small")[-1].actor == "ada@home"

        # A file of a run that nobody can read harms only the mirror, and is logged.
        (Path(store.path("training")) / "pretrain-1" / "run.json").write_text("{")
        server.nudge()
        eventually(lambda: server.mirror_state()["error"] != "")
        server.write("register", "ada@home", {"name": "small", "version": two})
        assert "mirror_failed" in (home / "logs" / "registry.jsonl").read_text()
    finally:
        server.stop()


def test_a_draining_server_finishes_its_write_and_takes_no_other(
    filled: tuple[Store, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, home, _ = filled
    monkeypatch.setenv("PLINTH_HOME", str(home))
    two, three = (publish(store, "small", body).version for body in ("two", "three"))
    server = RegistryServer(store.uri, str(home), loaded_at=5.0, period_s=600)
    with ThreadPoolExecutor() as threads:
        with store.locked("models", "small", "history"):
            slow = threads.submit(server.write, "register", "ada@home", {"name": "small", "version": two})
            eventually(lambda: server.about()["writing"])
            drain = threads.submit(server.drain)
            eventually(lambda: server.about()["draining"])
            late = threads.submit(server.write, "register", "ada@home", {"name": "small", "version": three})
            with pytest.raises(TimeoutError):  # it waits for its write
                drain.result(timeout=1)
        assert slow.result(60).version == two
        drain.result(240)  # a sync in progress is finished first, which takes a busy machine a minute
        with pytest.raises(DrainingError):
            late.result(60)
    assert not server._thread.is_alive()
    assert server.about() == {"loaded_at": 5.0, "writing": False, "draining": True}
    assert store.alias("models", "small", "candidate") == two
    server.drain()  # a second driver asks too


def test_an_empty_store_needs_no_database(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert Mirror(store, tmp_path).sync() == "nothing"
    assert not (tmp_path / "mlflow.db").exists()
