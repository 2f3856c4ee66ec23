"""What people say of answers, and what guards want looked at (actors/feedback, actors/review): for how long."""

from __future__ import annotations

from pydantic import Field

from cluster.core.sections.base import Section


class FeedbackSection(Section):
    """Thumbs and corrections (`plinth feedback`)."""

    answer_days: int = Field(7, ge=1, le=90)
    """Days in which feedback on an answer is taken. For so long it is known whose the answer was and what it was made
    of; of question and answer only a keyed hash is kept."""
    keep_days: int = Field(365, ge=1)
    """Days that feedback is kept."""


class ReviewSection(Section):
    """The queue of what a policy with the action `review` found (`plinth review`), and what heads of the guard that
    learnt from decisions must show (`plinth train safety`)."""

    keep_days: int = Field(90, ge=1)
    """Days that what was found is kept, decided or not; `plinth review export` writes the decisions out before."""
    least_decisions: int = Field(20, ge=5)
    """Held-out decisions, as many against a text as for one, without which no new heads go live."""
    decisions_margin: float = Field(0.1, ge=0, le=1)
    """By how much more of the held-out decisions new heads may miss, or flag in vain, though they agree with more of
    them: those that the heads before found are all that there are, so that these miss few."""
    across_margin: float = Field(0.02, ge=0, le=1)
    """By how much more a head that learnt from decisions may miss, or flag in vain, in sets that it has not seen."""
