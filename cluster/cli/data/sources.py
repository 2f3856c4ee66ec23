"""plinth data sources: the catalogue, and what the policies say about each source."""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.cli.output import console, print_json, print_table
from cluster.cli.verbs import Commands, add_verb
from cluster.core.entry import config_from
from cluster.core.errors import ExitCode, UsageError
from cluster.core.home import Home


def register(group: Commands) -> None:
    """Declare ``plinth data sources``: which catalogue, and for which use policies are asked."""
    parser = add_verb(
        group, "sources", sources, "List the sources of a catalogue: owner, licence, sensitivity, approval, uses.",
        "Example: plinth data sources --file sources.yaml\n"
        "         plinth data prepare --source handbook --sources sources.yaml --use retrieval\n\n"
        "The catalogue is data.sources, else ./sources.yaml where there is one; `pydocs` is built in. `refused` names\n"
        "the policies that forbid the use asked for (--use): source-approved, use-allowed, licence-allowed,\n"
        "sensitivity. A job that violates one ends with exit code 4.",
    )  # fmt: skip
    parser.add_argument("--file", metavar="FILE", help="the catalogue (default: data.sources, else ./sources.yaml)")
    parser.add_argument("--use", choices=("retrieval", "pretraining", "fine-tuning"), help="the use to judge for")


def sources(args: argparse.Namespace) -> int:
    """Print what a catalogue says of each source and which policies refuse it; exit code 0, also where some do.

    Raises:
        UsageError: there is no such ``--file``.
    """
    from data_jobs.governance.policies import violations
    from data_jobs.sources.catalogue import FILE_NAME, catalogue_path, load_catalogue

    section = config_from(args, Home.from_env()).data
    if args.use:
        section = section.model_copy(update={"use": args.use})
    here = Path(FILE_NAME)
    path = Path(args.file) if args.file else catalogue_path(section) or (here if here.exists() else None)
    if args.file and not Path(args.file).is_file():
        raise UsageError(f"there is no catalogue {args.file}")
    listed = []
    for source in load_catalogue(path).values():
        refused = [{"policy": policy, "why": why} for policy, why in violations(source, section)]
        listed.append({**source.to_dict(), "refused": refused})
    if args.json:
        print_json({"file": str(path) if path else None, "use": section.use, "sources": listed})
        return ExitCode.DONE
    policies = [
        (r["name"], r["licence"], r["sensitivity"], str(r["approved_on"] or "no"),
         " ".join(one["policy"] for one in r["refused"]) or "-")
        for r in listed
    ]  # fmt: skip
    print_table(f"Sources for {section.use}", ("name", "licence", "sensitivity", "approved", "refused by"), policies)
    people = [(r["name"], r["owner"], r["approved_by"] or "nobody", " ".join(r["uses"]) or "none") for r in listed]
    print_table("Who answers for them", ("name", "owner", "approved by", "uses"), people)
    places = [(r["name"], r["format"], r["location"]) for r in listed]
    print_table("Where they are", ("name", "format", "location"), places)
    if path is None:
        console.print(
            f"[dim]no catalogue: there is no {FILE_NAME} here (--file FILE, or --set data.sources=FILE)[/dim]"
        )
    return ExitCode.DONE
