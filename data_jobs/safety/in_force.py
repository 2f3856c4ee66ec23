"""Which heads the guard uses: those that an alias of the store names, or the shipped ones where it names none.

``plinth train safety`` moves it once its gate let new heads pass; taking them back is moving it again. The guard
follows it while it runs (``serve_apps/guards/heads``).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from cluster.core.errors import BadInputError
from cluster.core.storage import LIVE, Store
from data_jobs.safety.head import FILE, SHIPPED, SafetyHead

KIND, NAME = "safety", "safety"


@dataclass(frozen=True)
class InForce:
    """Heads, and what they are called: ``safety@VERSION``, or ``shipped@VERSION``; ``version`` is empty then."""

    head: SafetyHead
    reference: str
    version: str = ""


def shipped() -> InForce:
    """The heads that come with the product."""
    head = SafetyHead.from_json(SHIPPED.read_text(encoding="utf-8"))
    return InForce(head, f"shipped@{head.version}")


def in_force(store: Store) -> InForce:
    """The heads behind the alias.

    Raises:
        IntegrityError, IncompatibleError: they are damaged, or of another version of Plinth.
        BadInputError: the version it names is gone.
    """
    version = store.alias(KIND, NAME, LIVE)
    return shipped() if version is None else of_version(store, version)


def before(store: Store) -> InForce:
    """The heads that ``roll_back`` would put back.

    Raises:
        BadInputError: the shipped ones are in force.
        PlinthError: as ``in_force``.
    """
    moves = store.alias_history(KIND, NAME, LIVE)
    if not moves:
        raise BadInputError("the shipped heads are in force, and there are none before them")
    return of_version(store, moves[-2]["version"]) if len(moves) > 1 else shipped()


def of_version(store: Store, version: str) -> InForce:
    """One published version. Raises as ``in_force``."""
    manifest = store.manifest(KIND, NAME, version)
    store.verify(manifest)
    body = store.read(posixpath.join(store.artefact(manifest), FILE))
    reference = f"{NAME}@{manifest.version}"
    return InForce(SafetyHead.from_json(body.decode(), reference), reference, manifest.version)


def roll_back(store: Store) -> None:
    """Put the heads before back; twice goes two back, at last to the shipped ones.

    Raises:
        BadInputError: the shipped ones are in force, or the version before is gone.
    """
    if len(store.alias_history(KIND, NAME, LIVE)) == 1:
        store.remove_alias(KIND, NAME, LIVE)
    else:
        store.roll_back_alias(KIND, NAME, LIVE)
