"""What people may decide about what a guard found."""

from __future__ import annotations

from typing import Literal, get_args

Decision = Literal["injection", "harmful", "harmless", "unclear"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
REVIEWED = "review-"
"""How the sets of training rows begin that were decided here; the month follows."""
State = Literal["open", "decided", "all"]
"""Which items are wanted."""
STATES: tuple[State, ...] = get_args(State)
