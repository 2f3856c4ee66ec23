"""plinth runs: training runs while they run and afterwards. Reads the store; no ray, no mlflow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from actors.registry import history
from actors.registry.runs import Run, list_runs, read_metrics, read_run
from actors.registry.runs import cancel as cancel_run
from cluster.cli.output import console, print_facts, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.errors import EnvironmentFaultError, ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store

STYLE = {"running": "cyan", "finished": "green", "failed": "red", "cancelled": "yellow", "interrupted": "yellow"}
LOSSES = ("train_loss", "held_out_loss")
TABLE_ROWS = 16


def register(commands: Commands) -> None:
    """Declare ``plinth runs`` with all its verbs."""
    group = add_group(commands, "runs", VERBS["runs"].summary)
    add_verb(
        group, "list", list_all, "List the training runs, newest last.",
        "interrupted: its process is gone; running the same command again resumes it from its last checkpoint.",
    )  # fmt: skip
    parser = add_verb(
        group, "show", show, "Show one run: parameters, losses as a table, and the loss curve as a PNG.",
        "Works while the run is still going on.",
    )  # fmt: skip
    parser.add_argument("run", help="its id, or the beginning of it")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="where to write the PNG (default: below PLINTH_HOME)")
    parser = add_verb(
        group, "compare", compare, "Compare runs: what differs first, then metrics, and their loss curves as one PNG.",
        "Parameters, inputs, package versions and hardware that are equal in all runs are left out. Metrics stand\n"
        "with their distance from the first run's.",
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", metavar="RUN", help="ids, or beginnings of them")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="where to write the PNG (default: below PLINTH_HOME)")
    parser = add_verb(
        group, "cancel", cancel, "Ask a run to stop at its next step, with a checkpoint.",
        "The same command that started it goes on from there.",
    )  # fmt: skip
    parser.add_argument("run", help="its id, or the beginning of it")


def list_all(args: argparse.Namespace) -> int:
    """Print every training run with its state, duration, steps and last losses; exit code 0."""
    store = _store()
    runs = [(run, _last(read_metrics(store, run.id))) for run in list_runs(store)]
    if args.json:
        print_json([{**run.to_dict(), "last": last, "seconds": _seconds(run, last)} for run, last in runs])
        return ExitCode.DONE
    rows = [
        (run.id, Text(run.state, STYLE[run.state]), run.started_at[:16].replace("T", " "),
         _duration(_seconds(run, last)),
         last.get("step", ""), *(_loss(last.get(key)) for key in LOSSES)) for run, last in runs
    ]  # fmt: skip
    columns = ("run", "state", "started", "took", "steps", "loss", "held out")
    print_table("Runs", columns, rows, numeric=("took", "steps", "loss", "held out"))
    if not rows:
        console.print("No training run yet: `plinth quickstart` or `plinth train pretrain` starts one.")
    return ExitCode.DONE


def show(args: argparse.Namespace) -> int:
    """Print a run's parameters and a sample of its metrics, and draw the loss curve as a PNG; exit code 0.

    With ``--json`` all metrics. Without losses nothing is drawn unless ``--plot`` asks for it.

    Raises:
        BadInputError: there is no such run, or several begin like this.
    """
    store = _store()
    run = read_run(store, args.run)
    rows = read_metrics(store, run.id)
    plot = _plot(run, rows, args.plot) if _has_losses(rows) or args.plot else None
    if args.json:
        print_json({**run.to_dict(), "last": _last(rows), "metrics": rows, "plot": str(plot) if plot else None})
        return ExitCode.DONE
    console.print(f"[bold]{run.id}[/bold]  {run.kind}  [{STYLE[run.state]}]{run.state}[/]")
    if run.error:
        console.print(run.error, markup=False)
    facts: list[tuple[str, Any]] = [
        ("started", run.started_at), ("took", _duration(_seconds(run, _last(rows)))), ("attempts", run.attempts),
        ("host", run.host),
    ]  # fmt: skip
    print_facts([*facts, *((name, value) for name, value in _told(run) if value not in ("", None))])
    columns, left_out = _fitting(_columns(rows), _sampled(rows), console.width)
    names = [key.replace("_", " ") for key in columns]
    cells = [tuple(_cell(key, row.get(key)) for key in columns) for row in _sampled(rows)]
    print_table("Loss", names, cells, numeric=names)
    if left_out:
        console.print(f"not shown for want of room, but with --json: {', '.join(left_out)}", markup=False)
    if plot:
        console.print(f"loss curve: {plot}", soft_wrap=True)
    return ExitCode.DONE


def compare(args: argparse.Namespace) -> int:
    """Print the runs side by side: what they were told that differs, then last metrics with their distance from the
    first run's; draw their losses into one PNG (with ``--json`` only where ``--plot`` asks for it); exit code 0.

    Raises:
        BadInputError: there is no such run, or several begin like this.
    """
    store = _store()
    runs = [read_run(store, run) for run in args.runs]
    metrics = [read_metrics(store, run.id) for run in runs]
    lasts = [_last(rows) for rows in metrics]
    told = [dict(_told(run)) for run in runs]
    names = [n for n in dict.fromkeys(key for found in told for key in found)
             if len({str(found.get(n)) for found in told}) > 1]  # fmt: skip
    drawn = args.plot or (not args.json and any(_has_losses(rows) for rows in metrics))
    plot = _plot_together(runs, metrics, args.plot) if drawn else None
    if args.json:
        print_json(
            [
                {"id": run.id, "kind": run.kind, "state": run.state, "seconds": _seconds(run, last), "last": last,
                 "params": {n: found.get(n) for n in names}, "deltas": _deltas(last, lasts[0]),
                 "plot": str(plot) if plot else None}
                for run, last, found in zip(runs, lasts, told, strict=True)
            ]
        )  # fmt: skip
        return ExitCode.DONE
    rows: list[Sequence[Any]] = [
        *((n, *(str(found.get(n, "-")) for found in told)) for n in names),
        ("kind", *(run.kind for run in runs)),
        ("state", *(Text(run.state, STYLE[run.state]) for run in runs)),
        ("took", *(_duration(_seconds(run, last)) for run, last in zip(runs, lasts, strict=True))),
        *((key.replace("_", " "), *_beside(key, lasts)) for key in _columns(lasts)),
    ]
    print_table("", ("", *(run.id for run in runs)), rows, numeric=[run.id for run in runs])
    if plot:
        console.print(f"loss curves: {plot}", soft_wrap=True)
    return ExitCode.DONE


def _told(run: Run) -> list[tuple[str, Any]]:
    """Everything that may make a run differ from another: settings, inputs, commit, packages, machine."""
    rest = {"inputs": run.inputs, "commit": run.commit, "versions": run.versions, "hardware": run.hardware}
    return _flat({**run.params, **rest})


def _deltas(last: dict[str, Any], first: dict[str, Any]) -> dict[str, float]:
    """How far the numbers of a run are from the first run's."""
    return {key: last[key] - first[key] for key in _columns([last]) if isinstance(first.get(key), int | float)}


