"""``python -m train_jobs tokenizer|pretrain|finetune``: the entry point of Ray jobs. Only parses and dispatches."""

from __future__ import annotations

import argparse
import signal

from cluster.core.entry import add_common, leave, print_json, run_main
from cluster.core.progress import Silent
from data_jobs.commands import summary
from train_jobs import commands


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train_jobs", description="Training jobs on a running Ray cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    tokenizer = verbs.add_parser("tokenizer", help="train a tokenizer on a dataset")
    commands.add_tokenizer_arguments(tokenizer)
    tokenizer.set_defaults(work=commands.run_tokenizer)
    pretrain = verbs.add_parser("pretrain", help="pretrain a model on a dataset")
    commands.add_pretrain_arguments(pretrain)
    pretrain.set_defaults(work=commands.run_pretrain)
    finetune = verbs.add_parser("finetune", help="fine-tune a pretrained model on examples")
    commands.add_finetune_arguments(finetune)
    finetune.set_defaults(work=commands.run_finetune)
    for verb in (tokenizer, pretrain, finetune):
        add_common(verb)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work() -> int:
        manifest = args.work(args, Silent())
        print_json(summary(manifest))
        return 0

    return run_main(work, as_json=args.json)


if __name__ == "__main__":
    leave(main())
