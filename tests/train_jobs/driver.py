"""A process that trains on a Ray of its own: ``python -m tests.train_jobs.driver STORE JOB...`` prints one JSON line.

Jobs, carried out in order on one group of workers: ``pretrain``, ``finetune``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile

from cluster.core.config import PlinthConfig
from cluster.core.entry import leave, run_main
from cluster.core.progress import Silent
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, make_dataset, make_examples

STEPS = 150


def train(store: Store, section: TrainSection, jobs: list[str], before_end: str) -> dict[str, str]:
    from train_jobs.data.tokenizer import train_tokenizer
    from train_jobs.fit import Workers
    from train_jobs.launch import finetune, pretrain

    config = PlinthConfig(train=section)
    dataset = (
        make_dataset(store) if "manual" not in store.names("datasets") else store.versions("datasets", "manual")[0]
    )
    tokenizer = train_tokenizer(config, store, dataset, Silent())
    made = {}
    with Workers(section, store) as group:
        if "pretrain" in jobs:
            made["pretrain"] = pretrain(config, store, dataset, tokenizer, Silent(), workers=group)
        if "finetune" in jobs:
            examples = make_examples(store, tokenizer)
            hasty = section.model_copy(update={"learning_rate": 2 * section.learning_rate})  # these are 150 steps only
            config = PlinthConfig(train=hasty)
            made["finetune"] = finetune(config, store, made["pretrain"], examples, Silent(), workers=group)
        if before_end:
            os.system(before_end)  # while the workers still run
    return {job: manifest.version for job, manifest in made.items()}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("jobs", nargs="+", choices=["pretrain", "finetune"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--checkpoint-s", type=float, default=10.0)
    parser.add_argument("--worker-cpus", type=float, default=0.0)
    parser.add_argument("--before-end", default="")
    args = parser.parse_args()
    chosen = {"workers": args.workers, "checkpoint_s": args.checkpoint_s, "worker_cpus": args.worker_cpus}
    section = SECTION.model_copy(update={**chosen, "steps": STEPS})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    folder = tempfile.mkdtemp(prefix="ptr", dir="/tmp")  # Ray's socket paths must be short

    def work() -> int:
        import ray

        ray.init(
            num_cpus=2, include_dashboard=False, _temp_dir=folder, object_store_memory=150_000_000, log_to_driver=False,
            logging_level="ERROR",
        )  # fmt: skip
        try:
            made = train(Store(args.store), section, args.jobs, args.before_end)
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(made), flush=True)
        return 0

    return run_main(work)


if __name__ == "__main__":
    print(os.getpid(), file=sys.stderr)
    leave(main())
