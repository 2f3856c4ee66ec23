"""Ray job submission: the same verb with the same arguments, run inside the cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.core.entry import answers
from cluster.core.errors import EnvironmentFaultError, ExitCode
from cluster.core.home import Home
from cluster.core.job_verbs import ASKED_FROM
from cluster.core.telemetry import log_event
from cluster.local_head import running
from cluster.serve_mode import serve_environment


def submit(home: Home, module: str, arguments: Sequence[str]) -> int:
    """Run ``python -m module arguments`` as a Ray job, print its output, and return its exit code.

    The project's checkout travels as the working directory; relative paths among the arguments stay those of this
    process. Ctrl-C stops following, not the job.

    Raises:
        EnvironmentFaultError: nothing runs, or the cluster refused the job.
    """
    instance = running(home)
    if instance is None:
        raise EnvironmentFaultError("nothing is running: start it with `plinth up` (or `plinth quickstart`)")
    os.environ.update(serve_environment(home, instance.temp_dir, instance.ports))
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):  # all set theirs
        logging.getLogger(name).setLevel(logging.ERROR)  # they tell of what they upload, and of every file they do not
    entrypoint = shlex.join(["python", "-m", module, *arguments])
    try:
        client = JobSubmissionClient(instance.dashboard_url)
        environment = {"working_dir": str(project_root()), "env_vars": {ASKED_FROM: os.getcwd()}}
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
    except (ConnectionError, RuntimeError) as error:
        raise EnvironmentFaultError(f"the cluster at {instance.dashboard_url} refused the job: {error}") from error
    log_event("cluster", "job_submitted", job=job, entrypoint=entrypoint)
    print(f"submitted {job}: {entrypoint}", file=sys.stderr)
    asyncio.run(_follow(client, job))
    info = client.get_job_info(job)
    log_event("cluster", "job_ended", job=job, status=str(info.status))
    return exit_code(job, str(info.status), info.driver_exit_code, info.message)


def exit_code(job: str, status: str, code: int | None, message: str | None) -> int:
    """The exit code for a job that ended: its own; where somebody stopped it or Ray ended it, that is said."""
    if status == "STOPPED":
        said = "was stopped; finished work is kept, run the same command again to go on"
        print(f"plinth: {job} {said}", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    if code is not None:
        return int(code)
    print(f"plinth: {job} ended as {status}: {message or 'Ray does not say why'}", file=sys.stderr)
    return int(ExitCode.INTERNAL)


async def _follow(client: object, job: str) -> None:
    async for lines in client.tail_job_logs(job):  # type: ignore[attr-defined]
        print(lines, end="", flush=True, file=answers())


def project_root() -> Path:
    """The folder of the checkout this module is in."""
    return Path(__file__).resolve().parents[1]
