"""plinth adapt: search that learns a collection's documents, behind a gate."""

from __future__ import annotations

from typing import Any

from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_table
from cluster.cli.verbs import Commands
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, Store


def register(commands: Commands) -> None:
    """Declare ``plinth adapt``, which is a job."""
    from train_jobs.adaptation.commands import ADAPT

    job_verb(commands, "train_jobs", ADAPT, print_verdict, ahead=print_ahead)


def print_ahead(found: dict[str, Any]) -> None:
    """What a dry run found."""
    print_table("Would take", ("", ""), [(name.replace("_", " "), str(value)) for name, value in found.items()])


def print_verdict(verdict: Manifest) -> None:
    """The figures before and after, the gate's checks, and what answers now."""
    from train_jobs.publishing.adapt_card import COLUMNS, rows_of
    from train_jobs.recipes.adapt import CARD, REPORT

    store = Store(Home.from_env().store_uri)
    folder = store.artefact(verdict)
    report = store.read_json(f"{folder}/{REPORT}")
    console.print(f"[bold]{verdict.name}[/bold]: adaptation {verdict.version}")
    print_table("Found", COLUMNS, rows_of(report))
    checks = [
        (check["name"], "-" if check["value"] is None else f"{check['value']:.4f}", f"{check['threshold']:.4f}",
         "ok" if check["passed"] else check["reason"])
        for check in report["decision"]["checks"]
    ]  # fmt: skip
    print_table("Gate", ("check", "value", "threshold", "verdict"), checks, numeric=("value", "threshold"))
    if verdict.counts["passed"]:
        live = store.manifest(INDEXES, verdict.name, LIVE)
        console.print(f"{verdict.name}@{live.version} answers now; `plinth index rollback` takes it back.",
                      soft_wrap=True)  # fmt: skip
    else:
        console.print("[bold]Refused:[/bold] nothing changed; search answers as before.", soft_wrap=True)
    console.print(f"Card: {folder}/{CARD}", soft_wrap=True)
