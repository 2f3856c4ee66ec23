"""What all tests share: the folder of real data sets, and the rule for what may be missing where."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from data_jobs.retrieval.embedder import Embedder

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# Files whose tests share the one platform of tests/live/conftest.py.
PLATFORM = frozenset(
    f"tests/live/test_{name}.py"
    for name in ("audit", "collections", "jobs", "keys", "other_shells", "serve_config", "service")
)


def needs(present: bool, what: str) -> None:
    """Skip where something optional is missing on a user's machine; in CI (CI=true) that is a failure."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is not on this machine")


@pytest.fixture
def data_set():
    """Path of one real data set: ``data_set("qa_squad2")``."""

    def path(name: str) -> Path:
        folder = DATA / name
        needs(folder.is_dir(), f"the data set ../shared/data/{name}")
        return folder

    return path


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The real MiniLM, loaded once for all tests of a process."""
    from cluster.core.sections.data import IndexSection
    from data_jobs.retrieval.embedder import load_embedder

    return load_embedder(IndexSection(precision="fp32"))  # the others round by the company of a text


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    needs(path is not None, "a Chromium browser (apt-get install chromium)")
    assert path is not None
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PLINTH_HOME of its own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("PLINTH_HOME", str(folder))
    monkeypatch.delenv("PLINTH_STORE", raising=False)
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, but all that share the platform are one file to it: a worker starts it, once, in a minute or
    two on two busy cores."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "platform" if file in PLATFORM else file

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that load the embedding model, a browser or the whole library are not pure, however they come by it."""
    if {"embedder", "browser", "chromium", "whole_library"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.process)
    if item.path.parent.name == "live" and "service" in getattr(item, "fixturenames", ()):
        assert item.location[0] in PLATFORM, f"{item.location[0]} shares the platform: name it in tests/conftest.py"
    # The first test of a module also pays for the clusters that its fixtures start: minutes on two busy cores.
    if item.get_closest_marker("live") and not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(900))
