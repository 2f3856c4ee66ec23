"""plinth feedback: say what an answer was worth; look at what was said, and make a dataset of it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, EnvironmentFaultError, ExitCode, UsageError
from cluster.core.home import Home

if TYPE_CHECKING:
    from actors.feedback.book import FeedbackBook
    from data_jobs.governance.tombstones import Tombstones

SEND = """\
The id stands with every answer (plinth.answer_id; `plinth ask --json`, and under an answer on the page). Only answers
of the key's own tenant can be judged, for trust.feedback.answer_days days. Personal data is taken out before anything
is kept. --consent lets it be used for training; with --question and --answer-text, exactly as they were, it becomes an
example: without consent they are not kept.

  plinth feedback send ans_1f0c --up
  plinth feedback send ans_1f0c --down --correction "Twenty days." --consent
  plinth feedback send ans_1f0c --withdraw"""
EXPORT = """\
Publishes what people agreed to as an artefact, feedback/NAME: rows.jsonl, and preferences.jsonl with the corrections
(for `plinth train preference --data`). Who said it is in neither. Left out is what rests on documents that not
everybody may read: a model would tell everybody.

  plinth feedback export
  plinth feedback export --tenant research --name research"""


def register(commands: Commands) -> None:
    """Declare ``plinth feedback`` with its verbs."""
    group = add_group(commands, "feedback", VERBS["feedback"].summary)
    parser = add_verb(group, "send", send, "Say what an answer was worth.", SEND)
    parser.add_argument("answer", help="the id of an answer (plinth.answer_id)")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--up", dest="rating", action="store_const", const="up", help="it was good")
    way.add_argument("--down", dest="rating", action="store_const", const="down", help="it was bad")
    way.add_argument("--withdraw", dest="rating", action="store_const", const="none", help="take back what was said")
    parser.add_argument("--correction", default="", metavar="TEXT", help="what the answer should have been")
    parser.add_argument("--comment", default="", metavar="TEXT", help="what else there is to say")
    parser.add_argument("--consent", action="store_true", help="it may be used for training")
    parser.add_argument("--question", default="", metavar="TEXT", help="the question, as it was asked")
    parser.add_argument("--answer-text", default="", metavar="TEXT", help="the answer, as it was given")
    parser = add_verb(group, "list", list_feedback, "Show what was said of answers, newest first.")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only what this tenant said")
    parser.add_argument("--last", type=int, default=50, metavar="N", help="the newest N (default 50; 0: all)")
    parser = add_verb(group, "export", export, "Publish what may be used for training as a dataset.", EXPORT)
    parser.add_argument("--tenant", default="", metavar="NAME", help="only what this tenant said")
    parser.add_argument("--name", default="feedback", help="name of the dataset (default: %(default)s)")


def send(args: argparse.Namespace) -> int:
    """Send it to the running service; exit code 0.

    Raises:
        BadInputError: the key's tenant has no such answer, or a text is none that is taken.
        EnvironmentFaultError: the service cannot be reached.
    """
    from cluster.cli.ask import service_url

    texts = {"correction": args.correction, "comment": args.comment, "question": args.question,
             "answer": args.answer_text}  # fmt: skip
    body = {"answer_id": args.answer, "rating": args.rating, "consent": args.consent}
    body |= {name: text for name, text in texts.items() if text}
    kept = posted(f"{service_url(config_from(args, Home.from_env()))}/v1/feedback", body)
    if args.json:
        print_json(kept)
    else:
        console.print("taken back" if args.rating == "none" else "thank you: it is kept")
    return ExitCode.DONE


def posted(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the service answers to a body, sent with the local key.

    Raises:
        BadInputError: it refuses the body.
        EnvironmentFaultError: it cannot be reached, or fails.
    """
    import httpx

    from cluster.cli.ask import refusal
    from cluster.loopback import client

    try:
        with client(30) as service:
            reply = service.post(url, json=body)
    except httpx.TransportError as error:
        message = f"no answer from {url} ({error}); `plinth status` shows what runs, `plinth up` starts it"
        raise EnvironmentFaultError(message) from error
    if reply.status_code == 404:
        raise BadInputError(str(reply.json()["error"]["message"]))
    if reply.status_code != 200:
        raise refusal(reply, url, "")
    found: dict[str, Any] = reply.json()
    return found


