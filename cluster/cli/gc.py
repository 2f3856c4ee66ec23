"""plinth gc: list and remove versions that nothing refers to, and what killed runs left."""

from __future__ import annotations

import argparse
from collections import Counter

from cluster.cli.output import Stages, console, human_bytes, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_verb
from cluster.core.errors import ExitCode
from cluster.core.home import Home
from cluster.core.storage import Store

DETAILS = """\
Nothing goes that an alias points to (live, champion, candidate, previous, latest), that is pinned, that is among the
newest --keep of its name, or that one of these was made of. A version that holds a forgotten document is not kept for
being new. No job may be running; new ones wait.
This machine's copies of what is gone (PLINTH_HOME/cache) go too.

  plinth gc --dry-run              what would go, with sizes, and what stays and why
  plinth gc --keep 0               only what is referred to stays
  plinth gc --pin notes@0f3c…      keep a version whatever happens (--unpin takes that back)"""


def register(commands: Commands) -> None:
    """Declare ``plinth gc``: what to keep, what to pin, and whether only to look."""
    parser = add_verb(commands, "gc", collect_garbage, VERBS["gc"].summary, DETAILS)
    parser.add_argument("--dry-run", action="store_true", help="only list what would go")
    parser.add_argument(
        "--keep", type=int, default=2, metavar="N", help="newest versions of a name to keep (default 2)"
    )
    parser.add_argument(
        "--stale-hours", type=float, default=24.0, metavar="H",
        help="unfinished runs may be resumed this long after their last write (default 24)",
    )  # fmt: skip
    parser.add_argument("--pin", metavar="NAME@VERSION", help="keep this version until it is unpinned")
    parser.add_argument("--unpin", metavar="NAME@VERSION", help="let it go when nothing else needs it")


def collect_garbage(args: argparse.Namespace) -> int:
    """Print what was removed, with ``--dry-run`` what would be and why the rest stays; exit code 0.

    With ``--pin`` or ``--unpin`` only that is done and said.

    Raises:
        BadInputError: there is no version to pin or unpin by that name.
    """
    from data_jobs.lineage.garbage import collect, find_garbage, forget_copies

    home = Home.from_env()
    store = Store(home.store_uri)
    if args.pin or args.unpin:
        return _pin(store, args)
    if args.dry_run:
        found = find_garbage(store, args.keep, args.stale_hours)
    else:
        stages = Stages(show=not args.json)
        with stages.run("gc"):
            stages.stage("remove")
            found = collect(store, args.keep, args.stale_hours, lambda _: stages.advance())
            forget_copies(store, home.root / "cache")
            stages.note(f"{len(found.items)} removed, {human_bytes(found.bytes)}")
    if args.json:
        print_json({"dry_run": args.dry_run, "bytes": found.bytes, "items": [item.__dict__ for item in found.items],
                    "kept": found.kept})  # fmt: skip
        return ExitCode.DONE
    rows = [(i.what, i.path, human_bytes(i.bytes), i.created_at[:16].replace("T", " "), i.why) for i in found.items]
    title = "Would be removed" if args.dry_run else "Removed"
    if rows:
        print_table(title, ("kind", "path", "size", "made", "why"), rows, numeric=("size",))
    if args.dry_run:
        print_table("Stays", ("version", "why"), sorted(found.kept.items()))
    by_kind = Counter(item.what for item in found.items)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(by_kind.items())) or "nothing"
    console.print(f"{title}: {kinds}; {human_bytes(found.bytes)}. {len(found.kept)} versions stay.")
    return ExitCode.DONE


def _pin(store: Store, args: argparse.Namespace) -> int:
    from data_jobs.lineage.garbage import PIN
    from data_jobs.lineage.graph import Inventory

    manifest = Inventory.read(store).resolve(args.pin or args.unpin)
    alias = f"{PIN}{manifest.version}"
    if args.pin:
        store.move_alias(manifest.kind, manifest.name, alias, manifest.version, why="pinned")
    else:
        store.remove_alias(manifest.kind, manifest.name, alias)
    name = f"{manifest.kind}/{manifest.name}@{manifest.version}"
    if args.json:
        print_json({"version": name, "pinned": bool(args.pin)})
    else:
        console.print(f"{name} is {'pinned: gc keeps it' if args.pin else 'no longer pinned'}.")
    return ExitCode.DONE
