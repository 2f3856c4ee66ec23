"""What audits found of a published model, by its version: small numbers for its card and for the gate."""

from __future__ import annotations

from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.records import Manifest
from cluster.core.storage import Store

KIND = "audits"


def record(store: Store, model: Manifest, made: Manifest) -> None:
    """Make a published audit the newest one of a model's, or a checkpoint's, version."""
    store.move_alias(KIND, model.name, model.version, made.version, why="memorization audit")


def numbers_of(store: Store, model: Manifest) -> dict[str, Any]:
    """The numbers of a version's newest audit, else of the checkpoint it was published from, and ``report``, where the
    whole of it is; empty where there is none."""
    for reference in (f"{model.name}@{model.version}", model.inputs.get("checkpoint", "")):
        name, _, version = reference.partition("@")
        if version and (found := store.alias(KIND, name, version)):
            try:
                return {**store.manifest(KIND, name, found).counts, "report": f"{name}@{found}"}
            except BadInputError:  # cleared away
                continue
    return {}
