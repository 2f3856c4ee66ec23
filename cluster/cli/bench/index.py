"""plinth bench index: searching a large index on one core; embedding beside another version of the project."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cluster
from cluster.cli.output import Stages, console, print_facts, print_json
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home

if TYPE_CHECKING:
    from cluster.core.config import PlinthConfig


def register(group: Commands) -> None:
    """Declare ``plinth bench index``: which texts, how many chunks and queries, or which other version."""
    parser = add_verb(
        group, "index", index, "Latency, recall and memory of a large index on one core; or embedding, old and new.",
        "Chunks are made from the texts of --data (a folder, or a .jsonl file with a text field) by seeded shuffles\n"
        "of their sentences. Needs no running service.\n\n"
        "With --against nothing is searched: this version and that of the folder CHECKOUT cut and embed the same\n"
        "texts in turns, in one run, a thread each; what a MB of them costs each, and the ratio. The other runs with\n"
        "CHECKOUT/.venv/bin/python where that is there, else with this Python.\n\n"
        "Example: plinth bench index --data ../shared/data/pretrain_docs_otel/docs.jsonl --chunks 200000 --json\n"
        "         plinth bench index --against ../plinth-before --mb 0.3",
    )  # fmt: skip
    parser.add_argument("--data", help="texts to make chunks from (default: the standard library's documentation)")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--against", metavar="CHECKOUT", help="folder of another version to embed beside")
    parser.add_argument("--mb", type=float, default=0.3, help="with --against: MB of text to embed (default 0.3)")


def index(args: argparse.Namespace) -> int:
    """Print latency, recall and memory, or what embedding costs, as facts or (``--json``) one object; exit code 0.

    Binds the whole process to one core, for good.

    Raises:
        UsageError: fewer than 1000 chunks or 10 queries, no ``--mb``, or there is no such ``--data`` or ``--against``.
        EnvironmentFaultError: the code of ``--against`` does not run.
    """
    if args.chunks < 1000 or args.queries < 10 or not args.mb > 0:
        raise UsageError("--chunks must be 1000 or more, --queries 10 or more, --mb above 0")
    config = config_from(args, Home.from_env())
    stages = Stages(show=not args.json)
    with stages.run("bench index"):
        stages.stage("read texts")
        texts = _texts(args.data)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, whatever libraries would start
        result = _against(args, texts, config, stages) if args.against else _searching(args, texts, config, stages)
    if args.json:
        print_json(result)
        return ExitCode.DONE
    title = f"{result['mb']} MB, one core" if args.against else f"{result['chunks']:,} chunks, one core"
    console.print(title, style="bold")
    print_facts(result.items())
    return ExitCode.DONE


def _searching(args: argparse.Namespace, texts: list[str], config: PlinthConfig, stages: Stages) -> dict[str, Any]:
    from data_jobs.benchmarks.searching import measure
    from data_jobs.retrieval.embedder import load_embedder

    embedder = load_embedder(config.index, threads=1)
    return measure(texts, embedder, config.retrieval, args.chunks, args.queries, stages.stage)


def _against(args: argparse.Namespace, texts: list[str], config: PlinthConfig, stages: Stages) -> dict[str, Any]:
    from data_jobs.benchmarks.two_versions import compare

    here, against = Path(cluster.__file__).resolve().parents[1], Path(args.against).expanduser().resolve()
    if not (against / "data_jobs").is_dir():
        raise UsageError(f"--against: {against} is no checkout of this project (it has no folder data_jobs)")

    def on_batch(done: int, total: int) -> None:
        if done == 0:
            stages.stage("embed", total, "batches of text")
        else:
            stages.advance()

    settings = config.index.model_dump(exclude_defaults=True)
    return compare(texts, here, against, args.mb, settings, on_batch)


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
