"""One real platform for the whole session: `plinth quickstart` over a small folder, with a PLINTH_HOME and ports of its
own, so that it runs beside whatever else this machine runs. It is stopped at the end, and nothing may be left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.core.home import Home
from cluster.local_head import Instance, recorded
from cluster.processes import free_ports

RECORDS = [
    {"id": "watch", "title": "Watch plan", "text": "Each watch lasts four hours at night and six hours by day. "
     "The skipper stands no fixed watch. Write every change of course into the log."},
    {"id": "contact", "title": "Harbour office", "text": "The harbour office answers on channel 12. "
     "Write to bob.jones@seamail.net or call +1 415 555 0134 when the berth is occupied."},
]  # fmt: skip
PAGES = {
    "pumps.md": "# Pump maintenance\n\nReplace the impeller seal of the bilge pump every 400 hours of running. "
    "The seal kit has part number BX-2207. Close the sea cock before you open the pump housing.\n",
    "engine.md": "# Diesel engine\n\nChange the engine oil after every 150 hours. "
    "The engine takes 6.5 litres of SAE 15W-40 oil. "
    "Never start the engine with the sea cock closed, because the raw water pump runs dry.\n",
    "sails.txt": "Reefing the mainsail\n\nTake the first reef at 18 knots of apparent wind, the second at 25 knots. "
    "Ease the mainsheet, lower the halyard to the mark, hook the tack, and haul the reefing line.\n",
    "crew.jsonl": "".join(json.dumps(record) + "\n" for record in RECORDS),
    "galley.rst": "Galley\n======\n\nThe gas bottle is closed whenever nobody cooks. Fresh water for two people lasts "
    "eleven days when dishes are washed in sea water.\n",
}  # fmt: skip


@dataclass
class Service:
    """The running platform and how to call it."""

    home: Path
    settings: list[str]
    instance: Instance
    quickstart: dict[str, Any]
    folder: Path

    @property
    def url(self) -> str:
        return self.instance.base_url

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "PLINTH_HOME": str(self.home), "COLUMNS": "200"}

    @property
    def key(self) -> str:
        """The local key."""
        return Home(self.home).api_key()

    @property
    def bearer(self) -> dict[str, str]:
        """The header that sends it."""
        return {"authorization": f"Bearer {self.key}"}

    def plinth(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cluster.cli.main", *arguments]
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.home
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.plinth(*arguments, "--json").stdout)

    def ask(self, question: str, **more: Any) -> httpx.Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": question}], **more}
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=self.bearer, timeout=60, trust_env=False)

    def pids(self, name: str) -> list[int]:
        """Live processes of this instance whose command line contains ``name``."""
        return [p.pid for p in self.instance.processes() if name in p.command]


def settings_for(ports: list[int]) -> list[str]:
    names = ("http_port", "gcs_port", "dashboard_port")
    pairs = [f"cluster.{name}={port}" for name, port in zip(names, ports, strict=True)]
    pairs += ["cluster.allow_other_ray=true", "cluster.object_store_mb=200", "cluster.min_memory_mb=1500"]
    pairs += ["index.embed_workers=2", "data.blocks=4"]
    return [part for pair in pairs for part in ("--set", pair)]


def write_pages(folder: Path, pages: dict[str, str] = PAGES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text)
    return folder


def eventually(condition: Callable[[], Any], timeout_s: float = 60, what: str = "the condition") -> Any:
    """Poll until ``condition`` gives something true; its value is returned."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("live") / "home"
    home.mkdir(parents=True)
    folder = write_pages(home.parent / "boat")
    settings = settings_for(free_ports(3))
    command = [sys.executable, "-m", "cluster.cli.main", "quickstart", "--source", str(folder), "--json", *settings]
    environ = {**os.environ, "PLINTH_HOME": str(home)}
    environ.pop("PLINTH_STORE", None)
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False, cwd=home)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{_logs(home)}"
        instance = recorded(Home(home))
        assert instance is not None
        yield Service(home, settings, instance, json.loads(done.stdout), folder)
    finally:
        instance = recorded(Home(home))
        subprocess.run([*command[:3], "down"], env=environ, check=True, timeout=120, capture_output=True)
        assert instance is None or instance.processes() == [], "plinth down must leave no process behind"


def _logs(home: Path) -> str:
    """The ends of all logs, for the message of a start that failed."""
    return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-2000:]}" for p in (home / "logs").glob("*.*"))
