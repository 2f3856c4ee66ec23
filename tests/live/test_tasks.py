"""A job whose cluster has no free CPU says so, and goes on when there is one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from cluster.connect import private

with private(1, sys.argv[1], 100):
    import ray

    from cluster.core.progress import Silent
    from data_jobs.tasks import await_cpu

    class Holder:
        def here(self):
            return True

    held = ray.remote(Holder).options(num_cpus=1).remote()
    ray.get(held.here.remote())

    class Told(Silent):
        def waits(self, what):
            print("told", what, flush=True)
            if what:
                ray.kill(held)

    await_cpu(Told())
    print("went on", flush=True)
"""


@pytest.mark.slow
def test_a_job_says_that_it_waits_for_a_cpu() -> None:
    with tempfile.TemporaryDirectory(prefix="plinth-") as scratch:  # short: Ray's sockets are below it
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, scratch], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("told", "went"))]
    assert lines[0] == "told waits for 1 CPU: 0 of 1 free", done.stderr
    assert lines[-2:] == ["told ", "went on"], done.stderr
