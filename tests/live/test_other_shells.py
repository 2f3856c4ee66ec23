"""`plinth env` in a shell that knows nothing: Ray's own commands, and a browser at Ray's dashboard."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.live.conftest import Service

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.ci]


def in_a_clean_shell(service: Service, command: str) -> str:
    """Run a command in a shell whose only variables are HOME, PATH and PLINTH_HOME, after ``eval "$(plinth env)"``."""
    plinth = Path(sys.executable).with_name("plinth")
    environ = {"HOME": str(service.home), "PATH": os.defpath, "PLINTH_HOME": str(service.home)}
    done = subprocess.run(
        ["bash", "-c", f'eval "$({plinth} env)"; {command}'],
        env=environ, capture_output=True, text=True, timeout=200, check=False, cwd=service.home,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ray status", r"Active:\n 1 node_"),
        ("ray list actors", r"ServeController +ALIVE"),
        ("serve status", r"gateway:\n +status: HEALTHY"),
        ("ray job submit -- python -c 'print(6 * 7)'", r"(?m)^42$"),
    ],
)
def test_rays_own_commands_work_in_another_shell(service: Service, command: str, said: str) -> None:
    assert re.search(said, in_a_clean_shell(service, command))


def test_the_printed_way_into_the_dashboard_works_in_a_browser(service: Service, chromium: str) -> None:
    needs(sync_playwright is not None, "playwright (pip install -e .[dev])")
    line = next(line for line in service.plinth("env").stdout.splitlines() if "dashboard: " in line)
    url, command = re.search(r"(http://\S+) .*`(.+)`", line).groups()  # type: ignore[union-attr]
    token = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url, timeout=120_000)
        assert page.request.get(f"{url}/api/jobs/").status == 401
        dialog = page.get_by_role("dialog")
        dialog.locator("input").fill(token, timeout=120_000)
        dialog.get_by_role("button", name="Submit").click()
        dialog.wait_for(state="hidden", timeout=60_000)
        assert page.request.get(f"{url}/api/jobs/").status == 200
        browser.close()
