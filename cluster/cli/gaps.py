"""plinth gaps: what was asked and the documents did not answer, who should write it, and what answers it now."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cluster.cli.output import console, print_facts, print_json, print_table, printable
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode
from cluster.core.home import Home

if TYPE_CHECKING:
    from serve_apps.gaps.clusters import Cluster

DETAILS = """\
Refused questions are kept without personal data and without who asked: askers are only told apart. Questions that ask
the same are one gap. Where a newer index is live than the one that had no answer, and the service is up, each is asked
again, and the list says what is answered now. Clients that send "store": false leave no trace."""
MOST_ASKED_AGAIN = 50


def register(commands: Commands) -> None:
    """Declare ``plinth gaps`` with its verbs."""
    group = add_group(commands, "gaps", VERBS["gaps"].summary)
    parser = add_verb(group, "list", list_gaps, "List the gaps, most often asked first.", DETAILS)
    parser.add_argument("--open", action="store_true", help="only those that no live index answers")
    parser = add_verb(group, "show", show, "Show one gap: its questions, nearest document, owner.")
    parser.add_argument("gap", help="the id of a gap (see `plinth gaps list`)")
    parser = add_verb(group, "clear", clear, "Forget gaps: one, those that are answered now, or all.")
    parser.add_argument("gap", nargs="?", default="", help="the id of a gap; without it all")
    parser.add_argument("--answered", action="store_true", help="those that the live index answers")


def list_gaps(args: argparse.Namespace) -> int:
    """Print the gaps; exit code 0."""
    found = [one for one in _clusters(args) if not (args.open and one.answered_by)]
    if args.json:
        print_json({"gaps": [vars(one) for one in found]})
    elif not found:
        console.print("no gaps: no question went without an answer")
    else:
        rows = [
            (one.id, str(one.times), str(one.askers), one.question, one.document,
             one.owner, one.answered_by and f"answered by {one.answered_by}") for one in found
        ]  # fmt: skip
        columns = ("gap", "asked", "askers", "question", "nearest", "owner", "state")
        print_table("Unanswered questions", columns, rows, numeric=("asked", "askers"))
    return ExitCode.DONE


def show(args: argparse.Namespace) -> int:
    """Print one gap; exit code 0.

    Raises:
        BadInputError: there is none with this id.
    """
    one = _one(args)
    if args.json:
        print_json(vars(one))
        return ExitCode.DONE
    print_facts(
        [
            ("question", printable(one.question)),
            ("asked", f"{one.times} times by {one.askers}, {one.days[0]} to {one.days[1]}"),
            ("not found", printable(", ".join(one.not_found)) or "-"),
            ("nearest", printable(one.document) or "-"),
            ("source", printable(one.source) or "-"),
            ("collection", printable(one.collection) or "-"),
            ("owner", printable(one.owner) or "-"),
            ("answered by", one.answered_by or "-"),
        ]
    )
    for question in one.questions:
        console.print(f"  {printable(question)}", soft_wrap=True, markup=False)
    return ExitCode.DONE


def clear(args: argparse.Namespace) -> int:
    """Forget gaps and say how many questions went; exit code 0.

    Raises:
        BadInputError: there is no gap with this id.
    """
    from serve_apps.gaps.book import GapBook

    book = GapBook.of(Home.from_env())
    if args.gap:
        removed = book.remove(_one(args).questions)
    elif args.answered:
        removed = book.remove({q for one in _clusters(args) if one.answered_by for q in one.questions})
    else:
        removed = book.remove()
    if args.json:
        print_json({"removed": removed})
    else:
        console.print(f"{removed} questions forgotten")
    return ExitCode.DONE


def _one(args: argparse.Namespace) -> Cluster:
    found = _clusters(args)
    for one in found:
        if one.id == args.gap:
            return one
    raise BadInputError(f"there is no gap {args.gap!r}: see `plinth gaps list`")


def _clusters(args: argparse.Namespace) -> list[Cluster]:
    """The gaps, with what the running service answers by now."""
    from serve_apps.gaps.book import GapBook
    from serve_apps.gaps.clusters import answered, clusters

    home = Home.from_env()
    found = clusters(GapBook.of(home).read())
    if not found:
        return found
    from cluster.cli.ask import service_url

    base_url = service_url(config_from(args, home))
    live = _live(base_url)
    first = answered(found[:MOST_ASKED_AGAIN], live, lambda *asked: _answers(base_url, *asked))
    return [*first, *found[MOST_ASKED_AGAIN:]]


def _live(base_url: str) -> dict[str, str]:
    """By collection the version of its live index, that of the default one also under ""; empty where the service does
    not say."""
    from cluster.loopback import api_key, get

    try:
        reply = get(f"{base_url}/v1/collections", 5, api_key())
        cards = reply.json()["data"] if reply.status == 200 else []
        names = [(name, card) for card in cards for name in (card["id"], *[""] * bool(card["default"]))]
        return {str(name): str(card["index_version"]) for name, card in names}
    except (OSError, ValueError, KeyError):
        return {}


def _answers(base_url: str, question: str, collection: str) -> bool:
    """Whether a collection answers a question now; the service keeps nothing of it."""
    import httpx

    from cluster.loopback import client

    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": question}], "store": False}
    if collection:
        body["plinth"] = {"collection": collection}
    try:
        with client(30) as service:
            reply = service.post(f"{base_url}/v1/chat/completions", json=body)
            return reply.status_code == 200 and bool(reply.json()["plinth"]["grounded"])
    except (httpx.TransportError, ValueError, KeyError):
        return False
