"""plinth bench data: how fast a corpus is prepared, and texts are embedded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cluster.cli.output import Stages, console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home


def register(group: Commands) -> None:
    """Declare ``plinth bench data``: which texts, how much of them, with how many workers."""
    parser = add_verb(
        group, "data", data, "Speed of preparing a corpus, beside datatrove on the same cores and files; of embedding.",
        "The corpus is made of the sentences of real texts in new orders, with copies whose number is known.\n"
        "Every run has a private Ray (or datatrove's processes) pinned to as many cores as it has workers; a running\n"
        "platform is not touched. Needs the development packages (datatrove, spacy). With --embedding: chunks per\n"
        "second of the index's embedding actors against as many independent processes of the same model.\n\n"
        "Example: plinth bench data --size-mb 200 --workers 1,2,4 --json > prepare.json",
    )  # fmt: skip
    parser.add_argument("--path", type=Path, default=Path("../shared/data"), help="texts (default ../shared/data)")
    parser.add_argument("--size-mb", type=float, default=20.0, help="size of the corpus in MB (default 20)")
    parser.add_argument("--workers", default="1,2,4", help="comma-separated (default 1,2,4)")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each; the fastest counts (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes another corpus (default 0)")
    parser.add_argument("--no-datatrove", action="store_true", help="measure ours only")
    parser.add_argument("--no-memory", action="store_true", help="leave out the run on a tenth of the corpus")
    parser.add_argument(
        "--words", choices=("default", "simple"), default="default",
        help="how datatrove splits words: spaCy, its default, or one regular expression",
    )  # fmt: skip
    parser.add_argument("--embedding", action="store_true", help="measure embedding instead")
    parser.add_argument("--documents", type=int, default=80, help="with --embedding: documents per worker (default 80)")


def data(args: argparse.Namespace) -> int:
    """Print this machine and what was measured, as tables or with ``--json`` as one object; exit code 0.

    Raises:
        UsageError: ``--workers`` is no list of whole numbers.
    """
    from cluster.cli.bench.load import machine

    workers = _workers(args.workers)
    stages = Stages(show=not args.json)
    with stages.run("measure embedding" if args.embedding else "measure preparation"):
        if args.embedding:
            from data_jobs.benchmarks.embedding import measure as measure_embedding

            section = config_from(args, Home.from_env()).index
            found = measure_embedding(section, args.path, workers, args.documents, args.rounds, stages)
        else:
            from data_jobs.benchmarks.preparation import measure

            found = measure(
                args.path, args.size_mb, workers, stages, seed=args.seed, rounds=args.rounds,
                datatrove=not args.no_datatrove, words=args.words, memory=not args.no_memory,
            )  # fmt: skip
    result = {"machine": machine(), **found}
    if args.json:
        print_json(result)
    elif args.embedding:
        _show_embedding(result)
    else:
        _show(result)
    return ExitCode.DONE


def _workers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UsageError(f"--workers {text!r}: write whole numbers with commas, for example 1,2,4") from None


def _show(result: dict[str, Any]) -> None:
    corpus = result["corpus"]
    console.print(
        f"{result['machine']['cpu']}, {result['machine']['cpus']} CPUs, load {result['machine']['load_1min']:.1f}\n"
        f"{corpus['documents']:,} documents, {corpus['bytes'] / 1e6:.1f} MB, {corpus['unique_share']:.0%} unique, "
        f"{corpus['pairs']:,} known duplicate pairs"
    )
    rows = []
    for side, runs in result["runs"].items():
        for run in runs:
            n = str(run["workers"])
            rows.append((
                side, n, f"{run['documents_per_s']:,.0f}", f"{run['seconds']:.1f}", f"{run['recall']:.3f}",
                f"{run['kept']:,}", f"{run['peak_worker_mib']:.0f}",
                f"{result['ratio'][n]:.2f}" if side == "plinth" and n in result["ratio"] else "",
                f"{result['efficiency'][n]:.2f}" if side == "plinth" else "",
                f"{run['busy_share']:.2f}" if side == "plinth" else "",
            ))  # fmt: skip
    names = ("side", "workers", "docs/s", "seconds", "recall", "kept", "MiB/worker", "ratio", "scaling", "in tasks")
    print_table("Extract to tokens", names, rows, numeric=names[1:])
    last = result["runs"]["plinth"][-1]
    stages = [(name, f"{seconds:.2f}") for name, seconds in last["stages"].items()]
    print_table(f"Ours with {last['workers']} workers, wall clock", ("stage", "seconds"), stages, numeric=("seconds",))
    busy = [(name, f"{seconds:.2f}") for name, seconds in last["time_in_tasks_s"].items()]
    title = f"Time inside its {last['tasks']} tasks, all workers together"
    print_table(title, ("task", "seconds"), busy, numeric=("seconds",))
    if "memory" in result:
        small, large = result["memory"]["peak_worker_mib"]
        few, many = result["memory"]["documents"]
        console.print(
            f"peak of a worker: {small:.0f} MiB at {few:,} documents, {large:.0f} MiB at {many:,}: "
            f"x {result['memory']['ratio']:.2f}"
        )
        fixed = result["fixed"]
        console.print(
            f"about {fixed['fixed_s']:.1f} s are spent however small the corpus; beyond that "
            f"{fixed['marginal_documents_per_s']:,.0f} documents a second"
        )


def _show_embedding(result: dict[str, Any]) -> None:
    console.print(f"{result['machine']['cpu']}, {result['machine']['cpus']} CPUs; {result['embedder']}")
    rows = [
        (
            r["workers"],
            r["chunks"],
            f"{r['pool_chunks_per_s']:.0f}",
            f"{r['processes_chunks_per_s']:.0f}",
            f"{r['ratio']:.2f}",
        )
        for r in result["levels"]
    ]
    names = ("workers", "chunks", "pool/s", "processes/s", "ratio")
    print_table("Embedding: pool of actors against independent processes", names, rows, numeric=names)
