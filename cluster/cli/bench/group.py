"""plinth bench: how fast the running service is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cluster.cli.bench import data as bench_data
from cluster.cli.bench import index as bench_index
from cluster.cli.bench import rivals as bench_rivals
from cluster.cli.bench import train as bench_train
from cluster.cli.bench.levels import levels_of
from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

if TYPE_CHECKING:
    from cluster.cli.bench.token_load import Subject
    from cluster.core.config import PlinthConfig


def register(commands: Commands) -> None:
    """Declare ``plinth bench`` with all its verbs; ``serve`` is worked here."""
    group = add_group(commands, "bench", VERBS["bench"].summary)
    parser = add_verb(
        group, "serve", serve, "Speed of the running service at several concurrencies.",
        "A tier like quote: latency of chat calls, with the time of each stage. A tier that is a model: tokens per\n"
        "second of its engine alone and over HTTP (POST /v1/completions, streamed), and their ratio.\n"
        "Every question is asked once only (distinct questions, nothing cached). Closed loop: each client sends its\n"
        "next question when the last is answered.",
    )  # fmt: skip
    parser.add_argument("--model", default="quote")
    parser.add_argument("--concurrency", help="comma-separated (default 1,16; of a model 1,8,32)")
    parser.add_argument("--requests", type=int, help="calls per concurrency (default 300; of a model 4 per client)")
    parser.add_argument(
        "--max-tokens", type=int, default=128, help="of a model: tokens of one completion (default 128)"
    )
    parser.add_argument("--direct", action="store_true", help="of a model: the engine alone, no service needed")
    parser.add_argument(
        "--against", metavar="URL", help="of a tier like quote: another running service, asked in turns with this one"
    )
    bench_rivals.register(group)
    bench_train.register(group)
    bench_index.register(group)
    bench_data.register(group)


def serve(args: argparse.Namespace) -> int:
    """Print a table by concurrency, of tokens per second for a model, else of latencies in ms; exit code 0.

    Raises:
        UsageError: a number is below 1 or none at all, or ``--direct`` names what is not a registered model.
    """
    from cluster.cli.ask import service_url
    from cluster.cli.bench.token_load import served_model

    home = Home.from_env()
    config = config_from(args, home)
    levels = levels_of(args.concurrency)
    if (args.requests is not None and args.requests < 1) or args.max_tokens < 1:
        raise UsageError("--requests and --max-tokens must be 1 or more")
    subject = served_model(Store(home.store_uri), args.model, home.root / "cache", args.max_tokens)
    if subject is not None:
        if args.against:
            raise UsageError(f"--against compares services over tiers like quote, and {args.model!r} is a model")
        base_url = None if args.direct else service_url(config)
        return _tokens(args, config, subject, levels or (1, 8, 32), base_url)
    if args.direct:
        raise UsageError(f"--direct measures the engine of a model, and {args.model!r} is not a registered model")
    return _latency(args, service_url(config), levels or (1, 16))


def _tokens(
    args: argparse.Namespace, config: PlinthConfig, subject: Subject, levels: Sequence[int], base_url: str | None
) -> int:
    from cluster.cli.bench.token_load import measure_tokens

    result = measure_tokens(config, subject, levels, args.requests, base_url)
    if args.json:
        print_json(result)
        return ExitCode.DONE
    machine = result["machine"]
    console.print(
        f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load_1min']:.1f}\n"
        f"{result['model']}@{result['version']}: {result['engine']} {result['precision']}, {result['threads']} threads"
        f", completions of up to {result['max_tokens']} tokens"
    )
    rows = []
    for level in result["levels"]:
        direct, http = level["direct"], level["http"] or {}
        rows.append((
            level["concurrency"], direct["requests"], direct["errors"] + http.get("errors", 0),
            f"{direct['tokens_per_s']:.0f}", f"{http['tokens_per_s']:.0f}" if http else "-",
            f"{level['ratio']:.2f}" if level["ratio"] is not None else "-", f"{direct['first_p50_ms']:.1f}",
            f"{http['first_p50_ms']:.1f}" if http else "-", f"{direct['ms_per_token']:.2f}",
        ))  # fmt: skip
    names = ("clients", "requests", "errors", "engine", "HTTP", "ratio", "first ms", "HTTP first", "ms/token")
    print_table("Tokens per second: the engine alone, and over HTTP", names, rows, numeric=names)
    return ExitCode.DONE


def _latency(args: argparse.Namespace, base_url: str, levels: Sequence[int]) -> int:
    from cluster.cli.bench.load import measure

    result = measure(base_url, args.model, levels, args.requests or 300, args.against)
    if args.json:
        print_json(result)
        return ExitCode.DONE
    machine = result["machine"]
    console.print(f"{machine['cpu']}, {machine['cpus']} CPUs; {args.requests or 300} distinct questions per level")
    rows = []
    for level in result["levels"]:
        rows.append((level["concurrency"], *_figures(level)))
        if args.against:
            ratio = f"{level['ratio']:.2f} times" if level["ratio"] is not None else "-"
            rows += [("against", *_figures(level["against"])), ("ratio", *("",) * 5, ratio)]
    names = ("concurrency", "requests", "errors", "P50 ms", "P95 ms", "P99 ms", "requests/s")
    print_table("Whole call, seen by the client", names, rows, numeric=names)
    for level in result["levels"]:
        stages = [(stage, f"{v['p50_ms']:.1f}", f"{v['p95_ms']:.1f}") for stage, v in level["stages"].items()]
        columns = ("stage", "P50 ms", "P95 ms")
        print_table(f"Stages at concurrency {level['concurrency']}", columns, stages, numeric=columns[1:])
    return ExitCode.DONE


def _figures(level: dict[str, Any]) -> tuple[Any, ...]:
    percentiles = (f"{level[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms", "requests_per_s"))
    return level["requests"], level["errors"], *percentiles
