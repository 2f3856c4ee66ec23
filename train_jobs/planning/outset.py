"""Gathers what a dry run needs: the model of a stage, the nodes there are, the speed that this machine reaches."""

from __future__ import annotations

import argparse
import posixpath
from pathlib import Path
from typing import Any

from actors.registry.runs import list_runs, read_metrics
from cluster.core.config import PlinthConfig, available_cpus
from cluster.core.home import Home
from cluster.core.sections.train import TrainSection
from cluster.core.storage import Store
from train_jobs.launch import architecture
from train_jobs.planning.dry_run import ASSUMED_MFU, Node, Speed, dry_run, on_gpus, refuse, workers_of
from train_jobs.planning.flops import listed_peak, measured_peak
from train_jobs.planning.sizes import Sizes, sizes_of


def look_ahead(args: argparse.Namespace) -> dict[str, Any]:
    """What ``plinth train pretrain|finetune|model --dry-run`` says; starts nothing, and waits for no other job.

    Raises:
        EnvironmentFaultError: no node can hold it.
        BadInputError: the base, tokenizer or dataset that was named does not exist.
        UsageError: a weight or a limit of the datasets is none.
    """
    from train_jobs.arguments import configure, mixture_of, seconds_of

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    stage = args.verb if args.verb != "train" else args.train_verb
    if stage == "pretrain" and (args.dataset or args.max_epochs):
        mixture_of(store, args)
    nodes, where = nodes_now(config, home)
    sizes = sizes_for(config.train, store, args)
    refuse(config.train, sizes, nodes)
    total = config.train.minutes * 60
    share = {"pretrain": config.train.pretrain_share, "finetune": 1 - config.train.pretrain_share}.get(stage, 1.0)
    seconds = seconds_of(args)
    speed = speed_of(config.train, store, nodes)
    found = dry_run(config.train, sizes, nodes, speed, total * share if seconds is None else seconds)
    return {"stage": stage, "nodes": [vars(node) for node in nodes], "nodes_are": where, **found}


def sizes_for(section: TrainSection, store: Store, args: argparse.Namespace) -> Sizes:
    """The sizes of the model that a stage trains: those of its base, else those configured."""
    from train_jobs.arguments import find

    if hasattr(args, "base"):
        base = find(store, "checkpoints", args.base or f"{section.name}-base", "plinth train pretrain")
        config = store.read_json(posixpath.join(store.artefact(base), "config.json"))
        return Sizes.from_hugging_face(config, int(base.counts.get("parameters", 0)))
    vocab = section.vocab_size
    if getattr(args, "tokenizer", ""):
        vocab = int(find(store, "tokenizers", args.tokenizer, "plinth train tokenizer").counts["tokens"])
    return sizes_of(architecture(section, vocab))


def nodes_now(config: PlinthConfig, home: Home) -> tuple[list[Node], str]:
    """The nodes of the running cluster, else this machine; and which of the two they are."""
    from cluster.connect import node_resources

    running = [] if config.cluster.single_node else node_resources(home)
    if running:
        return [Node.of(resources) for resources in running], f"{len(running)} nodes of the running cluster"
    return [this_machine()], "this machine"


def this_machine() -> Node:
    """CPUs that this process may use, memory that it can get, and the GPU where torch sees one."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    memory = float(lines["MemAvailable"].split()[0]) * 1024
    import torch

    if not torch.cuda.is_available():
        return Node(available_cpus(), memory)
    card = torch.cuda.get_device_properties(0)
    return Node(available_cpus(), memory, torch.cuda.device_count(), card.name, card.total_memory)


def speed_of(section: TrainSection, store: Store, nodes: list[Node]) -> Speed:
    """The peak of one worker's device, and the share of it that the newest run here reached."""
    device = "cuda" if on_gpus(section) else "cpu"
    if device == "cuda":
        name = next((node.gpu for node in nodes if node.gpu), "")
        peak, said = listed_peak(name) or 0.0, f"data sheet of {name}" if name else "no GPU is known here"
    else:
        threads = max(1, int(section.worker_cpus) or available_cpus() // workers_of(section, nodes))
        peak, said = measured_peak(threads=threads), f"matrix products on {threads} threads, measured now"
    reached = known_mfu(store)
    if reached is None:
        return Speed(peak, ASSUMED_MFU[device], f"{said}; MFU assumed, no earlier run has one")
    return Speed(peak, reached[0], f"{said}; MFU of the run {reached[1]}")


def known_mfu(store: Store) -> tuple[float, str] | None:
    """The median MFU of the newest run that has any, and the run's id."""
    import statistics

    for run in reversed(list_runs(store)[-20:]):
        values = [row["mfu"] for row in read_metrics(store, run.id) if row.get("mfu")]
        if values:
            return min(1.0, statistics.median(values)), run.id
    return None
