"""plinth eval: how good the answers are, with intervals; and how good the parts of the data plane are."""

from __future__ import annotations

import argparse

from cluster.cli.evaluation import retrieval_suite
from cluster.cli.evaluation.data_suites import DATA_SUITES, run_data_suite
from cluster.cli.output import Stages, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store


def register(commands: Commands) -> None:
    group = add_group(commands, "eval", VERBS["eval"].summary)
    parser = add_verb(
        group, "run", run, "Ask a suite of questions and count what is right, cited, refused (95 % intervals).",
        "Suites: stdlib (how-to questions about the standard library; needs the pydocs index), or a path of a .jsonl\n"
        "file with id, question, accepted, answerable. `tune` questions were used to choose settings; trust `report`.\n"
        "Suites that score a part of the data plane on labelled data, without a running service:\n"
        "  pii        the redactor, on .jsonl rows with text and spans[type, start, end]\n"
        "  dedup      near duplicates, on a folder with docs.jsonl and pairs.tsv\n"
        "  retrieval  BM25, dense, fused search, on a folder in BEIR form (corpus.jsonl queries.jsonl qrels.tsv)\n\n"
        "example: plinth eval run --suite pii --data ../shared/data/pii_presidio_synth",
    )  # fmt: skip
    parser.add_argument(
        "--suite", default="stdlib", help="stdlib (default), a .jsonl file, or a suite of the data plane"
    )
    parser.add_argument("--data", help="labelled data of a suite of the data plane")
    parser.add_argument("--model", default="quote", help="tier to ask (default quote)")
    parser.add_argument("--misses", action="store_true", help="list the questions that went wrong")


def run(args: argparse.Namespace) -> int:
    if args.suite == retrieval_suite.NAME:
        return retrieval_suite.run(args.data, config_from(args, Home.from_env()), args.json)
    if args.suite in DATA_SUITES:
        return run_data_suite(args.suite, args.data, config_from(args, Home.from_env()), args.json)
    from cluster.cli.ask import service_url
    from train_jobs.evaluation.answerer import HttpAnswerer
    from train_jobs.evaluation.run import run_suite

    home = Home.from_env()
    config, store = config_from(args, home), Store(home.store_uri)
    stages = Stages(show=not args.json)
    answerer = HttpAnswerer(service_url(config), model=args.model)
    with stages.run(f"suite {args.suite}"):
        started = False

        def on_question(done: int, total: int) -> None:
            nonlocal started
            if not started:
                stages.stage("asking", total, "questions")
                started = True
            stages.advance()

        result = run_suite(args.suite, answerer, aliases=_aliases(store, config.index.name), on_question=on_question)
    if args.json:
        print_json(result.to_dict())
        return ExitCode.DONE
    print_table(f"{result.suite} on {result.answerer} (index {result.index_version})",
                ("split", "measure", "rate", "95 % interval", "hits"), result.rows(),
                numeric=("rate", "hits"))  # fmt: skip
    print_table("", ("latency ms", ""), [(name, f"{value:.1f}") for name, value in result.latency_ms.items()])
    if args.misses:
        rows = [(q.id, q.question, ", ".join(q.cited[:5]) or q.reason, ", ".join(q.accepted[:3]))
                for q in result.questions if (not q.cited_hit if q.group == "answerable" else q.grounded)]  # fmt: skip
        print_table("Misses", ("id", "question", "cited", "accepted"), rows)
    return ExitCode.DONE


def _aliases(store: Store, index_name: str) -> dict[str, tuple[str, ...]]:
    """Other names of each document of the live index's dataset: a re-export is the same thing."""
    version = store.alias("indexes", index_name, "live")
    if version is None:
        raise BadInputError("no index is live: run `plinth quickstart` first")
    dataset = store.manifest("indexes", index_name, version).inputs.get("dataset", "")
    if not dataset:
        return {}  # made from a watched folder: files have no other names
    name, _, dataset_version = dataset.partition("@")
    from data_jobs.corpus.dataset import read_documents

    documents = read_documents(store, store.manifest("datasets", name, dataset_version))
    return {document.id: document.aliases for document in documents}
