"""plinth data forget: take a document out of everything, with a signed receipt; check such a receipt."""

from __future__ import annotations

import argparse
import getpass
import socket
import sys
from typing import Any

from rich.markup import escape

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

DETAILS = """\
A tombstone keeps it out from now on: indexes stop serving it within 2 seconds, the next version of a dataset does not
hold it, although its file may still be in the folder or come back under another name. Models that saw it are marked
(`plinth models list`). Published versions are immutable: `plinth gc` removes them once nothing needs them.

  plinth data forget --document notes/ann.md --why "erasure request 17"
  plinth data forget --where 'source=notes/ann/'        a folder and whatever will be put into it
  plinth data forget --verify 00000001-9f3a2b1c         is the receipt genuine, does it still hold?"""


def register(group: Commands) -> None:
    """Declare ``plinth data forget``: what to forget and why, or which receipt to check."""
    parser = add_verb(
        group, "forget", forget, "Forget a document: everywhere, for good, with a signed receipt.", DETAILS
    )
    parser.add_argument("--document", default="", metavar="ID", help="id of the document, or another name of it")
    parser.add_argument("--where", default="", metavar="FIELD=VALUE", help="source, source_name or document; * allowed")
    parser.add_argument("--source-name", default="", metavar="NAME", help="only the --document of this source")
    parser.add_argument("--why", default="", metavar="TEXT", help="the reason, kept in tombstone and receipt")
    parser.add_argument("--yes", action="store_true", help="do not ask (nobody is asked without a terminal)")
    parser.add_argument("--even-unknown", action="store_true", help="also if nothing holds it yet: keep it out")
    parser.add_argument("--verify", default="", metavar="RECEIPT", help="check a receipt (file or id)")


def forget(args: argparse.Namespace) -> int:
    """Print the signed receipt, after asking where a person sits at the terminal; exit code 0.

    With ``--verify`` print what the receipt is worth; exit code 4 where its tombstone is gone or a document came back.

    Raises:
        UsageError: not exactly one of document, where and verify was given, a bad condition, or the person said no.
        BadInputError: nothing holds such a document, and ``--even-unknown`` was not given.
        EnvironmentFaultError: the store cannot be written.
    """
    from actors.registry.models import Registry
    from cluster.cli.audit_log import erase_forgotten
    from cluster.cli.feedback import erase_feedback
    from data_jobs.governance.tombstones import Where
    from data_jobs.lineage import receipts

    home = Home.from_env()
    store = Store(home.store_uri)
    if sum(map(bool, (args.document, args.where, args.verify))) != 1:
        raise UsageError("give one of --document ID, --where FIELD=VALUE, --verify RECEIPT")
    if args.verify:
        return _verify(store, home, args)
    where = Where.parse(args.where) if args.where else None
    request = receipts.ForgetRequest(args.document, where, args.source_name)
    if not args.yes and not args.json and sys.stdin.isatty():
        answer = console.input(f"Forget [bold]{escape(str(request))}[/bold] everywhere? This is not undone. [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was forgotten")
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    receipt = receipts.forget(
        store, home, request, by=by, why=args.why, unknown=args.even_unknown,
        audit=lambda stones: {
            **erase_forgotten(home, stones, str(request), by, args.why),
            "feedback_erased": erase_feedback(home, stones=stones),
        },
    )  # fmt: skip
    registry = Registry(store)
    for row in receipt["models"]:
        name, _, version = row["artefact"].partition("@")
        registry.taint(name, version, f"saw {request}, forgotten since: receipt {receipt['receipt']}")
    print_json(receipt) if args.json else _print_receipt(receipt)
    return ExitCode.DONE


def _print_receipt(receipt: dict[str, Any]) -> None:
    rows = [("dataset", f["dataset"], f"{f['id']} ({f['as']})", f["action"]) for f in receipt["found"]]
    rows += [("index", i["artefact"], f"{i['chunks']} chunks", i["action"]) for i in receipt["indexes"]]
    rows += [("cache", c["file"], "", c["action"]) for c in receipt["cache"]]
    rows += [(r["kind"], r["artefact"], ", ".join(r["aliases"]), r["action"]) for r in receipt["models"]]
    rows += [(r["kind"], r["artefact"], ", ".join(r["aliases"]), r["action"]) for r in receipt["others"]]
    if erased := receipt["audit"].get("samples_erased"):
        rows.append(("audit log", "sampled answers", str(erased), "keys destroyed"))
    if erased := receipt["audit"].get("feedback_erased"):
        rows.append(("feedback", "on answers made of it", str(erased), "removed"))
    print_table(f"Receipt {receipt['receipt']}", ("kind", "where", "what", "done"), rows)
    if receipt["near_copies"]:
        near = [(n["dataset"], n["document"], n["kept"]) for n in receipt["near_copies"]]
        print_table("Not forgotten: documents much like it", ("dataset", "document", "left out for"), near)
    console.print(f"Signed with {receipt['signature']['algorithm']} key {receipt['signature']['key']}. Check it with")
    console.print(f"  plinth data forget --verify {receipt['receipt']}")


def _verify(store: Store, home: Home, args: argparse.Namespace) -> int:
    from data_jobs.lineage import receipts

    found = receipts.verify(store, home, receipts.load(store, args.verify))
    good = found["tombstone"]["stands"] and not found["came_back"]
    if args.json:
        print_json(found)
    else:
        whose = "this installation" if found["signed_by"]["own"] else "another installation on this store"
        stands = "stands" if found["tombstone"]["stands"] else "[red]is gone[/red]"
        console.print(f"Receipt {found['receipt']}: [green]genuine[/green], signed by {whose}; its tombstone {stands}.")
        for row in found["still_in"]:
            back = row["dataset"] in found["came_back"]
            console.print(f"  {row['dataset']}: " + ("[red]came back[/red]" if back else "an older version, immutable"))
    return ExitCode.DONE if good else ExitCode.REFUSED
