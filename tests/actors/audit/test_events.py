"""What the registry's one writer does is in the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.audit.audit_log import AuditLog
from actors.audit.reading import records
from actors.registry.server import RegistryServer
from cluster.core.config import PlinthConfig
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.actors.published import REFUSED, Gate, publish


def test_models_that_come_and_go_live_are_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_HOME", str(tmp_path))
    monkeypatch.setattr(RegistryServer, "_sync", lambda self: self._last)  # without mlflow
    home, store = Home(tmp_path), Store(str(tmp_path / "store"))
    server = RegistryServer(store.uri, str(tmp_path))
    try:
        version = publish(store, "small", "one").version
        server.write("register", "ann@host", {"name": "small", "version": version})
        server.write("promote", "ann@host", {"name": "small", "version": version, "gate": Gate(), "report": ""})
        server.write("refuse", "bob@host", {"name": "small", "version": version, "gate": REFUSED, "report": ""})
        found = [one.payload for one in records(AuditLog.of(home)) if one.payload]
        assert [(one["action"], one["by"], one["name"], one["version"]) for one in found] == [
            ("model_register", "ann@host", "small", version),
            ("model_promote", "ann@host", "small", version),
            ("model_refuse", "bob@host", "small", version),
        ]
        off = PlinthConfig.model_validate({"trust": {"audit": {"on": False}}})
        (home.run / "config.json").write_text(off.model_dump_json())
        server.write("taint", "ann@host", {"name": "small", "version": version, "reason": "forgotten"})
        assert len(list(records(AuditLog.of(home)))) == 3
    finally:
        server.stop()
