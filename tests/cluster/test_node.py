"""A machine that becomes a node of a cluster: what it must have, what Ray and jobs then find in the environment."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import node
from cluster.connect import _address
from cluster.core.entry import config_from
from cluster.core.errors import EnvironmentFaultError, UsageError
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.local_head import start
from cluster.processes import MARK

STORE = {"PLINTH_STORE": "s3://bucket/plinth", "PATH": "/usr/bin"}


@pytest.fixture
def machine() -> Iterator[Home]:
    """A PLINTH_HOME with a short path and a token that came with careless permissions."""
    with tempfile.TemporaryDirectory(prefix="n", dir="/tmp") as folder:
        home = Home(Path(folder))
        home.token_path.write_text("ab" * 32)
        home.token_path.chmod(0o644)
        home.root.chmod(0o755)
        yield home


def test_environment_has_a_token_and_reaches_other_nodes(machine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLINTH_STORE", STORE["PLINTH_STORE"])
    environ = node.prepare(preset("cluster"), machine, STORE)
    assert environ["RAY_AUTH_MODE"] == "token"
    assert environ["RAY_AUTH_TOKEN_PATH"] == str(machine.token_path)
    assert "ab" * 32 not in environ.values(), "the token's path, never the token"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in environ, "it would hide every port from other nodes"
    assert environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environ["PLINTH_STORE"] == "s3://bucket/plinth"
    assert environ["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert Path(environ["RAY_SERVE_HAPROXY_BINARY_PATH"]).stat().st_mode & 0o777 == 0o700


def test_token_and_home_are_closed_to_others(machine: Home) -> None:
    node.prepare(preset("cluster"), machine, STORE)
    assert machine.token_path.stat().st_mode & 0o777 == 0o600
    assert machine.root.stat().st_mode & 0o777 == 0o700


def test_it_may_be_repeated(machine: Home) -> None:
    assert node.prepare(preset("cluster"), machine, STORE) == node.prepare(preset("cluster"), machine, STORE)


def test_a_node_without_token_is_refused(machine: Home) -> None:
    machine.token_path.unlink()
    with pytest.raises(EnvironmentFaultError, match="no Ray token"):
        node.prepare(preset("cluster"), machine, STORE)
    assert not machine.token_path.exists(), "a token of its own would keep the node out without saying why"


def test_a_node_without_shared_store_is_refused(machine: Home) -> None:
    with pytest.raises(EnvironmentFaultError, match="PLINTH_STORE"):
        node.prepare(preset("cluster"), machine, {"PATH": "/usr/bin"})


def test_a_home_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 40))
    home.ensure_token()
    with pytest.raises(EnvironmentFaultError, match="shorter"):
        node.prepare(preset("cluster"), home, STORE)


def test_single_machine_and_cluster_do_not_mix(machine: Home) -> None:
    with pytest.raises(UsageError, match="plinth up"):
        node.prepare(preset("laptop"), machine, STORE)
    with pytest.raises(UsageError, match=r"ray-cluster\.yaml"):
        start(preset("cluster"), machine)


def test_jobs_find_cluster_configuration_and_store(machine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that Ray's job manager starts inherits the environment of `ray start`, and gets RAY_ADDRESS from it."""
    monkeypatch.setenv("PLINTH_STORE", STORE["PLINTH_STORE"])
    for name, value in node.prepare(preset("cluster"), machine, STORE).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PLINTH_HOME", str(machine.root))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    home = Home.from_env()
    assert home.store_uri == "s3://bucket/plinth"
    assert config_from(argparse.Namespace(preset=None, overrides=[]), home) == preset("cluster")
    assert _address(home) == "10.0.0.5:6379"


def test_outside_a_node_a_job_says_that_nothing_runs(machine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MARK, "RAY_JOB_ID", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EnvironmentFaultError, match="nothing is running"):
        _address(machine)


@pytest.mark.process
def test_a_shell_can_take_the_environment(machine: Home) -> None:
    program = f"{sys.executable} -m cluster.cli.main"
    script = f'environment=$({program} env --node --preset cluster) && eval "$environment" && echo "$PLINTH_STORE"'
    environ = {"PLINTH_HOME": str(machine.root), "PLINTH_STORE": "s3://a b/it's", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "s3://a b/it's"
