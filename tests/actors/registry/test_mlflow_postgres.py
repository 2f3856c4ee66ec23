"""The mlflow mirror in a real PostgreSQL server: the same as the file's, refused for another store, built again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.registry.mlflow_mirror import Mirror
from actors.registry.mlflow_server import Server, client_of, tracking_uri, with_driver
from actors.registry.models import Registry
from actors.registry.runs import RunLog
from cluster.core.errors import EnvironmentFaultError, IncompatibleError, UsageError
from cluster.core.presets import preset
from cluster.core.storage import Store
from tests.actors.published import Gate, publish

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]


def test_runs_and_models_are_mirrored_into_the_server(postgres: str, tmp_path: Path) -> None:
    store, home = Store(str(tmp_path / "store")), tmp_path / "home"
    home.mkdir()
    log = RunLog(store, "pretrain-1", "pretrain", {"hidden": 160}, {"dataset": "notes@3f9c"})
    for step in range(1, 4):
        log.log(step, train_loss=5.0 - step)
    version = Registry(store).register("small", publish(store, "small", "one").version).version
    Registry(store).promote("small", version, Gate())
    mirror = Mirror(store, home, postgres)
    assert mirror.sync() == "rebuilt"
    assert not (home / "mlflow.db").exists()

    client = client_of(with_driver(postgres))

    def losses() -> list[float]:
        experiment = client.get_experiment_by_name("plinth/pretrain")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.data.params["inputs.dataset"] == "notes@3f9c"
        assert run.data.params["versions.torch"]
        return [metric.value for metric in client.get_metric_history(run.info.run_id, "train_loss")]

    assert losses() == [4.0, 3.0, 2.0]
    (model,) = client.search_registered_models()
    assert str(model.aliases["champion"]) == "1"

    log.log(4, train_loss=1.0)
    log.finish("finished")
    assert mirror.sync() == "added"
    assert losses() == [4.0, 3.0, 2.0, 1.0]
    assert Mirror(store, home, postgres).sync() == "nothing", "a new process knows how it was left"

    for notes in home.glob("mlflow-*.json"):  # a new head without the old one's files
        notes.unlink()
    assert Mirror(store, home, postgres).sync() == "rebuilt"
    assert losses() == [4.0, 3.0, 2.0, 1.0]

    other = Store(str(tmp_path / "other"))
    RunLog(other, "pretrain-2", "pretrain", {}).finish("finished")
    with pytest.raises(IncompatibleError, match="database of its own"):
        Mirror(other, tmp_path, postgres).sync()
    assert losses() == [4.0, 3.0, 2.0, 1.0]


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFaultError, match="does not answer"):
        Server(f"postgresql://postgres@/none?host={tmp_path}", "store").mark()


def test_the_address_comes_from_the_configuration_and_holds_no_password(tmp_path: Path) -> None:
    uri = "postgresql://plinth@db.example/books"
    config = preset("cluster", [f"cluster.tracking_uri={uri}"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config.model_dump()))
    assert tracking_uri(tmp_path) == uri
    assert tracking_uri(tmp_path / "nowhere") == ""
    for wrong in ("postgresql://plinth:secret@db/books", "postgresql://db/books?password=x", "mysql://db/books",
                  "postgresql://db"):  # fmt: skip
        with pytest.raises(UsageError, match="tracking_uri"):
            preset("cluster", [f"cluster.tracking_uri={wrong}"])
