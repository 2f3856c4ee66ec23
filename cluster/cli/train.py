"""plinth train: the stages of a model's life, one by one or all together (``model``)."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.cli.jobs import job_verb
from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_group, add_verb
from cluster.core.errors import BadInputError, IntegrityError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store


def register(commands: Commands) -> None:
    """Declare ``plinth train`` with one verb for every job of ``train_jobs.commands``."""
    from train_jobs.commands import JOBS

    group = add_group(commands, "train", "Train a model of your own.")
    for job in JOBS:
        if job.name == "adapt":  # has a verb of its own
            continue
        job_verb(group, "train_jobs", job, print_made, ahead=print_ahead)
    order = add_verb(
        group, "order", show_order, "Check which windows or examples a checkpoint was trained on.",
        "The order is computed again from the certificate (order.json) that pretraining and fine-tuning leave in a\n"
        "checkpoint: its hash must be the same, and every window, or example, must have been taken once an epoch.\n"
        "Exit code 3 where it is not so.",
    )  # fmt: skip
    order.add_argument("checkpoint", help="NAME or NAME@VERSION, as `small-base`")


def show_order(args: argparse.Namespace) -> int:
    """Print a checkpoint's certificate and what is wrong with it, if anything.

    Raises:
        BadInputError: there is no such checkpoint, or it has no certificate.
        IntegrityError: the certificate does not hold.
    """
    from train_jobs.commands import find
    from train_jobs.data.certificate import FILE, check

    store = Store(Home.from_env().store_uri)
    made = find(store, "checkpoints", args.checkpoint, "plinth train pretrain")
    name = f"checkpoint {made.name}@{made.version}"
    if FILE not in {file.path for file in made.files}:
        raise BadInputError(f"{name} has no {FILE}: what `plinth train pretrain` and `finetune` make has one")
    certificate = store.read_json(f"{store.artefact(made)}/{FILE}")
    if wrong := check(certificate):
        raise IntegrityError(f"{name}: {'; '.join(wrong)}", checkpoint=made.version)
    if args.json:
        print_json(certificate)
        return 0
    what = f"windows of {certificate['context_tokens']} tokens" if "context_tokens" in certificate else "examples"
    console.print(
        f"[bold]{name}[/bold]: {certificate['samples']:,} {what} in "
        f"{certificate['steps']:,} steps, each once an epoch (order {certificate['order_sha256'][:12]})"
    )
    columns = ("dataset", "weight", "windows", "samples", "epochs")
    rows = [tuple(_shown(corpus[column]) for column in columns) for corpus in certificate["corpora"]]
    print_table("", columns, rows, numeric=columns[1:])
    return 0


def print_made(made: Manifest) -> None:
    """What was made and from what; of a gate's report the checks."""
    console.print(f"[bold]{made.kind} {made.name}@{made.version}[/bold] from {', '.join(made.inputs.values())}")
    if made.kind == "gates":
        from cluster.cli.training import print_contenders, print_gate

        store = Store(Home.from_env().store_uri)
        report = store.read_json(f"{store.artefact(made)}/report.json")
        if "contenders" in report:
            print_contenders(report)
        print_gate(made.inputs["model"], report["decision"])
        return
    if made.kind == "safety-verdicts":
        from cluster.cli.heads import print_verdict

        return print_verdict(made, Store(Home.from_env().store_uri))
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
