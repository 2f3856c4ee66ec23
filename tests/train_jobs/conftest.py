from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def as_urgent_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop in this process must not lower the priority of the tests that come after it."""
    monkeypatch.setattr("train_jobs.trainer.priority.NICENESS", os.nice(0))
