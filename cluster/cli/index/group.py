"""plinth index: build, show, roll back, search; the collections and watching are in files of their own."""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.cli.index import collections as index_collections
from cluster.cli.index import watch as index_watch
from cluster.cli.index.collections import collections_of, told
from cluster.cli.jobs import job_verb
from cluster.cli.output import console, plain, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.cli.written import write_down
from cluster.core.entry import config_from
from cluster.core.errors import EnvironmentFaultError, ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, LIVE, Store


def register(commands: Commands) -> None:
    """Declare ``plinth index`` with all its verbs; ``build`` is a job."""
    from data_jobs.commands import JOBS

    group = add_group(commands, "index", VERBS["index"].summary)
    job_verb(group, "data_jobs", next(job for job in JOBS if job.name == "index"), print_built, verb="build")
    index_watch.register(group)
    index_collections.register(group)
    parser = add_verb(
        group, "show", show, "Show an index version: its counts, and what is promised of its answers.",
        "The promise rests on held-out questions that are made of the corpus when the index is built. --plot writes\n"
        "as a PNG how risk and coverage go together, and whether the confidence can be believed. --findings lists the\n"
        "passages that stand in no prompt, as an injection, hidden characters or control tokens of a chat were found\n"
        "in them when they were indexed. They may still be quoted.",
    )  # fmt: skip
    parser.add_argument("version", nargs="?", default="", help="default: the live one")
    _of_collection(parser)
    parser.add_argument("--plot", metavar="FILE.png", help="where to write the picture")
    parser.add_argument("--findings", action="store_true", help="list the passages kept out of prompts, and why")
    _of_collection(
        add_verb(group, "rollback", rollback, "Make the index that was live before the current one live again.")
    )
    parser = add_verb(group, "search", search, "Search the live index through the running service.")
    parser.add_argument("query", nargs="+")
    parser.add_argument("-k", type=int, default=5, help="how many passages (default 5)")
    _of_collection(parser)


def _of_collection(parser: argparse.ArgumentParser) -> None:
    from data_jobs.commands import add_collection_argument

    add_collection_argument(parser, "which collection (default: the default one, see `plinth index list`)")


def print_built(index: Manifest) -> None:
    """An index just built, and which collection answers from it."""
    print_index(index)
    _, collections = collections_of(argparse.Namespace(preset=None, overrides=[]))  # as the service is configured
    console.print(told(collections, index), soft_wrap=True)


def print_index(index: Manifest) -> None:
    """A built index: the datasets it is made from, and its counts."""
    console.print(f"[bold]{index.name}@{index.version}[/bold] from {', '.join(index.inputs.values())}")
    rows = [(name, f"{value:,}" if isinstance(value, int) else plain(value)) for name, value in index.counts.items()]
    print_table("", ("", "count"), rows, numeric=("count",))


def show(args: argparse.Namespace) -> int:
    """Print a version's counts, threshold, promised risk, coverage and evidence; exit code 0.

    Raises:
        BadInputError: there is no such version, or none is live.
        UsageError: a picture is wanted of an index without evidence.
    """
    from data_jobs.indexing.adapted import ADAPTATION
    from data_jobs.indexing.adapted import told as adapted
    from data_jobs.retrieval.risk import PLOT_FILE, read_evidence

    home = Home.from_env()
    store, collections = collections_of(args)
    max_risk = config_from(args, home).answer.max_risk
    name = (args.collection or collections.default) if args.version else collections.find(args.collection)
    version = args.version or LIVE
    index = store.manifest(INDEXES, name, version)
    version = index.version
    folder = store.fetch(index, home.folder("cache"))
    evidence = read_evidence(folder)
    if args.plot:
        if evidence is None:
            raise UsageError(f"{name}@{version} was built without a reader: there is no evidence to draw")
        Path(args.plot).write_bytes((folder / PLOT_FILE).read_bytes())
    told = evidence.to_dict(max_risk) if evidence else None
    if args.findings:
        return _show_findings(store, index, args.json)
    if args.json:
        shown = {key: value for key, value in told.items() if key != "judged"} if told else None
        learnt = index.inputs.get(ADAPTATION)
        print_json({"index": name, "version": version, "counts": index.counts, "adaptation": learnt, "risk": shown})
        return ExitCode.DONE
    print_index(index)
    if learnt := adapted(index):
        console.print(f"Adapted: {learnt}", markup=False, soft_wrap=True)
    if told is None:
        console.print("Promised: nothing: it was built without a reader, or holds no prose for one to read.")
        return ExitCode.DONE
    console.print(f"Promised: {told['evidence']}")
    point = told["promise"]
    kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in told["kinds"].items())
    rows = [
        ("threshold", f"{point['threshold']:.2f}" if point else "careful"),
        ("promised risk", f"{max_risk:.0%}" if point else "none"),
        ("upper bound", f"{point['bound']:.1%}" if point else "-"),
        ("coverage", f"{point['coverage']:.0%}" if point else "-"),
        ("calibration error", f"{told['ece']:.3f}"),
        ("held-out questions", f"{told['questions']} ({kinds})"),
        ("gathered on", told["carried_from"] or "this version"),
    ]
    print_table("Risk", ("", ""), rows)
    return ExitCode.DONE


