"""plinth data: prepare a corpus, read its report."""

from __future__ import annotations

import argparse

from cluster.cli.data import audit, forget, labels, sources, synth
from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store


def register(commands: Commands) -> None:
    """Declare ``plinth data`` with all its verbs; ``prepare`` is a job, ``report`` is worked here."""
    from data_jobs.commands import JOBS

    group = add_group(commands, "data", VERBS["data"].summary)
    job_verb(group, "data_jobs", next(job for job in JOBS if job.name == "prepare"), print_dataset)
    parser = add_verb(group, "report", report, "Show what a dataset kept, what it left out, and why.")
    parser.add_argument("dataset", nargs="?", default="", help="NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument("-n", "--lines", type=int, default=50, help="most quarantined entries to list (default 50)")
    sources.register(group)
    audit.register(group)
    forget.register(group)
    labels.register(group)
    synth.register(group)


def print_dataset(dataset: Manifest) -> None:
    """The counts of a prepared dataset, why documents were left out, and what personal data was redacted."""
    counts = dataset.counts
    console.print(f"[bold]{dataset.name}@{dataset.version}[/bold]")
    rows = [(name, f"{counts[name]:,}") for name in ("records_in", "kept", "duplicates", "filtered", "quarantined")]
    rows += [(name, f"{counts[name]:,}") for name in ("files_seen", "files_read", "files_quarantined")]
    rows += [(name, f"{counts[name]:,}") for name in ("questions", "questions_unplaced") if counts.get(name)]
    rows += [(name, f"{count:,}") for name, count in counts.items() if name.endswith(("_processed", "_reused"))]
    print_table("", ("records", "count"), rows, numeric=("count",))
    if counts.get("reasons"):
        reasons = sorted(counts["reasons"].items(), key=lambda item: -item[1])
        print_table("Left out", ("reason", "count"), reasons, numeric=("count",))
    if counts.get("skipped"):
        inside = [(*name.split(" ", 1), count) for name, count in sorted(counts["skipped"].items())]
        print_table("Left out inside of documents", ("format", "what", "count"), inside, numeric=("count",))
    if counts.get("pii"):
        print_table("Redacted", ("type", "count"), sorted(counts["pii"].items()), numeric=("count",))
    if dataset.inputs.get("warning"):
        console.print(dataset.inputs["warning"])


def report(args: argparse.Namespace) -> int:
    """Print the counts of a dataset and its first ``--lines`` quarantined records, or all with ``--json``; exit code 0.

    Raises:
        BadInputError: there is no such dataset.
    """
    from data_jobs.commands import find_dataset
    from data_jobs.corpus.report import load_report, quarantined

    store = Store(Home.from_env().store_uri)
    dataset = find_dataset(store, args.dataset)
    if args.json:
        print_json(load_report(store, dataset))
        return ExitCode.DONE
    print_dataset(dataset)
    entries = quarantined(store, dataset)
    if entries:
        rows = [(repr(e["source"])[1:-1], e["record"], e["reason"], e["detail"] or "") for e in entries[: args.lines]]
        title = f"Quarantined ({len(entries)})"
        print_table(title, ("file", "record", "reason", "detail"), rows)
    return ExitCode.DONE
