"""A router between a small tier and a large one: how likely the small one's answer to a question suffices.

It learns from questions that both were asked and somebody judged. Subjects are kept apart: it is fitted on some, a
threshold is chosen on others (``plinth router tune``), and what is told of it was measured on a third lot, once, beside
chance and a TF-IDF baseline fitted on the same rows. A fit of seconds in this process, which needs no cluster.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from train_jobs.answering.difficulty import FILE, Difficulty, inputs_of
from train_jobs.evaluation.routing import Outcomes, compared, curve, oracle, table, thresholds
from train_jobs.publishing.artefact import ALIAS
from train_jobs.publishing.router_card import cost_quality, render
from train_jobs.recipes.calibration import expected_error, reliability
from train_jobs.recipes.router_fit import Fitted, fit, fit_baseline
from train_jobs.recipes.router_rows import SIDES, check_sides, outcomes_of, read_outcomes, sides_of
from train_jobs.recipes.rows import Row

KIND = "routers"
REPORT, CARD, CURVE = "report.json", "card.md", "curve.png"
BASELINE = "tf-idf"
AIM = 0.03  # APGR above the baseline
BATCH = 64  # texts between two steps of the progress
KEY = RunKey("router", (__name__,), outside=sections_but())
# Question vectors, float32 [n, d].
Embed = Callable[[Sequence[str]], npt.ArrayLike]


def train_router(
    config: PlinthConfig, store: Store, data: str, name: str, progress: Progress, licence: str = "",
    embed: tuple[str, Embed] | None = None,
) -> Manifest:  # fmt: skip
    """Train a router on rows of {prompt, subject, weak_correct, strong_correct} and publish ``routers/<name>``.

    An identical earlier run is reused.

    Args:
        data: a JSONL file; either outcome is true, false, or a quality from 0 to 1.
        licence: of the data, for the card.
        embed: the embedder of the questions, and its ``asks``; None: the one of the configuration.

    Raises:
        BadInputError: too few subjects, or nothing to route (``check_sides``).
        PlinthError: what ``load_embedder`` raises.
    """
    found = read_outcomes(data)
    rows: dict[str, list[Row]] = {side: [] for side in SIDES}
    where = sides_of([row["key"] for row in found.train])
    for row in found.train:
        rows[where[row["key"]]].append(row)
    outcomes = {side: outcomes_of(own) for side, own in rows.items()}
    check_sides(outcomes, data)
    asks, encode = embed or _embedder(config)
    inputs = {"data": found.reference, "embedder": asks, **({"licence": licence} if licence else {})}
    key = KEY(inputs=inputs, name=name)
    if (made := store.find_run(key)) is None:
        vectors = {side: _vectors([row["question"] for row in own], encode, progress, side)
                   for side, own in rows.items()}  # fmt: skip
        progress.stage("fit")
        fitted, report = learnt(rows, outcomes, vectors, asks)
        report |= {"inputs": inputs, "licence": licence, "refused_rows": len(found.refused)}
        files = files_of(name, fitted.model, report)
        folder = posixpath.join(store.staging(key), "artefact")
        for path, body in files.items():
            store.write(posixpath.join(folder, path), body)
        made = store.publish(KIND, name, folder, run_key=key, inputs=inputs, counts=counts_of(report))
        log_event("train", "router_published", name=name, version=made.version, counts=made.counts)
    store.move_alias(KIND, made.name, ALIAS, made.version, why=f"trained on {inputs['data']}")
    return made


def learnt(
    rows: Mapping[str, Sequence[Row]], outcomes: Mapping[str, Outcomes], vectors: Mapping[str, npt.ArrayLike], asks: str
) -> tuple[Fitted, dict[str, Any]]:
    """A fitted router, and the report of it: made of the side ``report``, with thresholds of the side ``tune``."""
    questions = {side: [row["question"] for row in own] for side, own in rows.items()}
    fitted = fit(inputs_of(questions["train"], vectors["train"]), outcomes["train"], asks)
    baseline, strength = fit_baseline(questions["train"], outcomes["train"])
    found = {side: fitted.model.suffices(questions[side], vectors[side]) for side in ("tune", "report")}
    judged = judge(found["report"], baseline(questions["report"]), outcomes["report"])
    report = {
        "sides": {
            side: {"rows": len(own.small), "subjects": len(set(own.subjects)), "names": sorted(set(own.subjects)),
                   "small": round(float(own.small.mean()), 4), "large": round(float(own.large.mean()), 4)}
            for side, own in outcomes.items()
        },
        "chosen": {name: round(value, 6) for name, value in fitted.chosen.items()} | {"baseline_strength": strength},
        "report": judged, "verdict": verdict(judged),
        "thresholds": thresholds(found["tune"], found["report"], outcomes["report"]),
    }  # fmt: skip
    return fitted, report


def judge(suffices: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64], outcomes: Outcomes) -> dict[str, Any]:
    """What is told of probabilities [n] that the small tier suffices, beside those of the baseline."""
    right = curve(-suffices, outcomes)
    said = reliability(suffices, outcomes.suffices)
    return {
        **compared(-suffices, {BASELINE: -baseline}, outcomes),
        "oracle": round(curve(oracle(outcomes), outcomes).apgr, 4),
        "calls_for_half_the_gap": _rounded(right.cost_of(0.5)), "calls_for_80_percent": _rounded(right.cost_of(0.8)),
        "ece": round(expected_error(said), 4), "reliability": said,
        "said": round(float(suffices.mean()), 4), "suffices": round(float(outcomes.suffices.mean()), 4),
        "curve": table(right), "curve_baseline": table(curve(-baseline, outcomes)),
    }  # fmt: skip


def verdict(judged: Mapping[str, Any]) -> str:
    """One sentence: whether it is better than chance and the baseline, and whether the aim was reached."""
    gained = judged["difference"][BASELINE]
    better = "better than chance" if passed(judged) else "NOT surely better than chance"
    aim = "reached" if min(gained["value"], judged["difference"]["random"]["value"]) >= AIM else "missed"
    sure = "" if gained["low"] > 0 else ", though not surely so"
    above = f"{gained['value']:+.3f} to the baseline{sure}"
    return f"It is {better}, {above}; the aim of {AIM:+.2f} to chance and baseline is {aim}."


def passed(judged: Mapping[str, Any]) -> bool:
    """Its gate: the whole interval of its APGR lies above what chance gets."""
    return bool(judged["difference"]["random"]["low"] > 0)


def counts_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest counts."""
    judged = report["report"]
    return {
        **{f"{side}_rows": own["rows"] for side, own in report["sides"].items()},
        "subjects": sum(own["subjects"] for own in report["sides"].values()),
        "apgr": judged["apgr"]["router"], "apgr_baseline": judged["apgr"][BASELINE],
        "better_than_chance_by": judged["difference"]["random"],
        "better_than_baseline_by": judged["difference"][BASELINE], "ece": judged["ece"], "passed": passed(judged),
        **({"refused_rows": report["refused_rows"]} if report["refused_rows"] else {}),
    }  # fmt: skip


