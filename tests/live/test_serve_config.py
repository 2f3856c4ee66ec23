"""`serve deploy serve_apps/serve-config.yaml`, as the README says it, on a head of its own on this machine.

The shipped file with three changes: other ports, and the preset's replicas stay on loopback and reserve nothing, since
this is one machine. ``test_autoscaling.py`` deploys the file as it is, on several nodes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cluster import local_head
from cluster.core.home import Home
from cluster.core.presets import preset
from cluster.local_head import Instance
from cluster.processes import free_ports, listeners
from cluster.serve_mode import serve_environment
from tests.live.conftest import Service, eventually, settings_for
from tests.test_architecture import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.ci]
SHIPPED = ROOT / "serve_apps" / "serve-config.yaml"


@dataclass
class Head:
    """A running head without a service, and the shell beside it."""

    instance: Instance
    environ: dict[str, str]
    folder: Path

    def serve_deploy(self, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        path = self.folder / "serve-config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [str(Path(sys.executable).parent / "serve"), "deploy", str(path)]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=120, check=False)

    def application(self) -> dict[str, Any]:
        token = Path(self.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
        url, headers = f"{self.instance.dashboard_url}/api/serve/applications/", {"Authorization": f"Bearer {token}"}
        reply = httpx.get(url, headers=headers, timeout=30, trust_env=False).raise_for_status().json()
        return reply["applications"]["plinth"]

    def get(self, path: str) -> int:
        try:
            return httpx.get(f"{self.instance.base_url}{path}", timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0


@pytest.fixture(scope="module")
def head(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """Shares the store, and so the live index, with the session's service."""
    home = Home(tmp_path_factory.mktemp("serve") / "home")
    overrides = [setting for setting in settings_for(free_ports(3)) if setting != "--set"]
    environ = {**os.environ, "PLINTH_STORE": str(service.home / "store"), "PLINTH_HOME": str(home.root)}
    before = {name: os.environ.get(name) for name in ("PLINTH_STORE", "PLINTH_HOME")}
    os.environ.update({name: environ[name] for name in before})
    try:
        instance = local_head.start(preset("laptop", overrides), home)
        shell = {**environ, **serve_environment(home, instance.temp_dir, instance.ports),
                 "RAY_DASHBOARD_ADDRESS": instance.dashboard_url}  # fmt: skip
        yield Head(instance, shell, home.root)
    finally:
        local_head.stop(home)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def config(head: Head) -> dict[str, Any]:
    changed = yaml.safe_load(SHIPPED.read_text())
    changed["http_options"]["port"] = head.instance.http_port
    changed["applications"][0]["args"]["overrides"] += ["cluster.single_node=true", "serve.replica_cpus=0"]
    return changed


def test_the_shipped_file_deploys_and_answers(head: Head, config: dict[str, Any]) -> None:
    done = head.serve_deploy(config)
    assert done.returncode == 0, done.stderr
    eventually(lambda: head.get("/readyz") == 200, 180, "readyz")
    eventually(lambda: head.application()["status"] == "RUNNING", 120, "every replica")
    assert set(head.application()["deployments"]) == {"gateway", "guard", "retriever", "tier-quote", "tier-small"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "How often is the impeller seal replaced?"}]}
    url = f"{head.instance.base_url}/v1/chat/completions"
    plinth = [sys.executable, "-m", "cluster.cli.main", "keys", "create", "ann", "--json"]
    made = subprocess.run(plinth, env=head.environ, capture_output=True, text=True, timeout=120, check=True)
    key = {"authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    reply = httpx.post(url, json=body, headers=key, timeout=60, trust_env=False).raise_for_status().json()
    assert "400 hours" in reply["choices"][0]["message"]["content"]
    assert reply["plinth"]["citations"][0]["document"] == "pumps.md"


def test_it_listens_on_loopback_only(head: Head) -> None:
    found = listeners([process.pid for process in head.instance.processes()])
    assert head.instance.http_port in {listener.port for listener in found}
    assert [listener for listener in found if not listener.loopback] == []


def test_a_mistake_in_the_file_is_reported_and_the_service_goes_on(head: Head, config: dict[str, Any]) -> None:
    wrong = {**config, "applications": [{**config["applications"][0], "args": {"overrides": ["serve.nope=1"]}}]}
    head.serve_deploy(wrong)
    deadline = time.monotonic() + 90
    while (application := head.application())["status"] != "DEPLOY_FAILED":
        assert time.monotonic() < deadline, application
        assert head.get("/readyz") == 200
    assert "serve has no field 'nope'" in application["message"]
    assert head.get("/readyz") == 200
    head.serve_deploy(config)
    eventually(lambda: head.application()["status"] == "RUNNING", 120, "the service as it was")
