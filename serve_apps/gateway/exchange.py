"""What goes through the gateway: an Ask in, checked turns and a plan between, text and one Done out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.routing.learned import Suffices
from serve_apps.routing.rules import RouteDecision

Turns = tuple[tuple[str, str], ...]  # (role, text), oldest first


@dataclass(frozen=True)
class Ask:
    """What a client wants answered; ``plain``: continue the text (legacy completions), which tiers that are language
    models do without passages. ``user``: whom the client says it asks for; ``keep``: whether an unanswered question may
    be kept for the gap map."""

    model: str
    turns: Turns
    sampling: Sampling
    plain: bool = False
    user: str = ""
    keep: bool = True


@dataclass(frozen=True)
class CheckedAsk:
    """An ask that passed guard(in): its turns and question as they may go on, and the passages found for it.
    ``continues``: the tier continues the text, and nothing was searched. ``suffices``: what the learned router says of
    the question, where it was asked."""

    question: str
    turns: Turns
    retrieval: Retrieval
    continues: bool = False
    suffices: Suffices | None = None


@dataclass(frozen=True)
class AnswerPlan:
    """A checked ask, and the tier that answers it, as that tier was when it was chosen."""

    asked: CheckedAsk
    decision: RouteDecision
    state: TierState


@dataclass(frozen=True)
class TextDelta:
    """Checked text for the client."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of an answer. ``plinth`` is the extra response data of the contract."""

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    plinth: dict[str, Any]


Event = TextDelta | Done