def files_of(name: str, model: Difficulty, report: Mapping[str, Any]) -> dict[str, bytes]:
    """The router's folder: the model, its report with the thresholds to choose from, its card and picture."""
    judged, own = report["report"], report["sides"]["report"]
    title = f"{name}: APGR {judged['apgr']['router']['value']:.3f} on {own['subjects']} subjects not seen before"
    curves = {"router": judged["curve"], BASELINE: judged["curve_baseline"]}
    return {
        FILE: json.dumps(model.to_dict()).encode(),
        REPORT: json.dumps(report, indent=1).encode(),
        CARD: render(name, report).encode(),
        CURVE: cost_quality(curves, (own["small"], own["large"]), title),
    }


def _embedder(config: PlinthConfig) -> tuple[str, Embed]:
    from data_jobs.retrieval.embedder import load_embedder

    loaded = load_embedder(config.index, threads=config.serve.embed_threads)
    return loaded.asks, lambda texts: loaded.encode(texts, "query")


def _vectors(questions: Sequence[str], encode: Embed, progress: Progress, side: str) -> npt.NDArray[np.float32]:
    progress.stage(f"embed {side}", len(questions), "questions")
    parts = []
    for start in range(0, len(questions), BATCH):
        batch = questions[start : start + BATCH]
        parts.append(np.asarray(encode(batch), dtype=np.float32))
        progress.advance(len(batch))
    return np.concatenate(parts)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
