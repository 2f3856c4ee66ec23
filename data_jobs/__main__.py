"""``python -m data_jobs prepare|index|synth|tokens``: the entry point of Ray jobs. Only parses and dispatches."""

from __future__ import annotations

import argparse

from cluster.core.entry import add_common, leave, print_json, run_main
from cluster.core.progress import Silent
from data_jobs import commands


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m data_jobs", description="Data jobs on a running Ray cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    prepare = verbs.add_parser("prepare", help="prepare a corpus from a source")
    commands.add_prepare_arguments(prepare)
    prepare.set_defaults(work=commands.run_prepare)
    index = verbs.add_parser("index", help="build an index from a prepared dataset")
    commands.add_index_arguments(index)
    index.set_defaults(work=commands.run_index)
    synth = verbs.add_parser("synth", help="make synthetic rows of a dataset")
    commands.add_synth_arguments(synth)
    synth.set_defaults(work=commands.run_synth)
    tokens = verbs.add_parser("tokens", help="tokenise a dataset into shards")
    commands.add_tokens_arguments(tokens)
    tokens.set_defaults(work=commands.run_tokens)
    for verb in (prepare, index, synth, tokens):
        add_common(verb)
    args = parser.parse_args()

    def work() -> int:
        manifest = args.work(args, Silent())
        print_json(commands.summary(manifest))
        return 0

    return run_main(work, as_json=args.json)


if __name__ == "__main__":
    leave(main())
