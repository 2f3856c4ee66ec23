"""plinth bench train: what Ray Train costs."""

from __future__ import annotations

import argparse
import secrets

from cluster.cli.output import Stages, console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store


def register(group: Commands) -> None:
    """Declare ``plinth bench train``: how many steps and rounds are measured."""
    parser = add_verb(
        group, "train", train, "Training tokens per second: Ray Train with 1 and 2 workers against a bare loop.",
        "The same model (section `train`), the same steps, random tokens. The ways take turns; medians are shown.",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=30, help="timed steps per round (default 30)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each way (default 2)")


def train(args: argparse.Namespace) -> int:
    """Print tokens per second and seconds to start of each way to train, and its ratio to the bare loop; exit code 0.

    What the runs write lies in a staging folder of the store, which is removed at the end.
    """
    from cluster.cli.bench.load import machine
    from cluster.connect import connected

    home = Home.from_env()
    config, stages = config_from(args, home), Stages(show=not args.json)
    store = Store(home.store_uri)
    folder = store.path("staging", f"bench-{secrets.token_hex(4)}")
    below = folder if store.local else f"{store.uri}/staging/{folder.rpartition('/')[2]}"
    with connected(home), stages.run("measure training"):
        from train_jobs.benchmarks.training import measure

        try:
            result = {"machine": machine(), **measure(config.train, Store(below), args.steps, args.rounds, stages)}
        finally:
            if store.exists(folder):
                store.fs.rm(folder, recursive=True)
    if args.json:
        print_json(result)
        return ExitCode.DONE
    rows = [
        (name.replace("_", " "), f"{rate:,}", f"{result['ratio'].get(name, 1.0):.2f}",
         f"{result['startup_seconds'][name]:.1f}" if name in result["startup_seconds"] else "")
        for name, rate in result["tokens_per_s"].items()
    ]  # fmt: skip
    console.print(f"{result['machine']['cpu']}, {result['cpus']} CPUs; {result['parameters']:,} parameters")
    print_table("Training", ("way", "tokens/s", "ratio", "start s"), rows, numeric=("tokens/s", "ratio", "start s"))
    return ExitCode.DONE
