"""Safety heads: how much a text looks like an injection, or like a harmful request, by its vector (``safety.encoder``).

A fit of seconds in this process, which needs no cluster. What is told of a head was measured on sets that it had not
seen (``safety_fit``), and decides whether it may block (``data_jobs.safety.head.BARS``). Where decisions of the review
queue are among the rows, heads of the usual name are held against those in force, and go live if they are better
(``safety_gate``).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress
from cluster.core.records import Manifest, stable_hash
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from data_jobs.safety.head import BARS, FILE, SafetyHead
from data_jobs.safety.in_force import KIND, NAME
from train_jobs.publishing.artefact import ALIAS
from train_jobs.publishing.safety_card import over_blocking, render
from train_jobs.recipes import safety_gate
from train_jobs.recipes.rows import Row
from train_jobs.recipes.safety_fit import Fitted, fit_head
from train_jobs.recipes.safety_rows import BENIGN, WRITTEN, read_texts, written_rows

REPORT, CARD, CURVE = "report.json", "card.md", "curve.png"
BATCH = 64  # texts between two steps of the progress
LEAST_SETS = 3  # of those handed in: one left out must leave two
KEY = RunKey("safety", (__name__,), outside=sections_but())
# Vectors, float32 [n, d].
Embed = Callable[[Sequence[str]], npt.ArrayLike]


def train_safety(
    config: PlinthConfig, store: Store, data: str, name: str, progress: Progress, licence: str = "",
    embed: tuple[str, Embed] | None = None, judge: bool = False,
) -> Manifest:  # fmt: skip
    """Train safety heads on rows of {text, label, set, slice?} and publish ``safety/<name>``; returns them, or the
    verdict on them (``safety-verdicts``, counts whether they ``passed``) where there was one.

    An identical earlier run is reused. A category none of whose rows are handed in gets no head. Of the decisions of
    the review queue some only judge; what is called otherwise than the heads that the guard follows is not judged.

    Args:
        data: a JSONL file; labels are benign, injection, harmful; slices of benign rows business, look_alike.
        licence: of the data, for the card.
        embed: the encoder's ``asks``, and what gives its vectors; None: the shipped one.
        judge: the rows, but for decisions, only judge: the heads learn from what was written for them.

    Raises:
        BadInputError: too few sets, or nothing to tell apart.
        PlinthError: what ``load_encoder`` raises.
    """
    found = read_texts(data)
    learnt, held = safety_gate.split(found.train)
    check_sets(learnt, data)
    decided = any(map(safety_gate.is_decision, found.train))
    asks, encode = embed or _encoder(config)
    said = {"licence": licence, "judge": "rows" if judge else ""}
    inputs = {"data": found.reference, "encoder": asks, **{name: value for name, value in said.items() if value}}
    key = KEY(inputs=inputs, name=name)
    if (made := store.find_run(key)) is None:
        known = {safety_gate.wording(row["text"]) for row in learnt}
        rows = [*learnt, *(row for row in written_rows() if safety_gate.wording(row["text"]) not in known)]
        vectors = _vectors([row["text"] for row in rows], encode, progress)
        progress.stage("fit")
        fitted = {one: fit_head(one, rows, vectors, judge) for one in categories_of(learnt)}
        if decided:
            without = np.array([not safety_gate.is_decision(row) for row in rows])
            others = [row for row, wanted in zip(rows, without, strict=True) if wanted]
            for one, own in fitted.items():
                own.report["across_without"] = fit_head(one, others, vectors[without], judge).report["across"]
        files = files_of(name, asks, fitted, {"inputs": inputs, "licence": licence, "refused_rows": len(found.refused)})
        folder = posixpath.join(store.staging(key), "artefact")
        for path, body in files.items():
            store.write(posixpath.join(folder, path), body)
        counts = {one: own.report["measured"] | {"passed": own.report["passed"]} for one, own in fitted.items()}
        made = store.publish(KIND, name, folder, run_key=key, inputs=inputs, counts=counts)
        log_event("train", "safety_published", name=name, version=made.version, counts=made.counts)
    store.move_alias(KIND, made.name, ALIAS, made.version, why=f"trained on {inputs['data']}")
    if not decided or name != NAME:
        return made
    report = store.read_json(posixpath.join(store.artefact(made), REPORT))
    return safety_gate.judge(config, store, made, report, held, asks, encode, progress)


def check_sets(rows: Sequence[Row], path: str) -> None:
    """Refuse rows that tell nothing across sets.

    Raises:
        BadInputError: too few sets, no benign row, or no other.
    """
    sets, labels = {row["set"] for row in rows}, {row["label"] for row in rows}
    if len(sets) < LEAST_SETS or BENIGN not in labels or not categories_of(rows):
        raise BadInputError(
            f"{path} has {len(sets)} sets of {', '.join(sorted(labels)) or 'nothing'}; at least {LEAST_SETS} are "
            f"wanted, benign rows, and rows of {' or '.join(BARS)}", path=path,
        )  # fmt: skip


def categories_of(rows: Sequence[Row]) -> list[str]:
    """The categories that rows were handed in of, in the order of ``BARS``."""
    labels = {row["label"] for row in rows if not row["set"].startswith(WRITTEN)}
    return [category for category in BARS if category in labels]


def files_of(name: str, asks: str, fitted: Mapping[str, Fitted], about: Mapping[str, Any]) -> dict[str, bytes]:
    """The folder: the heads, their report, card and picture."""
    heads = {category: own.head for category, own in fitted.items()}
    version = stable_hash({category: head.weights for category, head in heads.items()})[:12]
    head = SafetyHead(asks, version, heads)
    report = {**about, "version": version, "heads": {category: own.report for category, own in fitted.items()}}
    return {
        FILE: head.to_json().encode(),
        REPORT: json.dumps(report, indent=1).encode(),
        CARD: render(name, report).encode(),
        CURVE: over_blocking(report["heads"], f"{name}: sets that it had not seen"),
    }


def _encoder(config: PlinthConfig) -> tuple[str, Embed]:
    from data_jobs.safety.encoder import load_encoder

    loaded = load_encoder(threads=config.serve.embed_threads)
    return loaded.asks, lambda texts: loaded.encode(texts, "query")


def _vectors(texts: Sequence[str], encode: Embed, progress: Progress) -> npt.NDArray[np.float32]:
    progress.stage("embed", len(texts), "texts")
    parts = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        parts.append(np.asarray(encode(batch), dtype=np.float32))
        progress.advance(len(batch))
    return np.concatenate(parts)
