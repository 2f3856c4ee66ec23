"""Yes or no is said only where one sentence says so plainly."""

from __future__ import annotations

import pytest

from train_jobs.answering.forms.polarity import said


@pytest.mark.parametrize(
    ("question", "sentence", "answer"),
    [
        ("Can contractors claim travel expenses?", "Contractors cannot claim travel expenses.", "No"),
        ("Are taxis allowed after midnight?", "Taxis are allowed after midnight.", "Yes"),
        ("Is smoking allowed in the office?", "Smoking is forbidden in the office.", "No"),
        ("Is smoking forbidden in the office?", "Smoking is forbidden in the office.", "Yes"),
        ("May I bring guests?", "You may bring guests.", "Yes"),
        ("Do roses tolerate frost?", "Roses tolerate frost.", "Yes"),
        ("Does mulch feed the soil?", "Mulch does not feed the soil.", "No"),
        ("Is the port 4100?", "The port is 4100.", "Yes"),
        # not plain: other words, other order, hedges, other numbers, denied questions
        ("Do tomatoes tolerate frost?", "Roses tolerate frost.", ""),
        ("Does A contain B2?", "B2 contains A.", ""),
        ("Are taxis allowed?", "Taxis are allowed only after midnight.", ""),
        ("Do flights need approval?", "Flights usually need approval.", ""),
        ("Is the port 4100?", "The port is 5100.", ""),
        ("Aren't taxis allowed?", "Taxis are allowed.", ""),
        ("Does it have a limit?", "There is no limit that it must have.", ""),
        ("How are roses pruned?", "Roses are pruned in March.", ""),
        ("Can I use it without a licence?", "You can use it without a licence.", ""),
        ("Is a queue faster than a stream?", "A stream is faster than a queue.", ""),
        ("Can members vote?", "Members who have not paid can vote.", ""),
        # another subject, a condition, a frame around it, a denial in other words
        ("Are dogs allowed?", "Guide dogs are allowed.", ""),
        ("Does Paul own a car?", "Paul's brother owns a car.", ""),
        ("Is the app free?", "Its app is free.", ""),
        ("Can employees work remotely?", "Employees can work remotely with approval.", ""),
        ("Can employees work remotely?", "It is false that employees can work remotely.", ""),
        ("Can employees work remotely?", 'Bob said: "Employees can work remotely."', ""),
        ("Does the tool support compression?", "The tool lacks support for compression.", ""),
        ("Does the tool support compression?", "The tool supports encryption, not compression.", ""),
        ("Is the pool open?", "The pool is closed; the sauna is open.", ""),
        ("Is the API stable?", "The API is hardly stable.", ""),
        ("Is Anna the manager?", "Anna met the manager.", ""),
        # another time, place or number, headings
        ("Is a visa required?", "A visa was required.", ""),
        ("Does the tool support compression?", "The tool supported compression.", ""),
        ("Is the pool open?", "The pool will be open.", ""),
        ("Is smoking allowed in the office?", "Smoking is allowed outside the office.", ""),
        ("Are taxis allowed after midnight?", "Taxis are allowed before midnight.", ""),
        ("Does it cost more than 10 EUR?", "It costs 10 EUR.", ""),
        ("Are dogs allowed?", "Not all dogs are allowed.", ""),
        ("Are dogs always allowed?", "Dogs are allowed.", ""),
        ("Are dogs allowed?", "Dogs allowed", ""),
        ("Could I bring a dog?", "You can bring a dog.", "Yes"),
        ("Was the bridge built in 1900?", "The bridge was not built in 1900.", "No"),
    ],
)
def test_plainly_or_not_at_all(question: str, sentence: str, answer: str) -> None:
    assert said(question, sentence) == answer
