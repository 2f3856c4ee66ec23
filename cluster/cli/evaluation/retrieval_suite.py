"""plinth eval run --suite retrieval: search quality on a folder in BEIR form, without a running service."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.cli.output import Stages, print_json, print_table
from cluster.core.config import PlinthConfig
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home

NAME = "retrieval"


def run(data: str | None, config: PlinthConfig, as_json: bool) -> int:
    """Score each list of the search and the fused one; vectors are kept in the cache for the next run."""
    from data_jobs.retrieval.embedder import load_embedder
    from train_jobs.evaluation.beir import MEASURES, load_beir, run_retrieval

    if not data:
        raise UsageError("--suite retrieval needs --data: a folder with corpus.jsonl, queries.jsonl and qrels.tsv")
    stages, at = Stages(show=not as_json), ("", 0)

    def on_step(stage: str, done: int, total: int) -> None:
        nonlocal at
        if at[0] != stage:
            stages.stage(stage, total, "chunks" if stage == "embed" else "queries")
            at = (stage, 0)
        stages.advance(done - at[1])
        at = (stage, done)

    loaded = load_beir(Path(data).expanduser())
    with stages.run("suite retrieval"):
        embedder = load_embedder(config.index, threads=len(os.sched_getaffinity(0)))
        result = run_retrieval(loaded, config, embedder, Home.from_env().folder("cache") / "vectors", on_step)
    if as_json:
        print_json(result.to_dict())
        return ExitCode.DONE
    title = f"{result.data}: {result.documents:,} documents, {result.chunks:,} chunks, {result.queries:,} queries"
    print_table(f"{title} ({result.embedder})", ("search", *MEASURES), result.rows())
    print_table("", ("latency ms", ""), [(name, f"{value:.1f}") for name, value in result.latency_ms.items()])
    return ExitCode.DONE
