"""plinth train: the stages of a model's life, one by one or all together (``model``)."""

from __future__ import annotations

from typing import Any

from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_table
from cluster.cli.verbs import Commands, add_group
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store


def register(commands: Commands) -> None:
    """Declare ``plinth train`` with one verb for every job of ``train_jobs.commands``."""
    from train_jobs.commands import JOBS

    group = add_group(commands, "train", "Train a model of your own.")
    for job in JOBS:
        job_verb(group, "train_jobs", job, print_made, ahead=print_ahead)


def print_made(made: Manifest) -> None:
    """What was made and from what; of a gate's report the checks."""
    console.print(f"[bold]{made.kind} {made.name}@{made.version}[/bold] from {', '.join(made.inputs.values())}")
    if made.kind == "gates":
        from cluster.cli.training import print_gate

        store = Store(Home.from_env().store_uri)
        print_gate(made.inputs["model"], store.read_json(f"{store.artefact(made)}/report.json")["decision"])
        return
    if made.kind == "plans":
        from cluster.cli.plan import print_plan

        return print_plan(made, Store(Home.from_env().store_uri))
    rows = [(name.replace("_", " "), _shown(value)) for name, value in made.counts.items()]
    print_table("", ("", "value"), rows, numeric=("value",))


def print_ahead(found: dict[str, Any]) -> None:
    """What a dry run found."""
    from cluster.cli.plan import print_dry_run

    print_dry_run(found)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
