"""`plinth train plan`: a real sweep in this process, points of a file, and what is asked of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from actors.registry.runs import list_runs
from cluster.cli.main import main
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, UsageError
from cluster.core.home import Home
from cluster.core.progress import Silent
from cluster.core.storage import Store
from tests.train_jobs.corpora import SECTION, documents, make_dataset
from tests.train_jobs.planning.test_scaling import points
from train_jobs.data.tokenizer import train_tokenizer
from train_jobs.distributed.ranks import Ranks
from train_jobs.models.shape import Shape
from train_jobs.planning.commands import by_sweep
from train_jobs.planning.outlook import Question, amount, answer
from train_jobs.planning.scaling import fit
from train_jobs.planning.sweep import scaled, widths_of
from train_jobs.trainer import loop

LAW = fit(points((1e6, 4e6, 16e6), (2e7, 1e8, 5e8)), bootstraps=4)


class InProcess:
    """Carries out plans in this process: the real loop, without Ray."""

    size = 1

    def __init__(self) -> None:
        self.ran: list[str] = []

    def carry_out(self, plan: Any, progress: Any) -> None:
        del progress
        self.ran.append(plan.run_id)
        loop.run(plan, Ranks())


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.ci
def test_a_sweep_is_fitted_checked_and_not_trained_again(home: Path, tmp_path: Path) -> None:
    del home
    store, config = Store(str(tmp_path / "store")), PlinthConfig(train=SECTION)
    dataset = make_dataset(store, documents(60))
    tokenizer = train_tokenizer(config, store, dataset, Silent())

    def plan(question: Question, check: bool, workers: InProcess):
        return by_sweep(
            config, store, (dataset, tokenizer), ((16, 32), (6, 12, 24)), question, check, Silent(), workers
        )

    first = InProcess()
    made = plan(Question(price_per_hour=3600.0), True, first)
    assert len(first.ran) == 2 * 3 + 1
    report = store.read_json(f"{store.artefact(made)}/plan.json")
    assert report["law"]["form"] == "E + A/N^a + B/D^a"
    (first_run,) = [run for run in list_runs(store) if run.id == first.ran[0]]
    assert first_run.inputs["dataset"] == f"manual@{dataset.version}"
    assert first_run.inputs["tokenizer"] == f"tiny@{tokenizer.version}"
    assert first_run.versions["torch"]
    assert first_run.hardware["cpus"] >= 1
    losses = {(run["width"], run["steps"]): run["loss"] for run in report["runs"]}
    assert losses[32, 24] < losses[32, 6] < math.log(512) + 0.1
    assert report["target"]["cost"] == pytest.approx(report["target"]["seconds"], rel=0.01)
    assert report["check"]["parameters"] > max(run["parameters"] for run in report["runs"])
    assert abs(report["check"]["off"]) < 0.5
    assert store.read(f"{store.artefact(made)}/plan.png").startswith(b"\x89PNG")

    again = InProcess()
    cheaper = plan(Question(price_per_hour=1.0), False, again)
    assert again.ran == []
    assert cheaper.version != made.version


def test_points_of_a_file(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([{"parameters": p.parameters, "tokens": p.tokens, "loss": p.loss} for p in LAW.points]))
    words = ["train", "plan", "--points", str(path), "--parameters", "1B", "--tokens", "20B", "--device", "H100",
             "--devices", "8", "--price-per-hour", "32"]  # fmt: skip
    assert main([*words, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts["parameters"] == 10**9
    assert counts["seconds"] == pytest.approx(6e9 * 20e9 / (8 * 989e12 * 0.4), rel=0.01)
    assert counts["cost"] == pytest.approx(counts["seconds"] / 3600 * 32, rel=0.01)
    assert counts["loss_low"] <= counts["loss"] <= counts["loss_high"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "E + A/N^a + B/D^b" in shown
    assert "plan.png" in shown
    assert Store(Home(home).store_uri).names("plans") == ["small"]

    for wrong, code in ((["--check"], 2), (["--device", "Abacus"], 3), (["--money", "5", "--tokens", "0"], 2)):
        assert main(["train", "plan", "--points", str(path), *wrong]) == code
    path.write_text('[{"parameters": 5}]')
    assert main(["train", "plan", "--points", str(path)]) == 3
    path.write_text("{}")
    assert main(["train", "plan", "--points", str(path)]) == 3


def test_a_budget_is_divided_by_the_law() -> None:
    found = answer(LAW, Question(hours=10.0, price_per_hour=2.0), 1e14, 6.0)
    assert found["flops"] == pytest.approx(1e14 * 36_000, rel=1e-3)
    assert found["cost"] == pytest.approx(20.0, rel=1e-3)
    by_money = answer(LAW, Question(money=20.0, price_per_hour=2.0), 1e14, 6.0)
    assert by_money["parameters"] == found["parameters"]
    fixed = answer(LAW, Question(hours=10.0, parameters=1e9), 1e14, 6.0)
    assert fixed["parameters"] == 10**9
    assert fixed["loss"]["loss"] >= found["loss"]["loss"]
    with pytest.raises(UsageError, match="price-per-hour"):
        answer(LAW, Question(money=20.0), 1e14, 6.0)
    with pytest.raises(UsageError, match="not both"):
        answer(LAW, Question(hours=1.0, parameters=1e6, tokens=1e6), 1e14, 6.0)
    with pytest.raises(BadInputError, match="no speed"):
        answer(LAW, Question(hours=1.0), 0.0, 6.0)


def test_a_larger_model_needs_more_replicas() -> None:
    traffic = {"requests_per_s": 4.0, "slo_s": 20.0, "serving_tokens_per_s": 400.0, "serving_parameters": 1e8}
    small, large = (answer(LAW, Question(parameters=n, tokens=1e9, **traffic), 0.0, 6.0)["serving"] for n in (1e8, 4e8))
    assert large["seconds_per_answer"] == 4 * small["seconds_per_answer"]
    assert large["replicas"] > small["replicas"]
    with pytest.raises(UsageError, match="--serving-tokens-per-s"):
        answer(LAW, Question(slo_s=5.0, requests_per_s=1.0), 0.0, 6.0)


@pytest.mark.parametrize(
    ("hidden", "heads", "kv_heads"), [(160, 4, 2), (768, 12, 12), (2048, 32, 4), (96, 3, 1), (64, 1, 1)]
)
def test_every_width_of_a_sweep_is_a_model(hidden: int, heads: int, kv_heads: int) -> None:
    section = SECTION.model_copy(update={"hidden": hidden, "heads": heads, "kv_heads": kv_heads, "layers": 8})
    widths = widths_of(section)
    assert widths[-1] == hidden
    sizes = [Shape.of(scaled(section, width, 5), 512).parameters for width in widths]
    assert sizes == sorted(set(sizes))
    with pytest.raises(UsageError, match="one attention head"):
        widths_of(section, [1])


def test_amounts() -> None:
    assert [amount(text) for text in ("125M", "2.5B", "1e9", "20k", "3t")] == [125e6, 2.5e9, 1e9, 2e4, 3e12]
    for wrong in ("", "0", "-1", "nan", "inf", "many"):
        with pytest.raises(UsageError):
            amount(wrong)
