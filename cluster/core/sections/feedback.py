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
    """The queue of what a policy with the action `review` found (`plinth review`)."""

    keep_days: int = Field(90, ge=1)
    """Days that what was found is kept, decided or not; `plinth review export` writes the decisions out before."""
