"""Training groups of plain processes, for tests of what several workers do together."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from train_jobs.trainer.plan import RunPlan

ROOT = Path(__file__).resolve().parents[3]


Order = tuple[RunPlan, int]  # a plan and the step at which it is interrupted, 0: never


def start(folder: Path, orders: list[Order], size: int) -> list[subprocess.Popen[str]]:
    """Start ``size`` workers that carry out ``orders``; ``folder`` is theirs alone."""
    folder.mkdir(parents=True)
    path = folder / "orders.json"
    path.write_text(json.dumps([{"plan": plan.to_dict(), "stop_at": step} for plan, step in orders]))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    module = "tests.train_jobs.distributed.worker"
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, str(path), str(rank), str(size), str(folder)],
            cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip


def wait(workers: list[subprocess.Popen[str]], timeout: float = 800) -> list[str]:
    """What the workers printed, once they have ended."""
    try:
        return [worker.communicate(timeout=timeout)[0] for worker in workers]
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()


def train(folder: Path, orders: list[Order], size: int) -> list[list[tuple[float, float]]]:
    """Carry out orders on ``size`` workers; of each the steps' (loss, gradient norm)."""
    workers = start(folder, orders, size)
    said = wait(workers)
    assert [worker.returncode for worker in workers] == [0] * size, "\n".join(text[-3000:] for text in said)
    found = [json.loads((folder / f"losses-{number}.json").read_text()) for number in range(len(orders))]
    return [[(loss, norm) for loss, norm in steps] for steps in found]


def copied(plan: RunPlan, key: str, **changes: object) -> RunPlan:
    """The same run in a folder of its own, on the same data."""
    folder = str(Path(plan.folder).parent / key)
    return dataclasses.replace(plan, run_id=f"{plan.stage}-{key}", folder=folder, **changes)  # type: ignore[arg-type]
