"""How many embedding actors an index gets, and what they reserve."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.errors import EnvironmentFaultError
from cluster.core.presets import preset
from cluster.core.progress import Silent
from cluster.core.sections.data import IndexSection
from cluster.core.storage import Store

pytestmark = pytest.mark.process  # they import ray


@pytest.mark.parametrize(
    ("gpus", "total", "workers"),
    [
        (0.0, {"CPU": 6.0, "GPU": 2.0}, 6),
        (0.25, {"CPU": 6.0, "GPU": 2.0}, 8),
        (1.0, {"CPU": 6.0, "GPU": 2.0}, 2),
        (1.0, {"CPU": 6.0}, 1),  # on a cluster whose GPU nodes come when they are asked for
    ],
)
def test_one_for_each_cpu_or_each_share_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: float, total: dict[str, float], workers: int
) -> None:
    from data_jobs import build_index

    monkeypatch.setattr(build_index.ray, "cluster_resources", lambda: total)
    assert build_index._places(IndexSection(gpus=gpus)) == workers


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from data_jobs import build_index

    monkeypatch.setattr(build_index.ray, "cluster_resources", lambda: {"CPU": 2.0})
    dataset: Any = SimpleNamespace(name="d", version="v")
    with pytest.raises(EnvironmentFaultError, match=r"index\.gpus=0\.5 asks for a GPU.*set index\.gpus=0"):
        build_index.build(preset("laptop", ["index.gpus=0.5"]), Store(str(tmp_path)), dataset, Silent())
