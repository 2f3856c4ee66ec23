"""plinth index: build, list, roll back, search."""

from __future__ import annotations

import argparse

from cluster.cli.index import watch as index_watch
from cluster.cli.jobs import job_verb
from cluster.cli.output import console, plain, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import EnvironmentFaultError, ExitCode
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import Store


def register(commands: Commands) -> None:
    """Declare ``plinth index`` with all its verbs; ``build`` is a job."""
    from data_jobs.commands import JOBS

    group = add_group(commands, "index", VERBS["index"].summary)
    job_verb(group, "data_jobs", next(job for job in JOBS if job.name == "index"), print_index, verb="build")
    index_watch.register(group)
    add_verb(group, "list", list_indexes, "List index versions; the live one is marked.")
    add_verb(group, "rollback", rollback, "Make the index that was live before the current one live again.")
    parser = add_verb(group, "search", search, "Search the live index through the running service.")
    parser.add_argument("query", nargs="+")
    parser.add_argument("-k", type=int, default=5, help="how many passages (default 5)")


def print_index(index: Manifest) -> None:
    """A built index: the datasets it is made from, and its counts."""
    console.print(f"[bold]{index.name}@{index.version}[/bold] from {', '.join(index.inputs.values())}")
    rows = [(name, f"{value:,}" if isinstance(value, int) else plain(value)) for name, value in index.counts.items()]
    print_table("", ("", "count"), rows, numeric=("count",))


def list_indexes(args: argparse.Namespace) -> int:
    """Print the versions of the configured index with time, datasets and number of chunks; exit code 0."""
    home = Home.from_env()
    name = config_from(args, home).index.name
    store = Store(home.store_uri)
    live = store.alias("indexes", name, "live")
    versions = store.versions("indexes", name)
    if args.json:
        print_json([{"version": m.version, "live": m.version == live, "created_at": m.created_at, "inputs": m.inputs,
                     "counts": m.counts} for m in versions])  # fmt: skip
    else:
        rows = [("*" if m.version == live else "", m.version, m.created_at, ", ".join(m.inputs.values()),
                 m.counts.get("chunks", "")) for m in versions]  # fmt: skip
        print_table(f"Index {name}", ("live", "version", "built", "from", "chunks"), rows, numeric=("chunks",))
    return ExitCode.DONE


def rollback(args: argparse.Namespace) -> int:
    """Print which version was live and which is now; exit code 0.

    Raises:
        BadInputError: there is no earlier version to go back to.
    """
    home = Home.from_env()
    name = config_from(args, home).index.name
    left, now = Store(home.store_uri).roll_back_alias("indexes", name, "live")
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
        body = {"query": " ".join(args.query), "k": args.k}
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
