"""Verbs that are jobs: run here as a driver, or inside the cluster with --submit; the same arguments either way."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from cluster.cli.output import Stages, print_json
from cluster.cli.verbs import Commands, add_verb
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.job_verbs import always_done
from cluster.core.job_verbs import summary as as_plain
from cluster.core.progress import Progress
from cluster.core.records import Manifest


def job_verb(
    group: Commands,
    name: str,
    module: str,
    job: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace, Progress], Manifest],
    show: Callable[[Manifest], None],
    summary: str,
    details: str = "",
    code: Callable[[Manifest], ExitCode] = always_done,
) -> None:
    """Declare ``plinth GROUP NAME`` for the job ``python -m MODULE JOB``; ``code`` is its exit code."""

    def work(args: argparse.Namespace) -> int:
        if args.submit:
            from cluster.submit import submit

            given = sys.argv[1:]
            arguments = [job, *(a for a in given[given.index(name) + 1 :] if a != "--submit")]
            return submit(Home.from_env(), module, arguments)
        stages = Stages(show=not args.json)
        with stages.run(name):
            manifest = run(args, stages)
            stages.note(f"{manifest.name}@{manifest.version}")
        if args.json:
            print_json({**as_plain(manifest), "seconds": stages.seconds[name]})
        else:
            show(manifest)
        return code(manifest)

    parser = add_verb(group, name, work, summary, details)
    add_arguments(parser)
    parser.add_argument("--submit", action="store_true", help="run as a Ray job inside the cluster, follow its output")
