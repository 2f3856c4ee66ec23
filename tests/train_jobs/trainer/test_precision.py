"""Which arithmetic is faster is measured on as much as a worker computes at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.process  # torch takes seconds to import


def test_one_pass_of_a_step_is_timed_and_not_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from train_jobs.trainer import precision

    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(precision, "has_bf16", lambda: True)
    batches: Any = SimpleNamespace(batch=lambda *share: asked.append(share) or torch.ones(2, 4))
    objective: Any = SimpleNamespace(share_of_loss=lambda model, batch: model(batch).sum())
    model = SimpleNamespace(parameters=precision.SMALL)
    plan: Any = SimpleNamespace(precision="auto", steps=0, tokens=0, epochs=0.0, flops=0.0, model=model)
    found = precision.choose_precision(plan, torch.nn.Linear(4, 4), batches, objective, torch.device("cpu"), 6)
    assert isinstance(found, bool)
    assert asked == [(0, 0, 6)] * 4
