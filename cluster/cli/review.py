"""plinth review: what a policy with the action `review` found; decide about it, and make training rows of decisions.

What became of them, the heads of the guard, is in ``cluster/cli/heads``.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from actors.review.decisions import DECISIONS, STATES
from cluster.cli.heads import declare_heads
from cluster.cli.out_file import out_file
from cluster.cli.output import console, print_facts, print_json, print_table, printable
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode, UsageError
from cluster.core.home import Home

if TYPE_CHECKING:
    from actors.review.queue import ReviewQueue

LIST = """\
What a rule or head found whose action in `trust.policies` is `review`: the request went on as with `flag`, and its text
waits here, without personal data. Looking and deciding is written into the audit log.

  plinth review list                         what nobody decided yet
  plinth review show 3f0a                    one of them, with its whole text
  plinth review decide 3f0a harmless --note "asks how to end a process"
  plinth review export --out review.jsonl    decisions as rows for `plinth train safety --data`"""
EXPORT = """\
One JSON line each decision, {text, label, set, slice}, as `plinth train safety --data` takes them; set is the month of
the decision, and what is harmless though a guard found it is a look-alike. A head is measured on sets that it has not
seen, so that at least three are needed: put rows of your own beside them (cat mine.jsonl review.jsonl). Unclear ones
are left out. The file is yours alone; no erasure reaches it. What is trained on it must be better than what the guard
uses, or is not used (`plinth review heads`)."""
COLUMNS = ("id", "at", "times", "tenant", "rule", "decision", "text")


def register(commands: Commands) -> None:
    """Declare ``plinth review`` with its verbs."""
    group = add_group(commands, "review", VERBS["review"].summary)
    parser = add_verb(group, "list", list_items, "List what waits for a decision.", LIST)
    parser.add_argument("--state", default="open", choices=STATES, help="default: %(default)s")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="only those with a larger number")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50)")
    parser = add_verb(group, "show", show, "Show one, with its whole text.")
    parser.add_argument("item", help="its id (see `plinth review list`)")
    parser = add_verb(group, "decide", decide, "Decide what it is; the last word counts.")
    parser.add_argument("item", help="its id (see `plinth review list`)")
    parser.add_argument("decision", choices=DECISIONS, help=", ".join(DECISIONS))
    parser.add_argument("--note", default="", metavar="TEXT", help="why, kept with it")
    parser = add_verb(group, "export", export, "Write decisions as rows that train the guard's heads.", EXPORT)
    parser.add_argument("--out", required=True, metavar="FILE", help="a new file, or - for stdout")
    declare_heads(group)


def list_items(args: argparse.Namespace) -> int:
    """Print a page of the queue; exit code 0.

    Raises:
        UsageError: a number is none.
        EnvironmentFaultError: the queue does not answer, or the reading cannot be written down.
    """
    if args.after < 0 or args.limit < 1:
        raise UsageError("--after is 0 or more, --limit 1 or more")
    queue = _queue(args)
    _told(args, "review_read", state=args.state, after=args.after)
    found = queue.page(args.state, args.after, args.limit)
    rows = [item.to_json() for item in found]
    if args.json:
        print_json({"review": rows})
    elif not rows:
        console.print("nothing waits for a decision" if args.state == "open" else "there is nothing")
    else:
        cells = [[str(row[name])[:120] for name in COLUMNS] for row in rows]
        print_table("To be reviewed", COLUMNS, cells, numeric=("times",))
        if len(rows) == args.limit:
            console.print(f"more: --after {found[-1].number}")
    return ExitCode.DONE


def show(args: argparse.Namespace) -> int:
    """Print one item; exit code 0.

    Raises:
        BadInputError: there is none with this id.
        EnvironmentFaultError: the queue does not answer, or the reading cannot be written down.
    """
    found = _queue(args).find(args.item)
    _told(args, "review_read", found.tenant, item=found.id)
    _print(args, found.to_json())
    return ExitCode.DONE


def decide(args: argparse.Namespace) -> int:
    """Decide about one item, and print it; exit code 0.

    Raises:
        BadInputError: there is none with this id.
        EnvironmentFaultError: the queue does not answer, or the decision cannot be written down.
    """
    from actors.audit.events import person
    from data_jobs.pii import redact

    queue = _queue(args)
    found = queue.find(args.item)
    _told(args, "review_decided", found.tenant, item=found.id, rule=found.rule, decision=args.decision)
    _print(args, queue.decide(found.id, args.decision, person(), redact(args.note)[0]).to_json())
    return ExitCode.DONE


def export(args: argparse.Namespace) -> int:
    """Write decisions as JSON lines; exit code 0.

    Raises:
        BadInputError: nobody decided anything.
        UsageError: the file is there already.
        EnvironmentFaultError: queue or file do not answer, or the reading cannot be written down.
    """
    from actors.review.queue import labelled_rows

    rows = labelled_rows(list(_queue(args).everything("decided")))
    if not rows:
        raise BadInputError("nobody decided anything yet: see `plinth review list`")
    _told(args, "review_exported", rows=len(rows))
    with out_file(args.out) as out:
        out.writelines(f"{json.dumps(row)}\n" for row in rows)
    if args.out == "-":
        return ExitCode.DONE
    if args.json:
        print_json({"file": args.out, "rows": len(rows)})
    else:
        console.print(f"{len(rows)} rows: {args.out}", soft_wrap=True)
    return ExitCode.DONE


def queue_of(home: Home) -> ReviewQueue:
    """The queue of the installation whose home this is."""
    from actors.ledger.database import ledger_url
    from actors.review.queue import ReviewQueue

    return ReviewQueue.of(home.root, ledger_url(home.root))


def erase_reviews(home: Home, tenant: str) -> int:
    """Remove what is a tenant's from the queue; how many items.

    Raises:
        EnvironmentFaultError: the queue does not answer.
    """
    from actors.ledger.database import ledger_url
    from actors.review.queue import ROOM

    if not ledger_url(home.root) and not (home.root / ROOM).exists():
        return 0  # nothing was ever found here
    return queue_of(home).erase_tenant(tenant)


def _queue(args: argparse.Namespace) -> ReviewQueue:
    """The queue, without what is too old."""
    home = Home.from_env()
    found = queue_of(home)
    found.tidy(config_from(args, home).trust.review.keep_days)
    return found


def _told(args: argparse.Namespace, action: str, tenant: str = "", **details: Any) -> None:
    from actors.audit.events import record_event

    home = Home.from_env()
    record_event(home, config_from(args, home).trust.audit, action, tenant=tenant, **details)


def _print(args: argparse.Namespace, row: dict[str, Any]) -> None:
    if args.json:
        print_json(row)
        return
    names = ("id", "at", "times", "tenant", "collection", "guard", "rule", "version", "policy", "reason", "decision",
             "by", "decided_at", "note")  # fmt: skip
    print_facts([(name.replace("_", " "), printable(str(row[name]))) for name in names if row[name] not in ("", None)])
    console.print(printable(row["text"]), soft_wrap=True, markup=False)
