"""Which tier answers: a pure decision with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serve_apps.errors import UnavailableError, model_not_found

AUTO = "auto"


@dataclass(frozen=True)
class RouteDecision:
    """``reason`` is a closed set: ``requested`` (the client named the tier) | ``only_tier`` | ``default_tier``."""

    tier: str
    reason: str


def known_models(tiers: Sequence[str]) -> tuple[str, ...]:
    """The names a client may send as ``model``."""
    return (AUTO, *tiers)


def route(model: str, tiers: Sequence[str]) -> RouteDecision:
    """Choose among ``tiers``, which are in order of preference.

    Raises:
        ApiError: 404, ``model`` is neither ``auto`` nor a tier.
        UnavailableError: no tier is there to choose from.
    """
    if model in tiers:
        return RouteDecision(model, "requested")
    if model != AUTO:
        raise model_not_found(model, known_models(tiers))
    if not tiers:
        raise UnavailableError("no tier is ready to answer")
    return RouteDecision(tiers[0], "only_tier" if len(tiers) == 1 else "default_tier")
