"""What a key may ask: models and collections. One that it may not ask is one that is not there. Pure.

Which documents it may read inside a collection is the retriever's affair (``data_jobs.retrieval.views``); here is only
what follows from that for the collection as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.core.access import all_readable, readable
from cluster.core.identity import Principal
from cluster.core.sections.tiers import AUTO
from serve_apps.gateway.protocols import TierState


def may_name(model: str, principal: Principal) -> bool:
    """Whether a key may ask for a model by its name; ``auto`` is a name like others."""
    return not principal.models or model in principal.models


def answering(tiers: Sequence[TierState], principal: Principal) -> list[TierState]:
    """The tiers that a key gets answers of, which are what ``auto`` chooses among: those that it may name, all of them
    where it may name none but ``auto``, and of these the ones that learnt from no document which it may not read: a
    model may say what it has read."""
    named = [name for name in principal.models if name != AUTO]
    return [tier for tier in tiers if (not named or tier.name in named) and all_readable(tier.access, principal)]


def sees(card: dict[str, Any], principal: Principal) -> bool:
    """Whether a collection is there for a key: it may ask it, and read a document of it."""
    if principal.collections and card["collection"] not in principal.collections:
        return False
    labels = card.get("access")
    return not labels or bool(readable(labels, principal))


def as_seen(card: dict[str, Any], principal: Principal) -> dict[str, Any]:
    """What a key is told of a collection that it sees. How many documents others have in it is nobody's business, nor
    by which labels; of the whole nothing is told that counts them."""
    labels = card.get("access")
    told = {name: value for name, value in card.items() if name != "access"}
    if not labels or (mine := readable(labels, principal)) == set(labels):
        return told
    return {**told, "documents": sum(labels[label] for label in mine), "chunks": None, "made_of": None}
