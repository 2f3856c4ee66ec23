"""Which tier answers: a pure decision with its reason.

``auto`` chooses among the tiers that passed their gate. What decides is measured, not guessed: the gate's score of each
tier on held-out questions whose support was like this question's; among tiers about as good, the one with the lower
price, and between equals the one that answers sooner, counting the queue in front of it. Tiers are told apart by what
they are (``TierState``), never by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cluster.core.sections.tiers import AUTO
from serve_apps.errors import UnavailableError, model_not_found
from serve_apps.gateway.protocols import Band, TierState

if TYPE_CHECKING:
    from serve_apps.routing.learned import Suffices

AS_GOOD = 0.02  # scores (0 to 1) closer than this count as equal: gates measure on a few hundred questions
FEWEST = 10  # a band with fewer questions says nothing; all bands together are used then


@dataclass(frozen=True)
class Features:
    """What a decision looks at.

    Attributes:
        support: probability that the passages support an answer (``answering.abstention``).
        supported: whether that is enough to answer at all.
        names_document: the question names a retrieved document itself ("what does shutil.copy do").
        form: it asks for more than sentences: a list, an example, both sides of a comparison.
    """

    support: float = 1.0
    supported: bool = True
    names_document: bool = False
    form: bool = False


@dataclass(frozen=True)
class RouteDecision:
    """``reason`` is a closed set: ``requested`` (the client named the tier) | ``only_tier`` | ``unsupported`` (the
    passages carry no answer: the tier that abstains for least) | ``names_document`` | ``form`` (the others answer in
    sentences) | ``measured_better`` | ``cheaper_as_good`` | ``less_loaded`` | ``small_suffices`` (a larger tier
    measured better, and the learned router says that the small one's answer will do) | ``fallback`` (the tier chosen
    was down) | ``asleep`` (it is being started) | ``switched_off`` (it is external, and somebody switched it off) |
    ``model_abstained`` (it did not know) | ``escalated`` (the answer of the tier chosen was not borne out,
    ``routing/cascade``).
    ``considered`` holds measured score and wait of each candidate, ``learned`` what the learned router said where it
    was asked; ``wakes`` is the tier to start for the next ones. ``cascade``, where the first answer was doubted, says
    ``from`` which tier ``to`` which one (empty: none) it went, ``why``, how many ``tokens`` the first one cost, and
    what ``held`` it back."""

    tier: str
    reason: str
    considered: dict[str, dict[str, float]] = field(default_factory=dict)
    wakes: str = ""
    learned: dict[str, Any] = field(default_factory=dict)
    cascade: dict[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As ``plinth.route`` has it."""
        more = {"learned": self.learned, "cascade": self.cascade}
        told = {"reason": self.reason, "considered": self.considered}
        return told | {name: value for name, value in more.items() if value}


def known_models(tiers: Sequence[TierState]) -> tuple[str, ...]:
    """The names a client may send as ``model``: also of an external tier that is not ready, as another one answers for
    it."""
    return (AUTO, *(tier.name for tier in tiers if tier.ready or tier.external))


def route(
    model: str, tiers: Sequence[TierState], features: Features | None = None, suffices: Suffices | None = None
) -> RouteDecision:
    """Choose a tier.

    Args:
        tiers: what is deployed, ready or not; one of them at most is the fallback.
        features: of question and passages.
        suffices: what the learned router says of the question, where it was asked.

    Raises:
        ApiError: 404, ``model`` is neither ``auto`` nor a ready tier.
        UnavailableError: no tier is there to choose from.
    """
    features = features or Features()
    if model != AUTO:
        if model in known_models(tiers):
            return RouteDecision(model, "requested")
        raise model_not_found(model, known_models(tiers))
    candidates = {tier.name: tier for tier in tiers if tier.ready and tier.earned}
    if not candidates:
        raise UnavailableError("no tier is ready to answer")
    decision = _chosen(candidates, features, suffices)
    awake = {name: tier for name, tier in candidates.items() if not tier.asleep}
    if decision.tier in awake or not awake:
        return decision
    instead = _chosen(awake, features, suffices).tier
    return RouteDecision(instead, "asleep", decision.considered, wakes=decision.tier)


