"""What people send in order to judge: an answer they got, a text that a guard found something in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from actors.feedback.book import Feedback, Rating
from actors.review.decisions import STATES, Decision, State
from serve_apps.api.schema import Body
from serve_apps.errors import bad_request, shown

MOST_SHOWN, MOST_NUMBER = 200, 2**31 - 1
AnswerId = Annotated[str, Field(pattern=r"^ans_[A-Za-z0-9_-]{1,60}$")]
Long = Annotated[str, Field(max_length=32_000)]
Short = Annotated[str, Field(max_length=8_000)]


class FeedbackRequest(Body):
    """``POST /v1/feedback``: thumbs on an answer, by the ``plinth.answer_id`` that came with it; ``none`` takes them
    back. With ``consent`` it may be used for training; ``question`` and ``answer``, as they were, make an example of
    it."""

    answer_id: AnswerId
    rating: Rating
    consent: bool = False
    correction: Short | None = None
    comment: Short | None = None
    question: Long | None = None
    answer: Long | None = None

    @model_validator(mode="after")
    def _example_is_whole(self) -> Self:
        if bool(self.question) != bool(self.answer):
            raise ValueError("send question and answer, or neither")
        return self

    @property
    def said(self) -> Feedback:
        """What it says."""
        return Feedback(
            self.answer_id, self.rating, self.consent, self.correction or "", self.comment or "", self.question or "",
            self.answer or "",
        )  # fmt: skip


class ReviewRequest(Body):
    """``POST /v1/review/{id}``: what somebody decided about it."""

    decision: Decision
    note: Short | None = None


def page_of(query: Mapping[str, str]) -> tuple[State, int, int]:
    """Which page of the queue is asked for: ``state`` (open), ``after`` (0) and ``limit`` (50).

    Raises:
        ApiError: 400, a parameter is unknown or none of its values.
    """
    if wrong := sorted(set(query) - {"state", "after", "limit"}):
        raise bad_request(f"there is no parameter {shown(wrong[0])}; there are state, after and limit")
    state = next((one for one in STATES if one == query.get("state", "open")), None)
    if state is None:
        raise bad_request(f"state is one of {', '.join(STATES)}", "state")
    return state, _number(query, "after", 0, 0, MOST_NUMBER), _number(query, "limit", 50, 1, MOST_SHOWN)


def _number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise bad_request(f"{name} is a whole number from {least} to {most}", name)
    return int(text)
