"""Nodes come for what jobs, training, replicas and GPU work ask, and go when idle: `ray-cluster.yaml` with Ray's fake
nodes on this machine, in namespaces of its own (``private_cluster.py``). Measured times are in LOG.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needs
from tests.live.conftest import PAGES, write_pages
from tests.live.private_cluster import NAMESPACES, ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]
Seen = dict[str, Any]


def namespaces() -> tuple[str, ...]:
    """How this user gets namespaces of their own; a user without root becomes root inside."""
    return NAMESPACES if os.getuid() == 0 else (*NAMESPACES, "--map-root-user")


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Everything the scenario saw, from one run of the cluster."""
    probe = [*namespaces(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    allowed = shutil.which("unshare") and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    needs(bool(allowed), "the right to make network, process and mount namespaces (unshare)")
    # Short: Unix sockets live below it, and their paths have at most 97 characters.
    home = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    try:
        pages = {f"page{i}-{name}": text.replace("400", str(400 + i)) for i in range(8) for name, text in PAGES.items()}
        write_pages(home / "boat", {**PAGES, **pages})
        command = [*namespaces(), sys.executable, str(ROOT / "tests" / "live" / "private_cluster.py"), str(home)]
        with open(home / "log", "wb") as log:
            done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False, timeout=840)
        assert done.returncode == 0, (home / "log").read_text(errors="replace")[-6000:]
        yield json.loads((home / "seen.json").read_text())
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_the_cluster_starts_with_its_head_alone(seen: Seen) -> None:
    assert seen["at_start"] == {"head": 1}


def test_data_jobs_bring_a_node(seen: Seen) -> None:
    """As Ray jobs with the shared PLINTH_STORE of the nodes' environment."""
    found = seen["data_jobs_bring_a_node"]
    assert found["most"]["cpu"] >= 1
    assert found["dataset"]["kept"] > 0
    assert found["index_live"]


def test_training_brings_a_node(seen: Seen) -> None:
    found = seen["training_brings_a_node"]
    assert found["most"]["cpu"] >= 1
    assert found["workers"] == 4


def test_replicas_bring_nodes(seen: Seen) -> None:
    found = seen["replicas_bring_nodes"]
    assert found["most"]["cpu"] == 2, "ten reserved CPUs are two nodes of eight"
    groups = found["groups"]
    assert groups.pop("gateway") == ["head", "head"]
    assert {group for each in groups.values() for group in each} == {"cpu"}


def test_the_service_answers_over_several_nodes_and_listens_on_loopback_only(seen: Seen) -> None:
    found = seen["replicas_bring_nodes"]
    assert "seal" in found["answer"]
    assert any("pumps.md" in document for document in found["citations"])
    assert found["http_listens_on"] == ["127.0.0.1"]


def test_a_gpu_brings_its_node(seen: Seen) -> None:
    found = seen["a_gpu_brings_its_node"]
    assert found["ran_in_group"] == "gpu"
    assert found["most"] == {"head": 1, "gpu": 1}


def test_work_without_a_gpu_never_starts_a_gpu_node(seen: Seen) -> None:
    for name in ("data_jobs_bring_a_node", "training_brings_a_node", "replicas_bring_nodes"):
        assert "gpu" not in seen[name]["most"]


def test_idle_nodes_go(seen: Seen) -> None:
    """The scenario waits for it after each step, and fails after two minutes."""
    assert all(step["idle_after_s"] < 120 for name, step in seen.items() if name != "at_start")
