"""From a trained router to what serve routes by: a threshold for a cost, written where gateways look for it."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.core.errors import BadInputError, IncompatibleError, PolicyRefusedError, UsageError
from cluster.core.records import Manifest, stable_hash
from cluster.core.storage import Store
from train_jobs.answering.difficulty import AUTO_POLICY, FILE, LIVE, POLICIES, POLICY, Difficulty, RoutingPolicy

KIND, NAME, REPORT = "routers", "router", "report.json"


@dataclass(frozen=True)
class Router:
    """A trained router: its name and version, the model, and its report."""

    reference: str
    model: Difficulty
    report: Mapping[str, Any]


def find_router(store: Store, reference: str = "") -> Router:
    """NAME or NAME@VERSION; empty: the newest called ``router``.

    Raises:
        BadInputError: there is none of that name or version.
        IntegrityError, IncompatibleError: its files are damaged, or of another version of Plinth.
    """
    name, _, version = (reference or NAME).partition("@")
    if name not in store.names(KIND):
        raise BadInputError(f"there is no router {name} yet: `plinth train router --data FILE --name {name}` makes it")
    manifest = store.manifest(KIND, name, version or "latest")
    store.verify(manifest)
    folder = store.artefact(manifest)
    model = Difficulty.from_dict(store.read_json(posixpath.join(folder, FILE)))
    return Router(f"{name}@{manifest.version}", model, store.read_json(posixpath.join(folder, REPORT)))


def at_cost(thresholds: Sequence[Mapping[str, float]], target: float) -> dict[str, float]:
    """The row of a report's ``thresholds`` for a cost: between two of them everything is in proportion."""
    targets = [row["target"] for row in thresholds]
    names = ("threshold", "cost", "quality")
    found = {name: float(np.interp(target, targets, [row[name] for row in thresholds])) for name in names}
    return {"target": target, **found}


def tune(store: Store, router: Router, target: float, asks: str) -> tuple[Manifest, dict[str, float]]:
    """Choose the threshold for a cost and make it what serve routes by.

    Args:
        target: share of the questions that shall go to the larger tier, 0 to 1.
        asks: what embeds questions in the service (``ModelFiles.asks``).

    Returns:
        What was published, and the row ``at_cost``.

    Raises:
        UsageError: the target is no share.
        PolicyRefusedError: the router is not surely better than chance.
        IncompatibleError: it reads vectors of another embedder.
    """
    if not 0 <= target <= 1:
        raise UsageError(f"--target-cost {target:g}: give the share of the calls for the larger tier, 0 to 1")
    judged = router.report["report"]
    if not judged["difference"]["random"]["low"] > 0:
        raise PolicyRefusedError(
            f"the router {router.reference} is not surely better than chance on subjects it has not seen (APGR "
            f"{judged['apgr']['router']['value']:.3f}, from {judged['apgr']['router']['low']:.3f}): `auto` goes on "
            "without it; train one on more questions, of more subjects"
        )
    if router.model.embedder != asks:
        raise IncompatibleError(
            f"the router {router.reference} reads the vectors of another embedder than index.embedder: train one with "
            "this one (`plinth train router`)"
        )
    row = at_cost(router.report["thresholds"], target)
    policy = RoutingPolicy(router.reference, row["threshold"], target, router.model)
    body = json.dumps(policy.to_dict()).encode()
    key = stable_hash({"stage": "routing", "policy": hashlib.sha256(body).hexdigest()})
    folder = posixpath.join(store.staging(key), "artefact")
    store.write(posixpath.join(folder, POLICY), body)
    made = store.publish(
        POLICIES, AUTO_POLICY, folder, run_key=key, inputs={"router": router.reference}, config={"target_cost": target},
        counts=row,
    )  # fmt: skip
    store.move_alias(POLICIES, AUTO_POLICY, LIVE, made.version, why=f"target cost {target:g} of {router.reference}")
    return made, row


def live_policy(store: Store) -> RoutingPolicy | None:
    """What serve routes by; None where nobody tuned a router.

    Raises:
        IntegrityError, IncompatibleError: it is damaged, or of another version of Plinth.
    """
    version = store.alias(POLICIES, AUTO_POLICY, LIVE)
    if version is None:
        return None
    manifest = store.manifest(POLICIES, AUTO_POLICY, version)
    store.verify(manifest)
    return RoutingPolicy.from_dict(store.read_json(posixpath.join(store.artefact(manifest), POLICY)))


def switch_off(store: Store) -> bool:
    """Route without a router from now on; whether there was one."""
    there = store.alias(POLICIES, AUTO_POLICY, LIVE) is not None
    store.remove_alias(POLICIES, AUTO_POLICY, LIVE)
    return there
