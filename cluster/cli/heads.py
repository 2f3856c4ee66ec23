"""plinth review heads, rollback: which heads the guard `classifier` uses, what the gate said, and those before."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.cli.models import print_checks
from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.cli.written import write_down
from cluster.core.errors import ExitCode, IncompatibleError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import LIVE, Store

HEADS = """\
`plinth train safety` makes new ones. Where decisions are among its rows, a gate holds them against those in use: on
decisions that neither learnt from, and on sets that were left out of the fit. A running service uses what passed within
seconds, where serve.guards has `classifier`."""
COLUMNS = ("head", "may", "auroc", "recall", "business", "look_alike", "worst_set")
LAST = 5  # verdicts that are shown


def declare_heads(group: Commands) -> None:
    """Declare the two verbs."""
    add_verb(group, "heads", show, "Show the heads in use, what they are worth, and the last verdicts.", HEADS)
    add_verb(group, "rollback", rollback, "Use the heads again that were in use before; at last the shipped ones.")


def show(args: argparse.Namespace) -> int:
    """Print the heads in use and the last verdicts; exit code 0.

    Raises:
        PlinthError: the heads in use cannot be read.
    """
    from data_jobs.safety.in_force import in_force
    from train_jobs.recipes.safety_gate import NAME, VERDICTS

    store = Store(Home.from_env().store_uri)
    found = in_force(store)
    rows = [
        {"head": name, "may": found.head.action(name), **vars(own.measured)} for name, own in found.head.heads.items()
    ]  # fmt: skip
    verdicts = [_row(one) for one in reversed(store.versions(VERDICTS, NAME))][:LAST]
    if args.json:
        print_json({"in_use": found.reference, "encoder": found.head.embedder, "heads": rows, "verdicts": verdicts})
        return ExitCode.DONE
    cells = [tuple(_shown(row[name]) for name in COLUMNS) for row in rows]
    print_table(f"In use: {found.reference}", COLUMNS, cells, numeric=COLUMNS[2:])
    if verdicts:
        lines = [
            (row["at"].replace("T", " "), row["heads"], _shown(row["passed"]),
             *(f"{_shown(row[f'{name}_before'])} → {_shown(row[f'{name}_after'])}" for name in ("missed", "flagged")))
            for row in verdicts
        ]  # fmt: skip
        print_table("The last verdicts, on held-out decisions", ("at", "heads", "passed", "missed", "flagged"), lines)
    return ExitCode.DONE


def rollback(args: argparse.Namespace) -> int:
    """Print which heads were in use and which are now; exit code 0.

    Raises:
        BadInputError: there are none before them.
        IncompatibleError: those read vectors of another encoder: the guard could not use them.
        EnvironmentFaultError: it cannot be written down.
    """
    from data_jobs.safety.encoder import encoder_asks
    from data_jobs.safety.in_force import KIND, NAME, before, roll_back

    home = Home.from_env()
    store = Store(home.store_uri)
    now, left = before(store), f"{NAME}@{store.alias(KIND, NAME, LIVE)}"  # which itself may be damaged
    asks = encoder_asks()
    if now.head.embedder != asks:
        raise IncompatibleError(
            f"{now.reference} was fitted on vectors of the encoder {now.head.embedder}, and there is {asks}: the guard "
            "could not use it"
        )
    write_down(args, "heads_rolled_back", before=left, now=now.reference)
    roll_back(store)
    if args.json:
        print_json({"from": left, "in_use": now.reference})
    else:
        console.print(f"Heads of the guard: {left} → [bold]{now.reference}[/bold] is in use again.")
    return ExitCode.DONE


def print_verdict(verdict: Manifest, store: Store) -> None:
    """The gate's checks on new heads, and which are in use now."""
    from train_jobs.recipes.safety_gate import REPORT

    decision = store.read_json(f"{store.artefact(verdict)}/{REPORT}")["decision"]
    heads, before = verdict.inputs["heads"], verdict.inputs["before"]
    print_checks(f"{heads} against {before}", decision["checks"])
    console.print(f"{decision['reason'][:1].upper()}{decision['reason'][1:]}.", soft_wrap=True, markup=False)
    if decision["passed"]:
        console.print(f"In use where serve.guards has `classifier`: {heads}; `plinth review rollback` takes it back.",
                      soft_wrap=True)  # fmt: skip
    else:
        console.print(f"Nothing changed: {before} stays in use; {heads} is kept.", soft_wrap=True)


def _row(verdict: Manifest) -> dict[str, Any]:
    counts = verdict.counts
    return {
        "at": verdict.created_at[:16], "heads": verdict.inputs["heads"], "before": verdict.inputs["before"],
        "passed": counts["passed"],
        **{f"{name}_{when}": counts[when][name] for name in ("missed", "flagged") for when in ("before", "after")},
    }  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