def list_feedback(args: argparse.Namespace) -> int:
    """Print what was said; exit code 0. That it was read is written down.

    Raises:
        UsageError: ``--last`` is below 0.
        EnvironmentFaultError: the book does not answer.
    """
    if args.last < 0:
        raise UsageError("--last must be 0 or more")
    home = Home.from_env()
    _told(args, home, "feedback_read", tenant_read=args.tenant)
    found = book_of(home).entries(_days(args, home), args.tenant, args.last or None)
    if args.json:
        print_json({"feedback": [asdict(one) for one in found]})
        return ExitCode.DONE
    rows = [
        (datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%d %H:%M"), one.answer_id, one.rating, one.tenant,
         "yes" if one.consent else "", " · ".join(filter(None, (one.correction, one.comment)))[:200])
        for one in found
    ]  # fmt: skip
    if rows:
        print_table("Feedback", ("at (UTC)", "answer", "rating", "tenant", "consent", "said"), rows)
    else:
        console.print("nobody said anything yet")
    return ExitCode.DONE


def export(args: argparse.Namespace) -> int:
    """Publish the dataset; exit code 0. That it was made is written down.

    Raises:
        BadInputError: nothing may be used.
        EnvironmentFaultError: book or store do not answer.
    """
    from actors.feedback.dataset import publish
    from cluster.core.storage import Store

    home = Home.from_env()
    said = book_of(home).entries(_days(args, home), args.tenant)
    made = publish(Store(home.store_uri), said, args.name)
    _told(args, home, "feedback_exported", name=made.name, version=made.version, tenant_read=args.tenant)
    if args.json:
        print_json({"artefact": f"{made.kind}/{made.name}@{made.version}", **made.counts})
    else:
        left = sum(made.counts["left_out"].values())
        folder = Store(home.store_uri).artefact(made)
        console.print(f"{made.counts['rows']} rows, {made.counts['pairs']} pairs, {left} left out: {folder}",
                      soft_wrap=True, markup=False)  # fmt: skip
    return ExitCode.DONE


def book_of(home: Home) -> FeedbackBook:
    """The book of the installation whose home this is."""
    from actors.feedback.book import FeedbackBook
    from actors.ledger.database import ledger_url

    return FeedbackBook.of(home.root, ledger_url(home.root))


def erase_feedback(home: Home, tenant: str = "", stones: Tombstones | None = None) -> int:
    """Remove what is a tenant's, or about answers that were made of forgotten documents; how many feedback. Versions
    of the dataset that were published before are immutable: they lose their name, and `plinth gc` removes them.

    Raises:
        EnvironmentFaultError: the book does not answer.
    """
    from actors.feedback.book import ROOM
    from actors.feedback.dataset import ALIAS, KIND
    from actors.ledger.database import ledger_url
    from cluster.core.storage import Store

    if not ledger_url(home.root) and not (home.root / ROOM).exists():
        return 0  # nobody ever said anything here
    book = book_of(home)
    if stones is None:
        count = book.erase_tenant(tenant)
    else:
        count = book.erase_documents(lambda document, source: stones.covers(document, "", source))
    if count:
        store = Store(home.store_uri)
        for name in store.names(KIND):
            store.remove_alias(KIND, name, ALIAS)
    return count


def _days(args: argparse.Namespace, home: Home) -> int:
    """The days that are kept; what is older goes now."""
    section = config_from(args, home).trust.feedback
    book_of(home).tidy(section.answer_days, section.keep_days)
    return section.keep_days


def _told(args: argparse.Namespace, home: Home, action: str, **details: Any) -> None:
    from actors.audit.events import record_event

    record_event(home, config_from(args, home).trust.audit, action, **details)