def _show_findings(store: Store, index: Manifest, as_json: bool) -> int:
    """Print the passages that no prompt may hold, with what was found in each; exit code 0."""
    from data_jobs.indexing.update_index import kept_from_prompts
    from data_jobs.safety.passages import told

    chunks = kept_from_prompts(store, index)
    if as_json:
        print_json([
            {"document": one.document, "chunk": one.id, "span": [one.start, one.end], "findings": list(one.findings)}
            for one in chunks
        ])  # fmt: skip
        return ExitCode.DONE
    rows = [(one.document, f"{one.start}-{one.end}", finding, told(finding)[1])
            for one in chunks for finding in one.findings]  # fmt: skip
    print_table(f"Kept out of prompts: {index.name}@{index.version}", ("document", "span", "finding", "why"), rows)
    counts = index.counts
    if unscanned := counts.get("not_scanned", 0) if "kept_from_prompts" in counts else counts.get("chunks", 0):
        console.print(f"{unscanned} chunks were indexed before there was a scan: they are scanned when they are found.")
    return ExitCode.DONE


def rollback(args: argparse.Namespace) -> int:
    """Print which version was live and which is now; exit code 0.

    Raises:
        BadInputError: there is no earlier version to go back to.
    """
    store, collections = collections_of(args)
    name = collections.find(args.collection)
    left, now = store.roll_back_alias(INDEXES, name, LIVE)
    write_down(args, "index_rolled_back", collection=name, before=left, now=now)
    if args.json:
        print_json({"index": name, "from": left, "live": now})
    else:
        console.print(f"Index {name}: {left} → [bold]{now}[/bold] is live again.")
    return ExitCode.DONE


def search(args: argparse.Namespace) -> int:
    """Print the passages found, the best first, with scores and the first 100 characters; exit code 0.

    Raises:
        EnvironmentFaultError: the service cannot be reached, or answers with an error.
    """
    import httpx

    from cluster.cli.ask import service_url
    from cluster.loopback import client

    base_url = service_url(config_from(args, Home.from_env()))
    try:
        body = {"query": " ".join(args.query), "k": args.k, "plinth": {"collection": args.collection or None}}
        with client(30) as service:
            reply = service.post(f"{base_url}/v1/search", json=body)
    except httpx.TransportError as error:
        raise EnvironmentFaultError(f"no answer from {base_url} ({error}); start it with `plinth up`") from error
    if reply.status_code != 200:
        raise EnvironmentFaultError(f"the service answered {reply.status_code}: {reply.json()['error']['message']}")
    found = reply.json()
    if args.json:
        print_json(found)
        return ExitCode.DONE
    rows = [
        (i, f"{p['score']:.3f}", p["document"], " ".join(p["text"].split())[:100])
        for i, p in enumerate(found["data"], 1)
    ]
    print_table("", ("", "score", "document", "text"), rows, numeric=("score",))
    return ExitCode.DONE
