"""``plinth train plan``: its arguments and its work."""

from __future__ import annotations

import argparse
import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, UsageError
from cluster.core.progress import Progress
from cluster.core.records import Manifest, stable_hash
from cluster.core.storage import Store
from train_jobs.planning.outlook import Question, amount, answer, judged, read_points
from train_jobs.planning.scaling import Law, fit

KIND, REPORT, CURVE = "plans", "plan.json", "plan.png"
DETAILS = """\
Trains small models of several sizes and lengths through the ordinary pretraining (kept and reused: the same command
again trains nothing), fits a scaling law with its uncertainty, and predicts the loss, time and cost of a larger run.
The law knows the scatter of its points, not whether it holds beyond them: --check trains one larger model and
compares.

  plinth train plan --check                              ten times the largest run, and a check
  plinth train plan --parameters 125M --tokens 2.5B --price-per-hour 4 --device H100
  plinth train plan --money 500 --price-per-hour 32 --device H100 --devices 8
  plinth train plan --points runs.json --parameters 1B   a sweep from elsewhere: [{"parameters", "tokens", "loss"}]"""


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """What is swept, what is asked, and with which machine and traffic."""
    parser.add_argument("--dataset", default="", help="dataset, NAME or NAME@VERSION (default: the newest prepared)")
    parser.add_argument("--tokenizer", default="", help="NAME or NAME@VERSION (default: the latest of this model name)")
    parser.add_argument("--name", help="name of the model (default: train.name)")
    parser.add_argument("--widths", default="", help="widths of the sweep, comma-separated (default: 1/4 to 1 of ours)")
    parser.add_argument("--lengths", default="", help="their lengths in steps, comma-separated (default: 30,60,120)")
    parser.add_argument("--points", type=Path, metavar="FILE", help="JSON list of finished runs instead of a sweep")
    parser.add_argument("--check", action="store_true", help="train one larger model: predicted against got")
    parser.add_argument("--parameters", type=amount, default=0.0, help="size to plan: 125M, 1e9")
    parser.add_argument("--tokens", type=amount, default=0.0, help="tokens to train it on: 2.5B")
    parser.add_argument("--hours", type=amount, default=0.0, help="or a budget of hours, divided by the law")
    parser.add_argument("--money", type=amount, default=0.0, help="or a budget of money, with --price-per-hour")
    parser.add_argument("--price-per-hour", type=amount, default=0.0, help="of all devices together")
    parser.add_argument("--device", default="", help="accelerator to plan for: H100, A100 (default: this machine)")
    parser.add_argument("--devices", type=int, default=1, help="how many of them (default 1)")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of their peak that is reached (default 0.4)")
    parser.add_argument("--requests-per-s", type=amount, default=0.0, help="traffic to serve")
    parser.add_argument("--answer-tokens", type=amount, default=128.0, help="tokens of an answer (default 128)")
    parser.add_argument("--slo-s", type=amount, default=0.0, help="seconds within which 95 %% of answers are complete")
    parser.add_argument("--serving-tokens-per-s", type=amount, default=0.0,
                        help="of one replica, as `plinth bench serve --model NAME` measures")  # fmt: skip
    parser.add_argument("--serving-parameters", type=amount, default=0.0, help="size of that model (default: the same)")


def run_plan(args: argparse.Namespace, progress: Progress) -> Manifest:
    """Sweep or read points, fit, predict, and publish ``plans/<train.name>``.

    Raises:
        BadInputError: too few points, no data, or an objective that cannot be met.
        UsageError: contradicting or missing options.
    """
    from cluster.core.home import Home
    from train_jobs.arguments import configure

    home = Home.from_env()
    config, store = configure(args, home), Store(home.store_uri)
    question = Question(**{name: getattr(args, name) for name in Question.__dataclass_fields__})
    if config.train.model:
        raise UsageError("train.model: a sweep trains the own Llama in several sizes; leave it out, or give --points")
    if args.points is not None:
        if args.check:
            raise UsageError("--check trains a larger model of the sweep: it does not go with --points")
        return from_file(args.points, question, config, store, progress)
    from cluster.connect import connected
    from data_jobs.commands import find_dataset
    from train_jobs.arguments import find

    widths, lengths = whole_numbers("--widths", args.widths), whole_numbers("--lengths", args.lengths)
    dataset = find_dataset(store, args.dataset)
    tokenizer = find(store, "tokenizers", args.tokenizer or config.train.name, "plinth train tokenizer")
    with connected(home):
        from train_jobs.build_model import WorkersOnDemand

        with WorkersOnDemand(config, store) as workers:
            return by_sweep(config, store, (dataset, tokenizer), (widths, lengths), question, args.check, progress,
                            workers)  # fmt: skip


