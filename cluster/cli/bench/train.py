"""plinth bench train: what training through the platform costs, beside other loops; with --gpu, one accelerator."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from cluster.cli.output import Stages, console, print_facts, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

PARTS = ("speed", "start", "kill", "memory")


def register(group: Commands) -> None:
    """Declare ``plinth bench train``: what is measured, how many steps and rounds."""
    parser = add_verb(
        group, "train", train, "Training: speed beside other loops, start, a kill, memory; --gpu: one accelerator.",
        "The same model (section `train`), the same steps, random tokens. speed: Ray Train with 1 and 2 workers, a\n"
        "bare loop, two of them at once, Hugging Face's Trainer, LitGPT. start: running cluster to first step. kill:\n"
        "kill -9 of a worker to the next step. memory: of a worker, corpus x 1 and x 10. --gpu needs no cluster.",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=30, help="timed steps per round (default 30)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each way (default 2)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"what to measure (default {','.join(PARTS)})")
    parser.add_argument("--litgpt", default="", metavar="PYTHON", help="a Python that has litgpt, to measure it too")
    parser.add_argument("--gpu", action="store_true", help="bf16, compile, MFU, FSDP2, ZeRO-3 on one GPU (8 minutes)")


def train(args: argparse.Namespace) -> int:
    """Print the tables of what was measured; exit code 0. What the runs write is removed at the end.

    Raises:
        UsageError: a part that does not exist, or a number below 1.
    """
    if args.gpu:
        return _gpu(args)
    from cluster.cli.bench.load import machine
    from cluster.connect import connected

    parts = tuple(part.strip() for part in args.parts.split(",") if part.strip())
    if wrong := [part for part in parts if part not in PARTS]:
        raise UsageError(f"--parts {wrong[0]!r}: there are {', '.join(PARTS)}")
    if args.steps < 1 or args.rounds < 1:
        raise UsageError("--steps and --rounds must be 1 or more")
    home = Home.from_env()
    config, stages = config_from(args, home), Stages(show=not args.json)
    store = Store(home.store_uri)
    folder = store.path("staging", f"bench-{secrets.token_hex(4)}")
    below = folder if store.local else f"{store.uri}/staging/{folder.rpartition('/')[2]}"
    with connected(home), stages.run("measure training"):
        from train_jobs.benchmarks.training import measure

        try:
            measured = measure(config.train, Store(below), args.steps, args.rounds, stages, parts, args.litgpt)
            result = {"machine": machine(), **measured}
        finally:
            if store.exists(folder):
                store.fs.rm(folder, recursive=True)
    if args.json:
        print_json(result)
        return ExitCode.DONE
    console.print(f"{result['machine']['cpu']}, {result['cpus']} CPUs; {result['parameters']:,} parameters")
    _print(result)
    return ExitCode.DONE


def _print(result: dict[str, Any]) -> None:
    if speed := result.get("speed"):
        rows = [(name.replace("_", " "), f"{rate:,}", f"{speed['mfu'][name]:.3f}")
                for name, rate in speed["tokens_per_s"].items()]  # fmt: skip
        rows += [(name.replace("_", " "), "not run", why) for name, why in speed["not_run"].items()]
        print_table("Training", ("way", "tokens/s", "MFU"), rows, numeric=("tokens/s",))
        print_table("Ratios", ("", "ratio"), [(n.replace("_", " "), f"{v:.3f}") for n, v in speed["ratio"].items()],
                    numeric=("ratio",))  # fmt: skip
    if start := result.get("start"):
        parts = ", ".join(f"{name.replace('_', ' ')} {seconds:.1f}" for name, seconds in start["parts"].items())
        print_facts([("first step after", f"{start['seconds']:.1f} s ({parts})")])
    if kill := result.get("kill"):
        print_facts([("kill -9 to next step", f"{kill['seconds']:.1f} s")])
    if memory := result.get("memory"):
        sizes = ", ".join(f"corpus {name} {size:,.0f} MiB" for name, size in memory["vm_hwm_mb"].items())
        print_facts([("memory of a worker", f"{sizes}; ratio {memory['ratio']:.3f}")])


def _gpu(args: argparse.Namespace) -> int:
    from train_jobs.benchmarks.gpu import measure, no_gpu

    if why := no_gpu():
        if args.json:
            print_json({"not_run": why})
        else:
            console.print(f"not run: {why}")
        return ExitCode.DONE
    result = measure(lambda text: None if args.json else console.print(text, markup=False))
    print_json(result)
    return ExitCode.DONE
