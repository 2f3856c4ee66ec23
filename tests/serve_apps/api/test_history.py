"""What of a conversation is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from serve_apps.api.history import last_question, newest, text_only

TALK = (("system", "s" * 10), ("user", "a" * 10), ("assistant", "b" * 10), ("user", "c" * 10), ("assistant", "d" * 10))


@pytest.mark.parametrize(
    ("most", "characters", "kept"),
    [(9, 100, "sabc"), (3, 100, "abc"), (1, 100, "c"), (9, 20, "bc"), (9, 19, "c"), (9, 5, "c"), (2, 40, "bc")],
)
def test_the_last_question_and_what_fits_before_it(most: int, characters: int, kept: str) -> None:
    assert "".join(text[0] for _, text in newest(TALK, most, characters)) == kept


def test_without_a_question_there_is_nothing() -> None:
    silent = (("system", "s"), ("user", " "), ("assistant", "a"))
    assert last_question(silent) is None
    assert newest(silent, 9, 9) == ()


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"role": "assistant"}, ""),
        ({"role": "assistant", "content": None, "refusal": "no", "tool_calls": [{"id": "c"}]}, ""),
        ({"role": "tool", "tool_call_id": "c", "content": "42"}, "42"),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            [{"type": "text", "text": "no"}],
        ),
    ],
)
def test_a_replayed_turn_keeps_its_text_alone(message: dict[str, Any], content: Any) -> None:
    assert text_only(message) == {"role": message["role"], "content": content}
