"""What `plinth train plan` prints of a plan: the law, the planned run, and how it was checked."""

from __future__ import annotations

from typing import Any

from cluster.cli.output import console, print_facts, print_table
from cluster.core.records import Manifest
from cluster.core.storage import Store


def print_plan(made: Manifest, store: Store) -> None:
    """The tables of a plan, and where its picture is."""
    folder = store.artefact(made)
    report = store.read_json(f"{folder}/plan.json")
    law, target = report["law"], report["target"]
    if runs := report.get("runs"):
        columns = ("width", "steps", "parameters", "tokens", "held-out loss", "seconds")
        rows = [(r["width"], r["steps"], f"{r['parameters']:,}", f"{r['tokens']:,}", f"{r['loss']:.4f}",
                 f"{r['seconds']:.1f}") for r in runs]  # fmt: skip
        print_table("Sweep", columns, rows, numeric=columns)
    numbers = [(name, *(f"{value[key]:.4g}" for key in ("value", "low", "high")))
               for name, value in law["coefficients"].items()]  # fmt: skip
    print_table(f"Law: L = {law['form']}", ("", "value", "95 % from", "to"), numbers, ("value", "95 % from", "to"))
    print_facts([("planned", f"{target['parameters']:,} parameters, {target['tokens']:,} tokens"), *_facts(target)])
    if check := report.get("check"):
        inside = "within" if check["inside"] else "outside"
        print_facts([
            ("check", f"{check['parameters']:,} parameters, {check['tokens']:,} tokens"),
            ("predicted", _loss(check["predicted"])),
            ("got", f"{check['got']:.4f} ({inside} the bounds, prediction off by {100 * check['off']:+.1f} %)"),
        ])  # fmt: skip
    console.print(f"curve: {folder}/plan.png", soft_wrap=True)


def print_dry_run(found: dict[str, Any]) -> None:
    """What a stage would take: workers, memory of each by part, speed, time."""
    from train_jobs.planning.dry_run import gib

    reserved = f", {found['worker_cpus']:g} CPUs each" if found["worker_cpus"] else ""
    print_facts([
        ("stage", f"{found['stage']}; nothing was started"),
        ("model", f"{found['parameters']:,} parameters, {found['precision']}"),
        ("workers", f"{found['workers']} ({found['strategy']}, {found['device']}{reserved}) on {found['nodes_are']}"),
    ])  # fmt: skip
    parts = [(name, gib(size)) for name, size in found["memory_per_rank"].items()]
    room = gib(found["memory_available"]) if found["memory_available"] else "not known"
    rows = [*parts, ("together", gib(found["memory_total"])), ("there is", room)]
    print_table("Memory of each worker", ("part", "size"), rows, numeric=("size",))
    if not found["tokens_per_s"]:
        steps = f"{found['steps']:,} steps, {found['tokens']:,} tokens, " if found["steps"] else ""
        print_facts([("tokens/s", f"not known ({found['speed'].partition(';')[0]})"),
                     ("stage takes", f"{steps}time not known")])  # fmt: skip
        return
    print_facts([
        ("tokens/s", f"{found['tokens_per_s']:,}, MFU {found['mfu']:.2f} ({found['speed']})"),
        ("step", f"{found['batch_tokens']:,} tokens, {found['seconds_per_step']:.3f} s"),
        ("stage takes", f"{found['steps']:,} steps, {found['tokens']:,} tokens, {_duration(found['seconds'])}"),
    ])  # fmt: skip


def _facts(target: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("predicted loss", _loss(target["loss"])),
             ("beyond the sweep", f"{target['beyond_sweep']:,g} times the FLOPs of its largest run")]  # fmt: skip
    if "seconds" in target:
        found.append(("time", f"{_duration(target['seconds'])} at {target['flops_per_s'] / 1e12:.4g} TFLOP/s "
                              f"({target['speed']})"))  # fmt: skip
    if "cost" in target:
        found.append(("cost", f"{target['cost']:,.2f}"))
    if serving := target.get("serving"):
        found.append((
            "replicas", f"{serving['replicas']:,} for {serving['requests_per_s']:g} requests/s, 95 % within "
            f"{serving['slo_s']:g} s ({serving['seconds_per_answer']:.2f} s an answer)",
        ))  # fmt: skip
    return found


def _loss(loss: dict[str, float]) -> str:
    return f"{loss['loss']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}] nats a token"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"