def _beside(key: str, lasts: list[dict[str, Any]]) -> list[str]:
    """One metric of all runs, after the first each with its distance from it."""
    cells = []
    for place, last in enumerate(lasts):
        delta = _deltas(last, lasts[0]).get(key)
        mark = "+" if delta is not None and delta >= 0 else ""
        cells.append(
            _cell(key, last.get(key)) + (f" ({mark}{_cell(key, delta)})" if place and delta is not None else "")
        )
    return cells


def cancel(args: argparse.Namespace) -> int:
    """Ask a run to stop and print that it will; returns at once, with exit code 0.

    Raises:
        BadInputError: there is no such run, or several begin like this.
        UsageError: it does not run any more.
    """
    run = cancel_run(_store(), args.run, history.who())
    if args.json:
        print_json({"id": run.id, "cancelling": True})
    else:
        console.print(f"{run.id} stops at its next step, with a checkpoint; the command that started it resumes it.")
    return ExitCode.DONE


def _store() -> Store:
    return Store(Home.from_env().store_uri)


def _plot(run: Run, rows: list[dict[str, Any]], wanted: Path | None) -> Path:
    from train_jobs.publishing.plots import loss_curve

    drawn = loss_curve([{"stage": run.kind, **row} for row in rows], f"{run.id} ({run.state})")
    return _written(drawn, wanted, f"{run.id}.png")


def _plot_together(runs: list[Run], metrics: list[list[dict[str, Any]]], wanted: Path | None) -> Path:
    from train_jobs.publishing.plots import loss_curves

    named = {f"{run.id} ({run.state})": rows for run, rows in zip(runs, metrics, strict=True)}
    return _written(loss_curves(named), wanted, f"compare-{'-'.join(run.id[-8:] for run in runs[:4])}.png")


def _written(png: bytes, wanted: Path | None, name: str) -> Path:
    path = (wanted or Home.from_env().folder("plots") / name).expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
    except OSError as error:
        raise EnvironmentFaultError(f"cannot write {path}: {error.strerror}", path=str(path)) from error
    return path


def _has_losses(rows: list[dict[str, Any]]) -> bool:
    return any(isinstance(row.get(key), float) for row in rows for key in LOSSES)


def _last(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The newest value of everything that was logged."""
    found: dict[str, Any] = {}
    for row in rows:
        found.update({key: value for key, value in row.items() if value is not None})
    return found


def _sampled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most TABLE_ROWS rows, evenly spaced, first and last among them; those with a held-out loss are preferred."""
    rich = [row for row in rows if row.get("held_out_loss") is not None]
    chosen = rich if len(rich) >= TABLE_ROWS // 2 else rows
    if rows and (not chosen or chosen[-1] is not rows[-1]):
        chosen = [*chosen, rows[-1]]
    if len(chosen) <= TABLE_ROWS:
        return chosen
    return [chosen[i * (len(chosen) - 1) // (TABLE_ROWS - 1)] for i in range(TABLE_ROWS)]


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Step and losses first, then every other number, without times of day."""
    keys = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, int | float))
    first = [key for key in ("step", "tokens", "seconds", *LOSSES) if key in keys]
    return [*first, *(key for key in keys if key not in first)]


def _fitting(keys: list[str], rows: list[dict[str, Any]], width: int) -> tuple[list[str], list[str]]:
    """The columns that fit side by side into ``width`` characters, first ones first, and the others."""
    room, shown = width, list[str]()
    for key in keys:
        room -= max(map(len, (key, *(_cell(key, row.get(key)) for row in rows)))) + (2 if shown else 0)
        if room < 0 and shown:
            break
        shown.append(key)
    return shown, keys[len(shown) :]


def _seconds(run: Run, last: dict[str, Any]) -> float:
    """Seconds from the start to the end: until now of one that runs, until its last line of one that was lost."""
    end = run.ended_at or (datetime.now(UTC).isoformat() if run.state == "running" else last.get("at", run.started_at))
    return (datetime.fromisoformat(end) - datetime.fromisoformat(run.started_at)).total_seconds()


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _loss(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"


def _cell(key: str, value: Any) -> str:
    if key.endswith("loss"):
        return _loss(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def _flat(value: dict[str, Any], place: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        found += _flat(inner, f"{place}{key}.") if isinstance(inner, dict) else [(f"{place}{key}", inner)]
    return found