def by_sweep(
    config: PlinthConfig, store: Store, inputs: tuple[Manifest, Manifest],
    shapes: tuple[Sequence[int], Sequence[int]], question: Question, check: bool, progress: Progress, workers: Any,
) -> Manifest:  # fmt: skip
    """The plan of a sweep over a dataset with a tokenizer (``inputs``).

    Args:
        shapes: widths and lengths; empty for the defaults.
        check: train one larger model, and compare.
        workers: a ``launch.TrainingWorkers``.
    """
    from train_jobs.planning.sweep import LARGER, STEPS, scaled, sweep, widths_of

    dataset, tokenizer = inputs
    widths, lengths = widths_of(config.train, shapes[0]), sorted(set(shapes[1] or STEPS))
    runs = list(sweep(config, store, dataset, tokenizer, widths, lengths, progress, workers))
    progress.stage("fit")
    law = fit([run.point for run in runs])
    largest = max(runs, key=lambda run: (run.point.parameters, run.point.tokens))
    found = answer(law, question, largest.flops_per_s, largest.flops_per_token / largest.point.parameters)
    report: dict[str, Any] = {"law": law.to_dict(), "runs": [run.to_dict() for run in runs], "target": found}
    if check:
        width = scaled(config.train, round(LARGER * widths[-1]), 1).hidden
        (larger,) = sweep(config, store, dataset, tokenizer, [width], lengths[-1:], progress, workers)
        report["check"] = {**judged(law, larger.point), "checkpoint": larger.checkpoint}
    names = {"dataset": dataset, "tokenizer": tokenizer}
    return publish(store, config.train.name, law, report, {k: f"{m.name}@{m.version}" for k, m in names.items()})


def from_file(path: Path, question: Question, config: PlinthConfig, store: Store, progress: Progress) -> Manifest:
    """The plan of runs that a file lists.

    Raises:
        BadInputError: it cannot be read, or holds no list of points.
    """
    progress.stage("fit")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"cannot read the points in {path}: {error}") from None
    if not isinstance(rows, list):
        raise BadInputError(f"{path} must hold a JSON list of runs, each with parameters, tokens and loss")
    law = fit(read_points(rows))
    largest = max(law.points, key=lambda point: (point.parameters, point.tokens))
    speed = 6.0 * largest.parameters * largest.tokens / largest.seconds if largest.seconds else 0.0
    return publish(
        store, config.train.name, law, {"law": law.to_dict(), "target": answer(law, question, speed, 6.0)}, {}
    )


def publish(store: Store, name: str, law: Law, report: dict[str, Any], inputs: dict[str, str]) -> Manifest:
    """Write the report and its curve as ``plans/<name>``; the same report is the same version."""
    from train_jobs.planning.curve import scaling_curve

    key = stable_hash({"stage": "plan", "name": name, "report": report})
    folder = store.staging(f"plan-{key}")
    store.write(posixpath.join(folder, REPORT), json.dumps(report, indent=1).encode())
    store.write(posixpath.join(folder, CURVE), scaling_curve(law, report["target"], report.get("check")))
    target = report["target"]
    counts = {
        "runs": len(law.points), "law": law.form.name, **{k: target[k] for k in ("parameters", "tokens")},
        "loss": target["loss"]["loss"], "loss_low": target["loss"]["low"], "loss_high": target["loss"]["high"],
        **{k: target[k] for k in ("seconds", "cost") if k in target},
    }  # fmt: skip
    if serving := target.get("serving"):
        counts["replicas"] = serving["replicas"]
    if check := report.get("check"):
        counts |= {"check_predicted": check["predicted"]["loss"], "check_got": check["got"], "check_off": check["off"]}
    made = store.publish(KIND, name, folder, run_key=key, inputs=inputs, counts=counts)
    store.move_alias(KIND, name, "latest", made.version, why=f"plan {key}")
    return made


def whole_numbers(option: str, text: str) -> list[int]:
    """``64,128`` as numbers.

    Raises:
        UsageError: not whole numbers above 0.
    """
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise UsageError(f"{option} {text!r}: write whole numbers with commas, for example 64,128")
    return found
