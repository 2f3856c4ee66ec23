"""Hits and wrong hits of a cache that takes alike questions for the same, counted on vectors made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import BadInputError
from train_jobs.evaluation.paraphrases import (
    APART,
    THRESHOLDS,
    Held,
    Labelled,
    Point,
    best,
    judged,
    picture,
    replay,
    requests,
)

ANGLES = {"a": 0.0, "a'": 10.0, "b": 40.0, "c": 90.0}  # degrees; cosines: a a' .985, a' b .866, a b .766, b c .643


def vectors(texts: Sequence[str]) -> np.ndarray:
    turned = np.radians([ANGLES[text] for text in texts])
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def held(texts: str, labels: str) -> Held:
    asked = texts.split()
    made = vectors(asked) if asked else np.empty((0, 2), dtype=np.float32)
    return Held(tuple(labels.split()), made @ made.T)


@pytest.mark.parametrize(
    ("texts", "labels", "alike", "hits", "wrong"),
    [
        ("a a' a", "1 1 1", 0.98, 2, 0),
        ("a a' a", "1 1 1", 0.99, 1, 0),
        ("a b", "1 2", 0.7, 1, 1),
        ("a b", "1 2", 0.8, 0, 0),
        ("a a' b", "1 1 2", 0.86, 1, 0),  # a' was a hit, so it is not kept, and b meets a alone
        ("a' b a", "1 2 1", 0.86, 2, 1),
        ("a c b", "1 2 2", 0.6, 1, 1),  # the nearest of those alike enough
        ("", "", 0.5, 0, 0),
    ],
)
def test_a_question_meets_those_that_were_answered_before(
    texts: str, labels: str, alike: float, hits: int, wrong: int
) -> None:
    assert replay(held(texts, labels), alike) == Point(alike, len(texts.split()), hits, wrong)


def test_most_hits_of_those_that_are_seldom_wrong() -> None:
    points = [Point(0.7, 200, 150, 9), Point(0.8, 200, 100, 1), Point(0.85, 200, 99, 0), Point(0.99, 200, 0, 0)]
    assert best(points, 0.01) == points[1]
    assert best(points, 0.005) == points[2]
    assert best(points, 0.1) == points[0]
    assert best(points[3:], 0.1) is None, "no hit is no figure"
    assert best([replace(points[0], worse=1), replace(points[1], worse=2)], 0.01, "worse") == replace(
        points[0], worse=1
    )


def test_the_threshold_comes_from_other_questions_than_it_is_judged_by() -> None:
    chosen_on = held("a b a", "1 2 1")  # .77 and above keep a and b apart
    judged_on = held("a' b a a", "1 2 1 2")
    found = judged(chosen_on, judged_on)
    chosen = found["chosen"]["wrong"]
    assert chosen["alike"] == max(THRESHOLDS)
    assert (chosen["hits"]["hits"], chosen["wrong"]["hits"]) == (1, 1)
    assert found["chosen"]["worse"]["hits"]["hits"] == 3, "nothing is worse, so all thresholds will do"
    assert json.loads(json.dumps(found)) == found
    never = judged(held("a a", "1 2"), judged_on)
    assert never["chosen"]["wrong"] is None
    assert picture(found["curves"]).startswith(b"\x89PNG")


def test_what_may_not_be_given_is_passed_over_for_the_next() -> None:
    pair = held("a b a'", "1 2 2")
    assert replay(pair, 0.8) == Point(0.8, 3, 1, 1), "a is nearest to a', and of another label"
    pair.cosines[2, 0] = APART
    assert replay(pair, 0.8) == Point(0.8, 3, 1, 0)
    pair.cosines[2, 1] = APART
    assert replay(pair, 0.8) == Point(0.8, 3, 0, 0)


def test_hits_that_are_worse_than_an_answer_of_their_own_are_counted() -> None:
    harmed = np.zeros((3, 3), dtype=np.bool_)
    harmed[1, 0] = True
    pair = replace(held("a a' a", "1 1 1"), worse=harmed)
    assert replay(pair, 0.9) == Point(0.9, 3, 2, 0, 1)
    assert replay(pair, 0.9).to_dict()["worse"]["rate"] == 0.5
    assert replay(pair, 0.99) == Point(0.99, 3, 1, 0, 0), "a' was answered itself"


def test_a_stream_repeats_as_often_as_it_says() -> None:
    questions = [f"q{n}" for n in range(500)]
    stream = requests(questions, 1000, 0.8)
    assert stream == requests(questions, 1000, 0.8) != requests(questions, 1000, 0.8, seed=8)
    first = [place for place, one in enumerate(stream) if one not in stream[:place]]
    assert 1 - len(first) / len(stream) == pytest.approx(0.8, abs=0.04)
    assert [stream[place] for place in first] == questions[: len(first)]
    often = sorted((stream.count(one) for one in set(stream)), reverse=True)
    assert often[0] > 20 * often[len(often) // 2], "few are asked often"
    with pytest.raises(ValueError, match="too few"):
        requests(questions[:10], 1000, 0.8)


def test_rows_are_drawn_in_an_order_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{n}", "label": n % 3}) + "\n" for n in range(30)))
    first, again, other = (Labelled.read(path, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first.texts) == sorted(other.texts)
    assert all(int(text[1:]) % 3 == label for text, label in zip(first.texts, first.labels, strict=True))
    assert len(Labelled.read(path, most=5).texts) == 5
    path.write_text('{"text": "a"}\n')
    with pytest.raises(BadInputError, match="text and label"):
        Labelled.read(path)
