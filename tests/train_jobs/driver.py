"""A process that trains on a Ray of its own: ``python -m tests.train_jobs.driver STORE JOB...`` prints one JSON line.

Jobs, carried out in order on one group of workers: ``pretrain``, ``finetune``.

With ``--nodes`` its Ray is a cluster of so many nodes of one CPU each, which needs namespaces of its own
(``private_cluster.namespaces``); every line on its standard input adds one more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from cluster.core.config import PlinthConfig
from cluster.core.entry import leave, run_main
from cluster.core.progress import Silent
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from tests.live.private_cluster import loopback_up
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


PORT = 6379
QUIET = {"include_dashboard": False, "object_store_memory": 150_000_000}


@contextlib.contextmanager
def one_node() -> Iterator[None]:
    """A Ray of this process's own with two CPUs."""
    import ray

    folder = tempfile.mkdtemp(prefix="ptr", dir="/tmp")  # Ray's socket paths must be short
    ray.init(num_cpus=2, _temp_dir=folder, log_to_driver=False, logging_level="ERROR", **QUIET)
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def several_nodes(number: int) -> Iterator[None]:
    """A cluster of ``number`` raylets with a CPU each, and one more for every line that comes in."""
    loopback_up()
    os.makedirs("/tmp/ray", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/tmp/ray"], check=True)  # Ray notes "the" cluster there
    # Else each process takes the token of the user's home, if there is one by then: others may make it meanwhile.
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    del os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # set, a node may not join another; the network is our own
    import ray

    nodes = [start_node("--head", f"--port={PORT}", "--include-dashboard=false")]
    nodes += [start_node(f"--address=127.0.0.1:{PORT}") for _ in range(number - 1)]
    ray.init(address=f"127.0.0.1:{PORT}", log_to_driver=False, logging_level="ERROR")
    lines = (start_node(f"--address=127.0.0.1:{PORT}") for _ in sys.stdin)
    threading.Thread(target=lambda: nodes.extend(lines), daemon=True).start()
    try:
        yield
    finally:
        ray.shutdown()
        for node in nodes:
            node.terminate()


def start_node(*more: str) -> subprocess.Popen[str]:
    """Start a raylet with one CPU; it ends with the process that is returned.

    Raises:
        RuntimeError: Ray would not, and not because its 30 s were too short on a busy machine.
    """
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", *more, "--num-cpus=1", "--block", "--disable-usage-stats",
        f"--object-store-memory={QUIET['object_store_memory']}", "--min-worker-port=0", "--max-worker-port=0",
        "--node-ip-address=127.0.0.1",
    ]  # fmt: skip
    while True:  # what only took too long is tried again: the test has a deadline
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            if "Ray runtime started" in line:
                return process
            said.append(line)
        if not any("timed out during startup" in line for line in said):
            raise RuntimeError(f"{shlex.join(command)} ended: {''.join(said[-20:])}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("jobs", nargs="+", choices=["pretrain", "finetune"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--checkpoint-s", type=float, default=10.0)
    parser.add_argument("--worker-cpus", type=float, default=0.0)
    parser.add_argument("--before-end", default="")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON")
    parser.add_argument("--nodes", type=int, default=0)
    args = parser.parse_args()
    chosen = {"workers": args.workers, "checkpoint_s": args.checkpoint_s, "worker_cpus": args.worker_cpus}
    chosen |= {name: json.loads(value) for name, _, value in (item.partition("=") for item in args.set)}
    section = SECTION.model_copy(update={"steps": STEPS, **chosen})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    os.environ.update(RAY_worker_register_timeout_seconds="300")

    def work() -> int:
        with several_nodes(args.nodes) if args.nodes else one_node():
            made = train(Store(args.store), section, args.jobs, args.before_end)
        print(json.dumps(made), flush=True)
        return 0

    return run_main(work)


if __name__ == "__main__":
    print(os.getpid(), file=sys.stderr)
    leave(main())
