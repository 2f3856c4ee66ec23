"""plinth bench index: speed and recall of searching a large index on one core."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cluster.cli.output import Stages, console, print_facts, print_json
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home


def register(group: Commands) -> None:
    """Declare ``plinth bench index``: which texts, how many chunks and queries."""
    parser = add_verb(
        group, "index", index, "Latency and recall of searching an index of many chunks, on one core.",
        "Chunks are made from the texts of --data (a folder, or a .jsonl file with a text field) by seeded shuffles\n"
        "of their sentences. Needs no running service.\n\n"
        "Example: plinth bench index --data ../shared/data/pretrain_docs_otel/docs.jsonl --json",
    )  # fmt: skip
    parser.add_argument("--data", help="texts to make chunks from (default: the standard library's documentation)")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)


def index(args: argparse.Namespace) -> int:
    """Print latency and recall as a list of facts, or with ``--json`` as one object; exit code 0.

    Binds the whole process to one core, for good.

    Raises:
        UsageError: fewer than 1000 chunks or 10 queries, or there is no such ``--data``.
    """
    from data_jobs.benchmarks.searching import measure
    from data_jobs.retrieval.embedder import load_embedder

    if args.chunks < 1000 or args.queries < 10:
        raise UsageError("--chunks must be 1000 or more, --queries 10 or more")
    config = config_from(args, Home.from_env())
    stages = Stages(show=not args.json)
    with stages.run("bench index"):
        stages.stage("read texts")
        texts = _texts(args.data)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, whatever libraries would start
        embedder = load_embedder(config.index, threads=1)
        result = measure(texts, embedder, config.retrieval, args.chunks, args.queries, lambda name: stages.stage(name))
    if args.json:
        print_json(result)
        return ExitCode.DONE
    console.print(f"{result['chunks']:,} chunks, one core", style="bold")
    print_facts(result.items())
    return ExitCode.DONE


def _texts(data: str | None) -> list[str]:
    from data_jobs.sources.files import list_files
    from data_jobs.sources.pydocs.documents import read_pydocs
    from data_jobs.sources.records import read_records

    if data is None:
        return [document.text for document in read_pydocs()]
    path = Path(data).expanduser()
    if not path.exists():
        raise UsageError(f"--data: there is no {path}")
    root, limit = (path, 256 << 20) if path.is_dir() else (path.parent, 256 << 20)
    items = [item for item in list_files(root, limit)[0] if path.is_dir() or item.path == path.name]
    records = (record for item in items for record in read_records(root, item, "bench", (limit, 1 << 24)))
    return [record.text for record in records if hasattr(record, "text")]