def _chosen(candidates: dict[str, TierState], features: Features, suffices: Suffices | None) -> RouteDecision:
    if len(candidates) == 1:
        return RouteDecision(next(iter(candidates)), "only_tier")
    fallback = next((name for name, tier in candidates.items() if tier.fallback), None)
    if fallback is not None and not features.supported:
        return RouteDecision(fallback, "unsupported")
    if fallback is not None and features.names_document:
        return RouteDecision(fallback, "names_document")
    if fallback is not None and features.form:  # models that only say sentences of the passages cannot give it
        candidates = {name: tier for name, tier in candidates.items() if name == fallback or not tier.checked}
        if len(candidates) == 1:
            return RouteDecision(fallback, "form")
    decision = _by_measure(candidates, fallback, features.support)
    return decision if suffices is None else _by_learning(decision, candidates, suffices)


def _by_measure(candidates: dict[str, TierState], fallback: str | None, support: float) -> RouteDecision:
    bands = {name: band_of(tier.bands, support) for name, tier in candidates.items()}
    scores = {name: band.model for name, band in bands.items() if band}
    if fallback is not None:  # each gate measured it beside its model on the same questions
        scores[fallback] = max((band.fallback for band in bands.values() if band), default=0.0)
    scores = scores or dict.fromkeys(candidates, 0.0)
    waits = {name: candidates[name].latency_ms * rounds(candidates[name]) for name in scores}
    best = max(scores.values())
    good = [name for name in scores if scores[name] >= best - AS_GOOD]
    chosen = min(good, key=lambda name: (candidates[name].price, waits[name], -scores[name], name))
    considered = {name: {"score": round(scores[name], 4), "wait_ms": round(waits[name], 2)} for name in sorted(scores)}
    if len(good) == 1:
        return RouteDecision(chosen, "measured_better", considered)
    unloaded = min(good, key=lambda n: (candidates[n].price, candidates[n].latency_ms, -scores[n], n))
    return RouteDecision(chosen, "cheaper_as_good" if chosen == unloaded else "less_loaded", considered)


def _by_learning(decision: RouteDecision, candidates: dict[str, TierState], suffices: Suffices) -> RouteDecision:
    """The same, unless a larger model was chosen and the smallest one's answer will do.

    Of models the smallest is the one with the lowest price, and of those the quickest. Where the documents' own words,
    or the smallest model itself, are as good by measure there is nothing to save.
    """
    models = generative([tier for name, tier in candidates.items() if name in decision.considered])
    smallest = min(models, key=lambda tier: (tier.price, tier.latency_ms, tier.name), default=None)
    if smallest is None or decision.tier not in {tier.name for tier in models} or decision.tier == smallest.name:
        return decision
    learned = {
        "suffices": round(suffices.probability, 4), "threshold": round(suffices.threshold, 4), "small": smallest.name,
        "large": decision.tier, "router": suffices.router,
    }  # fmt: skip
    if not suffices.small:
        return replace(decision, learned=learned)
    return RouteDecision(smallest.name, "small_suffices", decision.considered, learned=learned)


def generative(tiers: Sequence[TierState]) -> list[TierState]:
    """The language models that ``auto`` may choose."""
    return [tier for tier in tiers if tier.ready and tier.earned and tier.continues]


def rounds(tier: TierState) -> int:
    """How often the tier must answer until a new question has its answer: once, and once per full round in front."""
    return 1 + tier.ongoing // max(1, tier.capacity)


def band_of(bands: Sequence[Band], support: float) -> Band | None:
    """The band a support probability falls into, or the mean of all where that band holds too few questions."""
    for band in bands:
        if band.low <= support < band.high and band.questions >= FEWEST:
            return band
    return overall(bands)


def overall(bands: Sequence[Band]) -> Band | None:
    """All bands together; None where nothing was measured."""
    total = sum(band.questions for band in bands)
    if not total:
        return None
    model = sum(band.model * band.questions for band in bands) / total
    fallback = sum(band.fallback * band.questions for band in bands) / total
    return Band(0.0, 1.0, total, model, fallback)
