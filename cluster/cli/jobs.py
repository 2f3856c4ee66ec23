"""Verbs that are jobs: run here as a driver, or inside the cluster with --submit; the same arguments either way."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from cluster.cli.output import Stages, console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.job_verbs import JobVerb, summary
from cluster.core.records import Manifest
from cluster.job_book import Book, Booked, ago, entered


def job_verb(
    group: Commands, module: str, job: JobVerb, show: Callable[[Manifest], None], verb: str = "",
    ahead: Callable[[dict[str, Any]], None] = print_json,
) -> None:  # fmt: skip
    """Declare ``plinth GROUP VERB`` for the job ``python -m MODULE JOB``; ``verb`` where it is not the job's name.

    ``show`` prints what was made, ``ahead`` what its dry run says.
    """
    name = verb or job.name

    def work(args: argparse.Namespace) -> int:
        if args.submit:
            from cluster.submit import submit

            given = sys.argv[1:]
            arguments = [job.name, *(a for a in given[given.index(name) + 1 :] if a != "--submit")]
            return submit(Home.from_env(), module, arguments)
        if job.dry_run is not None and args.dry_run:
            found = job.dry_run(args)
            if args.json:
                print_json(found)
            else:
                ahead(found)
            return int(ExitCode.DONE)
        with entered(module, job.name, args, sys.argv[1:], tell_waiting(args)) as entry:
            stages = Stages(show=not args.json, follower=entry)
            with stages.run(name):
                manifest = job.run(args, stages)
                stages.note(f"{manifest.name}@{manifest.version}")
        if args.json:
            print_json({**summary(manifest), "seconds": stages.seconds[name]})
        else:
            show(manifest)
        return job.code(manifest)

    parser = add_verb(group, name, work, job.summary, job.details)
    job.declare(parser)
    parser.add_argument("--submit", action="store_true", help="run as a Ray job inside the cluster, follow its output")


def tell_waiting(args: argparse.Namespace) -> Callable[[str], None]:
    """How a verb says what it waits for: above the progress bar; beside JSON, and where no terminal is, on stderr."""
    if not args.json and sys.stdout.isatty():
        return lambda text: console.print(text, style="yellow", markup=False)
    return lambda text: print(f"plinth: {text}", file=sys.stderr, flush=True)


def jobs_now(home: Home) -> dict[str, list[dict[str, Any]]]:
    """``{"running", "finished"}`` for ``plinth status``: what runs and waits oldest first, what ended newest first."""
    book = Book(home)
    return {
        "running": [job.to_dict() for job in book.jobs()],
        "finished": [job.to_dict() for job in book.finished()],
    }


def print_jobs(jobs: dict[str, list[dict[str, Any]]], ended: int = 3) -> None:
    """The table "Jobs": what runs and waits, and the ``ended`` last jobs; nothing where there was never any."""
    now = time.time()
    rows = [job_row(Booked.from_dict(row), now) for row in [*jobs["running"], *jobs["finished"][:ended]]]
    if rows:
        print_table("Jobs", ("job", "state", "stage", "progress", "since"), rows)


def job_row(job: Booked, now: float) -> tuple[str, str, str, str, str]:
    """One line of the table: job, state, stage (or what it waits for, or why it failed), progress, since when."""
    name = f"{job.name} ({job.via})" if job.via else job.name
    if job.ended:
        took = f"after {ago(job.ended - job.started)}"
        return name, job.state, job.note or job.stage, took, f"{ago(now - job.ended)} ago"
    if job.state == "waiting":
        return name, job.state, job.waiting.removeprefix("waiting "), "", f"{ago(now - job.queued)} ago"
    total = f"/{job.total:,}" if job.total is not None else ""
    done = f"{job.done:,}{total} {job.unit}".strip() if job.done or job.total else ""
    rate = f", {job.rate:,.1f}/s" if job.rate else ""
    stage = f"{job.stage}, {job.waiting}" if job.waiting else job.stage
    return name, job.state, stage, f"{done}{rate}", f"{ago(now - job.started)} ago"
