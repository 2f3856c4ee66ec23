"""Decisions of people about what the guard found: which of them only judge, and whether heads that learnt from the
others may go live (``actors.policies.heads``).

A verdict is an artefact, passed or not. One that passed moves the alias that the guard follows; taking it back is
``plinth review rollback``.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.policies.heads import by_chance, decide
from actors.review.decisions import REVIEWED
from cluster.core.config import PlinthConfig
from cluster.core.progress import Progress
from cluster.core.records import Manifest
from cluster.core.run_keys import RunKey, sections_but
from cluster.core.storage import LIVE, Store
from cluster.core.telemetry import log_event
from data_jobs.corpus.splits import is_held_out
from data_jobs.safety.head import SafetyHead, pieces
from data_jobs.safety.in_force import KIND, NAME, InForce, in_force, of_version
from train_jobs.recipes.rows import Row
from train_jobs.recipes.safety_rows import BENIGN

VERDICTS, REPORT = "safety-verdicts", "report.json"
HELD_OUT = 0.4  # of the decisions
KEY = RunKey("safety_gate", (__name__,), outside=sections_but())  # of trust.review it holds the values
Flags = npt.NDArray[np.bool_]
# Vectors, float32 [n, d].
Embed = Callable[[Sequence[str]], npt.ArrayLike]

_WORD = re.compile(r"[^\W\d_]+")


def is_decision(row: Row) -> bool:
    """Whether people decided about it in the review queue."""
    return str(row["set"]).startswith(REVIEWED)


def wording(text: str) -> str:
    """A text's letters: those that differ in figures, marks and spaces only are on one side."""
    return " ".join(_WORD.findall(text.casefold())) or text


def split(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows to learn from, and decisions that only judge, each wording once, as it was decided last.

    The hash of the wording decides, so that a decision keeps its side in every export. No row with the wording of a
    held-out one is learnt from, whichever set it is in.
    """
    decided = ((wording(row["text"]), row) for row in rows if is_decision(row))
    held = {name: row for name, row in decided if is_held_out(name, HELD_OUT)}
    return [row for row in rows if wording(row["text"]) not in held], list(held.values())


def judge(
    config: PlinthConfig, store: Store, made: Manifest, report: Mapping[str, Any], held: Sequence[Row], asks: str,
    embed: Embed, progress: Progress,
) -> Manifest:  # fmt: skip
    """Compare new heads with those in force, publish the verdict, and where they passed, let them answer.

    Heads that are in force already get the verdict that let them.

    Args:
        made: the new heads; ``report``: theirs, with the figures ``across`` and ``across_without``.
        held: decisions that none of the recipe's heads learnt from.
        asks: whose vectors ``embed`` gives.

    Raises:
        PlinthError: the heads in force cannot be read.
    """
    before, after = in_force(store), of_version(store, made.version)
    if before.version == after.version and (known := _passed(store, after)):
        return known
    section = config.trust.review
    settings = section.model_dump(exclude={"keep_days"})
    inputs = {"heads": after.reference, "before": before.reference, "data": made.inputs["data"]}
    key = KEY(inputs=inputs, config=settings)
    if (verdict := store.find_run(key)) is None:
        progress.stage("judge", len(held), "decisions")
        told = {
            "inputs": inputs, "tries": 1 + _refused(store, before),
            "decisions": on_decisions(held, [_usable(before, asks), after.head], embed),
            "heads": {name: across(name, report["heads"].get(name), after.head, _usable(before, asks))
                      for name in sorted({*report["heads"], *before.head.heads})},
        }  # fmt: skip
        told["decision"] = decide(told, section).to_dict()
        verdict = _publish(store, key, told, settings)
    if verdict.counts["passed"]:
        store.move_alias(KIND, NAME, LIVE, after.version, why=f"verdict {verdict.name}@{verdict.version}")
    return verdict


def _usable(found: InForce, asks: str) -> SafetyHead | None:
    """Heads that read other vectors find nothing in these: no guard can use them."""
    return found.head if found.head.embedder == asks else None


def on_decisions(held: Sequence[Row], two: Sequence[SafetyHead | None], embed: Embed) -> dict[str, Any]:
    """What the heads before and after say of held-out decisions, as the guard would: any head, any piece of a text."""
    harmful = np.array([row["label"] != BENIGN for row in held], dtype=bool)
    cut = [pieces(row["text"]) for row in held]
    vectors = np.asarray(embed([one for own in cut for one in own]), dtype=np.float32) if held else np.zeros((0, 1))
    starts = np.cumsum([0, *map(len, cut)])[:-1]
    flags = [_flags(head, vectors, starts, len(held)) for head in two]
    right = [found == harmful for found in flags]
    better, worse = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    shares = [{"missed": _share(~found[harmful]), "flagged": _share(found[~harmful])} for found in flags]
    return {
        "harmful": int(harmful.sum()), "harmless": int((~harmful).sum()), "before": shares[0], "after": shares[1],
        "better": better, "worse": worse, "chance": by_chance(better, worse),
    }  # fmt: skip


def _flags(head: SafetyHead | None, vectors: npt.NDArray[Any], starts: npt.NDArray[Any], texts: int) -> Flags:
    found = np.zeros(texts, dtype=bool)
    if head is not None and texts:
        for category, scores in head.scores(vectors).items():
            found |= np.maximum.reduceat(scores, starts) >= head.heads[category].threshold
    return found


def _share(flags: Flags) -> float | None:
    return round(float(flags.mean()), 4) if len(flags) else None


def across(
    category: str, own: Mapping[str, Any] | None, after: SafetyHead, before: SafetyHead | None
) -> dict[str, Any]:
    """What the decisions do to one head in sets that were left out of its fit, and whether anything is lost with it."""
    had = before is not None and category in before.heads
    may = had and before is not None and before.action(category) == "block"
    if own is None:
        return {"there": False, "lost": int(had)}
    lost = may and after.action(category) != "block"
    return {"there": True, "lost": int(lost), "without": own.get("across_without"), "with": own.get("across")}


def _passed(store: Store, heads: InForce) -> Manifest | None:
    """The verdict that let these heads answer."""
    own = (one for one in store.versions(VERDICTS, NAME) if one.inputs.get("heads") == heads.reference)
    return next((one for one in own if one.counts["passed"]), None)


def _refused(store: Store, before: InForce) -> int:
    """How many new heads were refused against the same ones."""
    own = (one for one in store.versions(VERDICTS, NAME) if one.inputs.get("before") == before.reference)
    return sum(not one.counts["passed"] for one in own)


def _publish(store: Store, key: str, told: Mapping[str, Any], settings: Mapping[str, Any]) -> Manifest:
    folder, decisions = posixpath.join(store.staging(key), "artefact"), told["decisions"]
    store.write(posixpath.join(folder, REPORT), json.dumps(told, indent=1, sort_keys=True).encode())
    counts = {
        "passed": told["decision"]["passed"], "tries": told["tries"],
        **{name: decisions[name] for name in ("harmful", "harmless", "before", "after")},
    }  # fmt: skip
    verdict = store.publish(
        VERDICTS, NAME, folder, run_key=key, inputs=dict(told["inputs"]), config=dict(settings), counts=counts
    )
    log_event("train", "safety_judged", version=verdict.version, heads=told["inputs"]["heads"], counts=verdict.counts)
    return verdict
