"""plinth index list, use, remove: the collections, and which of them answers by default."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.cli.output import console, human_bytes, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.cli.written import write_down
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode
from cluster.core.home import Home
from cluster.core.records import Manifest
from cluster.core.storage import INDEXES, Collections, Store


def register(group: Commands) -> None:
    """Declare ``plinth index list``, ``use`` and ``remove``."""
    parser = add_verb(
        group, "list", list_indexes, "List the collections with the versions of their indexes.",
        "Marked are the version that each collection answers from, and the default collection, which answers requests\n"
        "that name none. Another one is asked for as the model `auto@NAME`.",
    )  # fmt: skip
    parser.add_argument("name", nargs="?", default="", help="only this collection")
    parser = add_verb(group, "use", use, "Make a collection the default: it answers requests that name none.")
    parser.add_argument("name", help="the collection (see `plinth index list`)")
    parser = add_verb(
        group, "remove", remove, "Take a collection out of service and remove its index.",
        "Versions that a model was made of, and pinned ones, stay in the store. The dataset stays too: `plinth index\n"
        "build --dataset` makes the index again. The default cannot be removed while there are others.",
    )  # fmt: skip
    parser.add_argument("name", help="the collection (see `plinth index list`)")


def collections_of(args: argparse.Namespace) -> tuple[Store, Collections]:
    """The store, and the collections in it."""
    home = Home.from_env()
    store = Store(home.store_uri)
    return store, Collections(store, config_from(args, home).index.name)


def list_indexes(args: argparse.Namespace) -> int:
    """Print every collection's versions with time, datasets and number of chunks; exit code 0.

    Raises:
        BadInputError: there is no index of the name given.
    """
    store, collections = collections_of(args)
    names = store.names(INDEXES)
    if args.name and args.name not in names:
        raise BadInputError(f"there is no index {args.name!r}; there are: {', '.join(names) or 'none yet'}")
    rows = [_row(made, collections) for name in ([args.name] if args.name else names)
            for made in store.versions(INDEXES, name)]  # fmt: skip
    if args.json:
        print_json(rows)
        return ExitCode.DONE
    shown = [
        ("*" if row["default"] else "", row["collection"], "*" if row["live"] else "", row["version"],
         row["created_at"], ", ".join(row["inputs"].values()), row["counts"].get("chunks", ""))
        for row in rows
    ]  # fmt: skip
    columns = ("default", "collection", "live", "version", "built", "from", "chunks")
    print_table("Collections", columns, shown, numeric=("chunks",))
    return ExitCode.DONE


def _row(made: Manifest, collections: Collections) -> dict[str, Any]:
    live = made.version == collections.version(made.name)
    return {
        "collection": made.name, "default": live and made.name == collections.default, "version": made.version,
        "live": live, "created_at": made.created_at, "inputs": made.inputs, "counts": made.counts,
    }  # fmt: skip


def use(args: argparse.Namespace) -> int:
    """Print which collection was the default and which is now; exit code 0.

    Raises:
        BadInputError: there is no such collection.
    """
    _, collections = collections_of(args)
    before = collections.use(args.name, why="index use")
    if before != args.name:
        write_down(args, "index_used", collection=args.name, before=before)
    if args.json:
        print_json({"default": args.name, "before": before})
    elif before == args.name:
        console.print(f"[bold]{args.name}[/bold] is the default already.")
    else:
        console.print(default_changed(before, args.name), soft_wrap=True)
    return ExitCode.DONE


def default_changed(before: str, now: str) -> str:
    """What to say when another collection became the default."""
    return (
        f"[bold]{now}[/bold] answers by default now. [bold]{before}[/bold] still answers as `auto@{before}`; "
        f"`plinth index use {before}` makes it the default again."
    )


def told(collections: Collections, index: Manifest) -> str:
    """How the collection that an index was built for is asked."""
    name, default = index.name, collections.default
    if collections.version(name) != index.version:
        return f"Nothing answers from it: it was built for the collection {name} with --no-live."
    if name == default:
        return f"The collection [bold]{name}[/bold] answers from it; it is the default."
    return (
        f"The collection [bold]{name}[/bold] answers from it as `auto@{name}`. The default is still "
        f"[bold]{default}[/bold]: `plinth index use {name}` changes that."
    )


def remove(args: argparse.Namespace) -> int:
    """Print what was removed and what stays; exit code 0.

    Raises:
        BadInputError: there is no such collection, or it is the default and there are others.
        EnvironmentFaultError: a job is writing to the store.
    """
    from data_jobs.lineage.garbage import remove_index

    store, collections = collections_of(args)
    name = collections.find(args.name)
    others = [other for other in collections.names if other != name]
    if name == collections.default and others:
        raise BadInputError(
            f"{name} is the default collection: make another one the default first, for example "
            f"`plinth index use {others[0]}`"
        )
    found = remove_index(store, name)
    write_down(args, "index_removed", collection=name, versions=[item.path for item in found.items])
    if args.json:
        items = [item.__dict__ for item in found.items]
        print_json({"collection": name, "bytes": found.bytes, "items": items, "kept": found.kept})
        return ExitCode.DONE
    versions = f"{len(found.items)} version{'' if len(found.items) == 1 else 's'}"
    console.print(f"[bold]{name}[/bold] answers no more; {versions} removed, {human_bytes(found.bytes)}.")
    for version, why in found.kept.items():
        console.print(f"  {version} stays: {why}", markup=False, soft_wrap=True)
    return ExitCode.DONE
