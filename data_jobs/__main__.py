"""``python -m data_jobs prepare|index|synth|tokens``: the entry point of Ray jobs. Only parses and dispatches."""

from __future__ import annotations

import argparse
import sys

from cluster.core.entry import add_common, leave, print_json, run_main
from cluster.job_book import entered
from data_jobs import commands


def main() -> int:
    """Run one verb with its arguments; the result is its exit code."""
    parser = argparse.ArgumentParser(prog="python -m data_jobs", description="Data jobs on a running Ray cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, about, add_arguments, run in (
        ("prepare", "prepare a corpus from a source", commands.add_prepare_arguments, commands.run_prepare),
        ("index", "build an index from a prepared dataset", commands.add_index_arguments, commands.run_index),
        ("synth", "make synthetic rows of a dataset", commands.add_synth_arguments, commands.run_synth),
        ("tokens", "tokenise a dataset into shards", commands.add_tokens_arguments, commands.run_tokens),
    ):
        verb = verbs.add_parser(name, help=about)
        add_arguments(verb)
        add_common(verb)
        verb.set_defaults(work=run)
    args = parser.parse_args()

    def work() -> int:
        with entered("data_jobs", args.verb, args, sys.argv[2:]) as entry:
            manifest = args.work(args, entry)
        print_json(commands.summary(manifest))
        return 0

    return run_main(work, as_json=args.json)


if __name__ == "__main__":
    leave(main())
