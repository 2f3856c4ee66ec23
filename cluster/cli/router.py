"""plinth router: what the learned router costs and is worth, which threshold it has, and whether `auto` uses it."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.cli.output import console, print_facts, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store

ROUTER = "NAME or NAME@VERSION (default: the newest called router)"
USED = """\
A running service takes it at once. It is asked where `auto` has more than one language model to choose from and a
larger one measured better: the smallest one answers instead where its answer will do. What the documents say in their
own words, refusals and tiers named by the client stay as they are. `plinth.route` of an answer has what it said.

  plinth train router --data outcomes.jsonl        train one from what your own tiers were right about
  plinth router tune --target-cost 0.3             three questions of ten go to the larger tier
  plinth router off                                without it again"""


def register(commands: Commands) -> None:
    """Declare ``plinth router`` with its verbs."""
    group = add_group(commands, "router", VERBS["router"].summary)
    parser = add_verb(
        group, "show", show, "Show what a router is worth: quality over cost, and what is in use.",
        "Cost is the share of the questions that go to the larger tier. All figures are of subjects that neither the\n"
        "router nor its thresholds were made with. The picture is curve.png in the router's folder.",
    )  # fmt: skip
    parser.add_argument("router", nargs="?", default="", help=ROUTER)
    parser = add_verb(group, "tune", tune, "Choose the threshold for a cost and route by it.", USED)
    parser.add_argument("router", nargs="?", default="", help=ROUTER)
    parser.add_argument(
        "--target-cost", type=float, required=True, metavar="X", help="share of the calls for the larger tier, 0 to 1"
    )
    add_verb(group, "off", off, "Route without a learned router, as before `plinth router tune`.")


def show(args: argparse.Namespace) -> int:
    """Print the curve of a router and what is in use; exit code 0.

    Raises:
        BadInputError: there is no such router.
    """
    from train_jobs.publishing.routing_policy import at_cost, find_router, live_policy

    store = Store(Home.from_env().store_uri)
    router, policy = find_router(store, args.router), live_policy(store)
    judged, thresholds = router.report["report"], router.report["thresholds"]
    used = {} if policy is None else {name: getattr(policy, name) for name in ("router", "threshold", "target_cost")}
    rows = [{**row, "threshold": round(at_cost(thresholds, row["cost"])["threshold"], 4)} for row in judged["curve"]]
    if args.json:
        print_json({"router": router.reference, "in_use": used or None, "report": {**judged, "curve": rows},
                    "thresholds": thresholds, "verdict": router.report["verdict"]})  # fmt: skip
        return ExitCode.DONE
    console.print(f"[bold]router {router.reference}[/bold]: {router.report['verdict']}", highlight=False)
    print_facts(_facts(judged, used))
    columns = ("cost", "quality", "recovered", "random", "threshold")
    table = [tuple(f"{row[name]:.0%}" if name == "cost" else f"{row[name]:.3f}" for name in columns) for row in rows]
    print_table("Quality over cost", columns, table, numeric=columns)
    return ExitCode.DONE


def tune(args: argparse.Namespace) -> int:
    """Choose and write the threshold for a cost; print what it will cost and be worth. Exit code 0.

    Raises:
        UsageError: the cost is no share.
        BadInputError: there is no such router.
        PolicyRefusedError: it is not surely better than chance.
        IncompatibleError: it was made for another embedder.
    """
    from data_jobs.retrieval.model_files import find_model
    from train_jobs.publishing.routing_policy import find_router
    from train_jobs.publishing.routing_policy import tune as choose

    home = Home.from_env()
    config, store = config_from(args, home), Store(home.store_uri)
    router = find_router(store, args.router)
    made, row = choose(store, router, args.target_cost, find_model(config.index).asks)
    if args.json:
        print_json({"router": router.reference, "policy": f"{made.name}@{made.version}", **row})
        return ExitCode.DONE
    console.print(
        f"[bold]auto[/bold] routes by {router.reference}: the larger tier is asked where the smallest one suffices "
        f"with less than {row['threshold']:.3f}.\nOn subjects it had not seen that sent {row['cost']:.1%} of the "
        f"questions there, for a quality of {row['quality']:.3f}.", highlight=False,
    )  # fmt: skip
    console.print("Other questions than those have another share: look at plinth.route of your own answers.")
    return ExitCode.DONE


def off(args: argparse.Namespace) -> int:
    """Take the learned router out of use; exit code 0."""
    from train_jobs.publishing.routing_policy import switch_off

    was = switch_off(Store(Home.from_env().store_uri))
    if args.json:
        print_json({"was_in_use": was})
    else:
        console.print("No learned router is in use any more." if was else "No learned router was in use.")
    return ExitCode.DONE


def _facts(judged: dict[str, Any], used: dict[str, Any]) -> list[tuple[str, Any]]:
    def shown(value: dict[str, float]) -> str:
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"

    apgr = [(f"APGR {name}", shown(value)) for name, value in judged["apgr"].items()]
    live = f"{used['router']} at {used['threshold']:.3f}, for a cost of {used['target_cost']:.0%}" if used else "none"
    return [
        *apgr, ("APGR of chance", "0.500"), ("calibration error", f"{judged['ece']:.3f}"),
        ("half the gap costs", f"{judged['calls_for_half_the_gap']:.0%}" if judged["calls_for_half_the_gap"] else "-"),
        ("in use", live),
    ]  # fmt: skip
