"""plinth data audit: what is in a dataset, by source, licence, language, sensitivity, personal data, duplicates."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.storage import Store

DETAILS = """\
Counts, the longest, shortest and oldest documents, and a seeded sample to read.

  plinth data audit notes                    the newest version of a dataset
  plinth data audit notes@3f9c0a1b2c4d --samples 20 --seed 7 --json"""


def register(group: Commands) -> None:
    """Declare ``plinth data audit``: which dataset, how many samples, the seed they are drawn with."""
    parser = add_verb(group, "audit", audit, "Show what is in a dataset: counts by kind, extremes, samples.", DETAILS)
    parser.add_argument("dataset", nargs="?", default="", help="NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="documents per list (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample: the same seed shows the same documents")


def audit(args: argparse.Namespace) -> int:
    """Print the counts, extremes and samples of a dataset, with ``--json`` as one object; exit code 0.

    Raises:
        UsageError: a negative number of samples.
        BadInputError: there is no such dataset.
    """
    from data_jobs.commands import find_dataset
    from data_jobs.lineage import audit as auditing

    if args.samples < 0:
        raise UsageError("--samples must not be negative")
    store = Store(Home.from_env().store_uri)
    found = auditing.audit(store, find_dataset(store, args.dataset), args.samples, args.seed)
    if args.json:
        print_json(found)
    else:
        _print(found)
    return ExitCode.DONE


def _print(found: dict[str, Any]) -> None:
    console.print(f"[bold]{found['dataset']}[/bold] of {found['created_at'][:16].replace('T', ' ')}: "
                  f"{found['documents']:,} documents, {found['characters']:,} characters")  # fmt: skip
    rows = [(by, value, f"{count:,}") for by, counts in found["by"].items() for value, count in counts.items()]
    print_table("Documents by", ("", "", "documents"), rows, numeric=("documents",))
    if found["pii"]:
        pii = [(kind, f"{c['pieces']:,}", f"{c['documents']:,}") for kind, c in found["pii"].items()]
        print_table(
            "Personal data taken out", ("type", "pieces", "in documents"), pii, numeric=("pieces", "in documents")
        )
    left = [(what, reason, f"{count:,}") for what in ("duplicates", "filtered", "quarantined")
            for reason, count in found[what].items()]  # fmt: skip
    if left:
        print_table("Left out", ("", "reason", "records"), left, numeric=("records",))
    print_table("Characters", tuple(found["lengths"]), [tuple(f"{n:,}" for n in found["lengths"].values())])
    for name in ("longest", "shortest"):
        lines = [(row["id"], f"{row['characters']:,}") for row in found[name]]
        print_table(name.capitalize(), ("document", "characters"), lines, numeric=("characters",))
    old = [(row["id"], row["since"][:16].replace("T", " "), row["version"]) for row in found["oldest"]]
    print_table("Oldest (unchanged since)", ("document", "since", "version"), old)
    shown = [(row["id"], " ".join(row["text"].split())[:160]) for row in found["samples"]]
    print_table("Samples", ("document", "text"), shown)
