"""What goes through the gateway: an Ask in, a Plan between, Deltas and one Done out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.routing.rules import RouteDecision


@dataclass(frozen=True)
class Ask:
    """What a client wants answered: ``(role, text)`` turns, oldest first; ``plain``: continue the text (legacy
    completions), which tiers that are language models do without passages."""

    model: str
    turns: tuple[tuple[str, str], ...]
    sampling: Sampling
    plain: bool = False


@dataclass(frozen=True)
class Plan:
    """An ask that may go on: checked turns, the passages found for it, and the tier that answers."""

    question: str
    turns: tuple[tuple[str, str], ...]
    retrieval: Retrieval
    decision: RouteDecision
    state: TierState
    plain: bool = False


@dataclass(frozen=True)
class Delta:
    """Checked text for the client."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of an answer. ``plinth`` is the extra response data of the contract."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    plinth: dict[str, Any]


Event = Delta | Done
