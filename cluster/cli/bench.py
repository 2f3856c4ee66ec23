"""plinth bench: how fast the running service is."""

from __future__ import annotations

import argparse

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode
from cluster.core.home import Home


def register(commands: Commands) -> None:
    group = add_group(commands, "bench", "Measure the running service.")
    parser = add_verb(
        group, "serve", serve, "Latency of chat calls at several concurrencies, with the time of each stage.",
        "Every question is asked once only (distinct questions, nothing cached). Closed loop: each client sends its\n"
        "next question when the last is answered.",
    )  # fmt: skip
    parser.add_argument("--model", default="quote")
    parser.add_argument("--concurrency", default="1,16", help="comma-separated (default 1,16)")
    parser.add_argument("--requests", type=int, default=300, help="calls per concurrency (default 300)")


def serve(args: argparse.Namespace) -> int:
    from cluster.cli.ask import service_url
    from cluster.cli.load import measure

    base_url = service_url(config_from(args, Home.from_env()))
    levels = [int(part) for part in args.concurrency.split(",")]
    result = measure(base_url, args.model, levels, args.requests)
    if args.json:
        print_json(result)
        return ExitCode.DONE
    machine = result["machine"]
    console.print(f"{machine['cpu']}, {machine['cpus']} CPUs; {args.requests} distinct questions per level")
    rows = [
        (r["concurrency"], r["requests"], r["errors"], f"{r['p50_ms']:.1f}", f"{r['p95_ms']:.1f}", f"{r['p99_ms']:.1f}",
         f"{r['requests_per_s']:.1f}") for r in result["levels"]
    ]  # fmt: skip
    names = ("concurrency", "requests", "errors", "P50 ms", "P95 ms", "P99 ms", "requests/s")
    print_table("Whole call, seen by the client", names, rows, numeric=names)
    for level in result["levels"]:
        stages = [(stage, f"{v['p50_ms']:.1f}", f"{v['p95_ms']:.1f}") for stage, v in level["stages"].items()]
        columns = ("stage", "P50 ms", "P95 ms")
        print_table(f"Stages at concurrency {level['concurrency']}", columns, stages, numeric=columns[1:])
    return ExitCode.DONE
