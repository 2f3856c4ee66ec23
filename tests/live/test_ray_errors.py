"""What really comes out of Ray's tasks, actors and datasets when they fail, on a small Ray of this test's own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, resource, sys
from cluster.connect import private

with private(2, sys.argv[1], 100):
    import ray
    import ray.data

    from cluster.core.errors import IntegrityError, PlinthError
    from cluster.ray_errors import data_errors_as_raised, plain_errors
    from data_jobs.tasks import spread

    def damaged(row):
        raise IntegrityError("part 7 is damaged: make it again", part=7)

    def disk_full(row):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            with open(os.path.join(sys.argv[2], "large"), "wb") as handle:
                handle.write(bytes(1 << 20))
        finally:  # Ray uses the process again, and it writes a log
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def killed(row):
        os._exit(1)

    class Picky:
        def __init__(self, model):
            raise IntegrityError(f"the model {model} is damaged")

        def ask(self):
            return 1

    def through_data(function):
        data_errors_as_raised()
        list(ray.data.from_items([{"row": 1}]).map(function).iter_rows())

    def through_task(function):
        ray.get(ray.remote(function).options(max_retries=0).remote({}))

    def through_spread(function):
        list(spread(function, [({},)], "spreading"))

    def through_actor(function):
        ray.get(ray.remote(Picky).remote("small").ask.remote())

    for way, function in (
        (through_task, damaged), (through_spread, damaged), (through_data, damaged), (through_actor, None),
        (through_task, disk_full), (through_data, disk_full), (through_task, killed),
    ):
        try:
            with plain_errors("testing"):
                way(function)
        except PlinthError as error:
            with open(os.path.join(sys.argv[2], "lines"), "a") as told:  # Ray prints into this process's lines
                print(way.__name__, getattr(function, "__name__", "-"), type(error).__name__, error.message, file=told)
"""


@pytest.mark.slow
@pytest.mark.ci
def test_errors_of_tasks_actors_and_datasets_arrive_as_ours(tmp_path: Path) -> None:
    script = SCRIPT.replace("sys.argv[2]", repr(str(tmp_path)))  # workers have other arguments
    with tempfile.TemporaryDirectory(prefix="plinth-") as scratch:  # short: Ray's sockets are below it
        done = subprocess.run(
            [sys.executable, "-c", script, scratch], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
        )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "lines").read_text().splitlines()
    damaged = "damaged IntegrityError part 7 is damaged: make it again"
    assert lines[:3] == [f"{way} {damaged}" for way in ("through_task", "through_spread", "through_data")], done.stderr
    actor, task, data, killed = lines[3:]
    assert actor.startswith("through_actor - EnvironmentFaultError")
    assert "the model small is damaged" in actor
    for line in (task, data):
        assert "disk_full EnvironmentFaultError the disk is full while testing" in line
    assert "killed EnvironmentFaultError a process of the cluster died while testing" in killed
    assert "Traceback" not in done.stderr, "Ray Data prints nothing of its own about errors that are told"
