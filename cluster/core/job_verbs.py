"""How a folder declares its jobs, which run in three ways with the same arguments: ``plinth``, Ray job, module.

Each folder keeps one table of its jobs (``train_jobs/commands.py``); its ``__main__`` and the command line read it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from cluster.core.entry import add_common, print_json, run_main
from cluster.core.errors import ExitCode
from cluster.core.progress import Lines, Progress, Silent
from cluster.core.records import Manifest

# Where somebody stood who submitted a job of Ray: Ray starts jobs in a copy of the checkout.
ASKED_FROM = "PLINTH_ASKED_FROM"
Entered = Callable[[str, str, argparse.Namespace, Sequence[str]], AbstractContextManager[Progress]]


def refused_if_not_passed(made: Manifest) -> ExitCode:
    """The exit code of a job that judges: its artefact counts whether what it judged ``passed``."""
    return ExitCode.DONE if made.counts["passed"] else ExitCode.REFUSED


def always_done(made: Manifest) -> ExitCode:
    """The exit code of a job that either makes its artefact or raises."""
    del made
    return ExitCode.DONE


@dataclass(frozen=True)
class JobVerb:
    """One kind of job of a folder, and the verb that starts it.

    Attributes:
        name: its verb.
        summary: one line of help; details: more of it.
        add_arguments: declares its own arguments.
        run: does the work and returns the manifest of what was made.
        code: the exit code, from that manifest.
        dry_run: what it would take, as plain values, without starting anything; None where nobody asks.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Progress], Manifest]
    details: str = ""
    code: Callable[[Manifest], ExitCode] = always_done
    dry_run: Callable[[argparse.Namespace], dict[str, Any]] | None = None

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Declare the job's own arguments, and ``--dry-run`` where it has one."""
        self.add_arguments(parser)
        if self.dry_run is not None:
            parser.add_argument("--dry-run", action="store_true", help="say what it would take, and start nothing")


def summary(manifest: Manifest) -> dict[str, Any]:
    """What a job prints as JSON of the artefact it made."""
    kept = ("kind", "name", "version", "run_key", "counts", "inputs")
    return {name: getattr(manifest, name) for name in kept}


@contextmanager
def unseen(folder: str, job: str, args: argparse.Namespace, arguments: Sequence[str]) -> Iterator[Progress]:
    """A job that nobody follows."""
    del folder, job, args, arguments
    yield Silent()


def main_of(folder: str, about: str, jobs: Sequence[JobVerb], entered: Entered = unseen) -> int:
    """``python -m FOLDER JOB ...``: parse, run the job, print its artefact as JSON, return the exit code.

    How far it is goes to stderr, a line now and then, unless ``--json`` was given.

    ``entered`` enters the job in a book while it runs (``cluster.job_book.entered``). Relative paths among the
    arguments are those of who submitted the job (``ASKED_FROM``), where that is known.
    """
    if (asked_from := os.environ.get(ASKED_FROM)) and os.path.isdir(asked_from):
        os.chdir(asked_from)
    parser = argparse.ArgumentParser(prog=f"python -m {folder}", description=about)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for job in jobs:
        verb = verbs.add_parser(job.name, help=job.summary, description=job.summary)
        job.declare(verb)
        add_common(verb)
        verb.set_defaults(job=job)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work() -> int:
        if getattr(args, "dry_run", False) and args.job.dry_run is not None:
            print_json(args.job.dry_run(args))
            return int(ExitCode.DONE)
        with entered(folder, args.job.name, args, sys.argv[2:]) as followed:
            # Ray gives a submitted job's stdout and stderr as one stream: who asked for JSON gets nothing beside it.
            lines = Lines(args.job.name, followed)
            with nullcontext(followed) if args.json else lines.written() as progress:
                made = args.job.run(args, progress)
        print_json(summary(made))
        return int(args.job.code(made))

    return run_main(work, as_json=args.json)
