"""The lines of a run's books hold what happened between them."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from cluster.core.storage import Store
from tests.train_jobs.trainer.plans import make_plan
from train_jobs.distributed.ranks import Ranks
from train_jobs.models.shape import Shape
from train_jobs.models.spec import LlamaSpec
from train_jobs.planning.flops import flops_per_token
from train_jobs.planning.sizes import Sizes
from train_jobs.trainer import meters as module
from train_jobs.trainer.meters import Meters, bits_per_byte, memory_now, meters_of


def test_a_row_is_about_the_steps_since_the_last_one() -> None:
    meters = Meters(flops_per_token=1e6, peak=1e12, bytes_per_token=4.0)
    meters.step(1000)
    meters.step(1000)
    meters.read([2.0, 6.0])
    row = meters.row(loss=math.log(2) * 8, remaining_s=12.34)
    assert (row["gradient_norm"], row["gradient_norm_max"]) == (4.0, 6.0)
    assert row["bits_per_byte"] == pytest.approx(2.0)
    assert row["mfu"] > 0
    assert row["eta_s"] == 12.3
    empty = meters.row()
    assert "gradient_norm" not in empty
    assert empty["mfu"] == 0.0


def test_a_peak_that_was_measured_too_low_is_no_less_than_what_is_reached() -> None:
    meters = Meters(flops_per_token=1e6, peak=1.0)
    meters.step(1000)
    assert meters.row()["mfu"] == 1.0
    assert meters.peak > 1.0


def test_waiting_for_data_is_told_from_computing() -> None:
    meters = Meters()
    end = time.perf_counter() + 0.03
    with meters.waiting():
        while time.perf_counter() < end:
            pass
    assert meters.row()["data_wait"] > 0.5
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    assert meters.row()["data_wait"] == 0.0


def test_what_is_not_known_is_left_out() -> None:
    row = Meters().row(loss=3.0, remaining_s=math.inf)
    assert not {"mfu", "bits_per_byte", "eta_s", "cuda_peak_mb"} & row.keys()
    assert bits_per_byte(3.0, 0.0) is None


def test_memory_is_that_of_the_process() -> None:
    before = memory_now()["rss_mb"]
    held = np.ones(8 * 2**20)  # 64 MiB
    assert memory_now()["rss_mb"] - before > 50
    del held


def test_a_run_s_meters_know_its_model(home, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PEAKS", {("cpu", 1): 5e9})
    shape = Shape(vocab=300, hidden=64, layers=2, heads=4, kv_heads=2, mlp=160, context=64)
    plan = replace(make_plan(Store(str(tmp_path / "store"))), model=LlamaSpec(shape), options={"bytes_per_token": 3.5})
    meters = meters_of(plan, Ranks(0, 2, 1))
    assert (meters.peak, meters.bytes_per_token) == (1e10, 3.5)
    assert meters.flops_per_token == flops_per_token(Sizes.of(shape), 64)
