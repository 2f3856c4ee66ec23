"""plinth audit verify, show, export, rotate-key, erase: the audit log of this installation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli.out_file import out_file
from cluster.cli.output import console, print_facts, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.errors import BadInputError, ExitCode, UsageError
from cluster.core.home import Home

if TYPE_CHECKING:
    from actors.audit.entries import Record
    from data_jobs.governance.tombstones import Tombstones

VERIFY = """\
Every record, every key and every segment's signature, up to the signed head: an edit, a removal, an insertion, an
exchange or a cut is named by the first record that cannot be trusted (exit code 3). Log and head put back together to
an earlier state were whole once: keep what this prints somewhere else, and hold the log against it.

  plinth audit verify                              is the log as it was written?
  plinth audit verify --json > /mnt/other/head.json
  plinth audit verify --since /mnt/other/head.json   and does it go on from there?"""
SHOW = """\
What was written down: the end of every request (who, which route, which versions, which verdicts; never a text), what
administrators did, who read this log, and, with trust.audit.sample, masked questions and answers. Reading is written
down too.

  plinth audit show --last 5                       the newest records
  plinth audit show --kind event                   what administrators did
  plinth audit show --tenant research --json       all that is left of a tenant, one JSON object"""
EXPORT = """\
One JSON line a record, as `plinth audit show --json` has them, into a file that only you can read (or - for stdout).
The export is not encrypted, and no erasure reaches it.

  plinth audit export --out audit.jsonl --since 2026-11-01"""
ROTATE = """\
New keys to encrypt and to sign with: all data keys are wrapped anew, and the old secret keys are destroyed, so that a
stolen copy of them opens nothing that is written from now on. What old keys signed is still checked. The service goes
on meanwhile. Again after an interruption finishes it."""
ERASE = """\
Destroys the keys of what is erased: nobody can read it any more, in copies of the log neither, and `plinth audit
verify` still finds the chain whole. Copies of the keys must go too ($PLINTH_HOME/audit/*.keys together with
$PLINTH_HOME/keys/audit.json). Of documents, sampled answers are erased that were made of them; `plinth data forget`
does that by itself. What a tenant said of answers (`plinth feedback`) and what was found in its requests (`plinth
review`) goes with it.

  plinth audit erase --tenant research --why "contract ended"
  plinth audit erase --document notes/ann.md"""
SHOWN = ("kind", "n", "at", "tenant")


def register(group: Commands) -> None:
    """Declare the verbs of the log below ``plinth audit``."""
    parser = add_verb(group, "verify", check, "Check the audit log; name the first record that was changed.", VERIFY)
    parser.add_argument("--since", type=Path, metavar="FILE", help="what an earlier `verify --json` printed")
    parser = add_verb(group, "show", show, "Show records of the audit log.", SHOW)
    _add_filters(parser)
    parser.add_argument("--last", type=int, default=20, metavar="N", help="the newest N of them (default 20; 0: all)")
    parser = add_verb(group, "export", export, "Write records of the audit log to a file.", EXPORT)
    _add_filters(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="a new file, or - for stdout")
    add_verb(group, "rotate-key", rotate_key, "Give the audit log new keys, and destroy the old ones.", ROTATE)
    parser = add_verb(group, "erase", erase, "Make a tenant's records, or samples of a document, unreadable.", ERASE)
    parser.add_argument("--tenant", default="", metavar="NAME", help="all that was written down about a tenant")
    parser.add_argument("--document", default="", metavar="ID", help="sampled answers that were made of a document")
    parser.add_argument("--why", default="", metavar="TEXT", help="the reason, kept in the log")
    parser.add_argument("--yes", action="store_true", help="do not ask (nobody is asked without a terminal)")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", default="", metavar="NAME", help="only those of this tenant")
    parser.add_argument("--kind", default="", metavar="KIND", help="only request, sample, event, audit_read, ...")
    parser.add_argument("--request", default="", metavar="ID", help="only those of one request")
    parser.add_argument("--since", default="", metavar="TIME", help="only from this time on (ISO, UTC: 2026-11-29)")


def check(args: argparse.Namespace) -> int:
    """Print what was checked; exit code 0.

    Raises:
        DamagedError, IntegrityError: the log was changed (exit code 3).
        BadInputError: ``--since`` is no earlier head of this log.
    """
    from actors.audit.audit_log import AuditLog
    from actors.audit.verifying import read_head, verify

    since = read_head(_text(args.since)) if args.since else None
    found = verify(AuditLog.of(Home.from_env()), since)
    if args.json:
        print_json(found.to_dict())
        return ExitCode.DONE
    if found.head is None:
        console.print("nothing was written down yet")
        return ExitCode.DONE
    facts: list[tuple[str, Any]] = [
        ("records", f"{found.first} to {found.last}, all as they were written"),
        ("segments", found.segments),
        ("erased", found.erased),
        ("head", found.head["end"]["hash"]),
    ]
    if found.torn:
        facts.append(("cut off", f"{found.torn} bytes of a write that nobody was promised; the next one removes them"))
    if found.unfinished:
        facts.append(("not erased", f"{found.unfinished} keys: an erasure was interrupted, run it again"))
    print_facts(facts)
    return ExitCode.DONE


def show(args: argparse.Namespace) -> int:
    """Print records; exit code 0.

    Raises:
        DamagedError, IntegrityError: the log was changed; what stands before that is printed.
        EnvironmentFaultError: the reading cannot be written down: nothing is shown.
    """
    from collections import deque

    from actors.audit.reading import row

    if args.last < 0:
        raise UsageError("--last must be 0 or more")
    kept = deque((row(one) for one in _read(args, "show")), maxlen=args.last or None)
    if args.json:
        print_json({"records": list(kept)})
        return ExitCode.DONE
    rows = [
        (str(one["n"]), one["at"][:19].replace("T", " "), one["kind"], one.get("tenant", ""),
         ", ".join(f"{k}={_short(v)}" for k, v in one.items() if k not in SHOWN)) for one in kept
    ]  # fmt: skip
    print_table("Audit log", ("n", "at (UTC)", "kind", "tenant", ""), rows, numeric=("n",))
    return ExitCode.DONE


def export(args: argparse.Namespace) -> int:
    """Write records as JSON lines; exit code 0.

    Raises:
        UsageError: the file is there already.
        DamagedError, IntegrityError: the log was changed; what stands before that is written.
        EnvironmentFaultError: the file cannot be written, or the reading cannot be written down.
    """
    from actors.audit.reading import row

    count = 0
    with out_file(args.out) as out:
        for record in _read(args, "export"):
            out.write(json.dumps(row(record)) + "\n")
            count += 1
    if args.json and args.out != "-":
        print_json({"file": args.out, "records": count})
    elif args.out != "-":
        console.print(f"{count} records: {args.out}", soft_wrap=True)
    return ExitCode.DONE


def rotate_key(args: argparse.Namespace) -> int:
    """Print the names of the new keys; exit code 0.

    Raises:
        IntegrityError, EnvironmentFaultError: the log was changed or cannot be written.
    """
    from actors.audit.audit_log import AuditLog
    from actors.audit.events import person
    from actors.audit.housekeeping import rotate

    names = rotate(AuditLog.of(Home.from_env()), person())
    if args.json:
        print_json(names)
    else:
        console.print(f"encrypted with {names['master']}, signed with {names['signing']} from now on")
    return ExitCode.DONE


def erase(args: argparse.Namespace) -> int:
    """Print how many keys were destroyed, after asking where a person sits at the terminal; exit code 0.

    Raises:
        UsageError: not exactly one of tenant and document was given, or the person said no.
        DamagedError, IntegrityError, EnvironmentFaultError: the log was changed or cannot be written.
    """
    from actors.audit.audit_log import AuditLog
    from actors.audit.events import person
    from actors.audit.housekeeping import erase_samples, erase_tenant
    from cluster.cli.feedback import erase_feedback
    from cluster.cli.review import erase_reviews

    if bool(args.tenant) == bool(args.document):
        raise UsageError("give one of --tenant NAME, --document ID")
    if not args.yes and not args.json and sys.stdin.isatty():
        answer = console.input("Make it unreadable? This is not undone. [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was erased")
    log, by = AuditLog.of(Home.from_env()), person()
    judged = {}
    if args.tenant:
        count = erase_tenant(log, args.tenant, by, args.why)
        home = Home.from_env()
        judged = {
            "feedback_erased": erase_feedback(home, args.tenant), "reviews_erased": erase_reviews(home, args.tenant),
        }  # fmt: skip
    else:
        named = args.document
        count = erase_samples(
            log, lambda sample: any(one == named for one, _ in sample["documents"]), "document", named, by, args.why
        )
    if args.json:
        print_json({"tenant": args.tenant, "document": args.document, "keys_destroyed": count, **judged})
    else:
        more = (f"{what.replace('_', ' ')}: {n}" for what, n in judged.items() if n)
        console.print(", ".join([f"{count} keys destroyed", *more]))
    return ExitCode.DONE


def erase_forgotten(home: Home, stones: Tombstones, what: str, by: str, why: str) -> dict[str, Any]:
    """Erase the samples that were made of forgotten documents, as a part of a receipt: ``{"samples_erased": n}``.

    Raises:
        DamagedError, IntegrityError, EnvironmentFaultError: the log was changed or cannot be written.
    """
    from actors.audit.audit_log import AuditLog
    from actors.audit.housekeeping import erase_samples

    log = AuditLog.of(home)
    if not log.head_file.raw():
        return {"samples_erased": 0}

    def concerns(sample: dict[str, Any]) -> bool:
        return any(stones.covers(document, "", source) for document, source in sample["documents"])

    return {"samples_erased": erase_samples(log, concerns, "document", what, by, why)}


def _read(args: argparse.Namespace, verb: str) -> Iterator[Record]:
    """The records that are wanted. That they are read is written down first."""
    from actors.audit.audit_log import AuditLog
    from actors.audit.entries import Entry
    from actors.audit.events import person
    from actors.audit.reading import Wanted, records

    log, wanted = AuditLog.of(Home.from_env()), Wanted(args.tenant, args.kind, args.request, args.since)
    if log.head_file.raw():
        log.append([Entry.of("audit_read", by=person(), verb=verb, of=wanted.told())])
    yield from filter(wanted.fits, records(log))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"cannot read {path}: {error}") from None
