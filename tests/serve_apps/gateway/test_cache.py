"""Kept answers: room, age, what they rest on; and what makes two questions the same."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.core.access import Rights
from cluster.core.config import PlinthConfig, configured
from serve_apps.gateway.cache import BUSY_S, FILE, OVERHEAD, AnswerCache, Grounds, KeptAnswer
from serve_apps.gateway.cache_key import CacheKey, Versions, normalised, settled
from serve_apps.gateway.protocols import Band, Sampling, TierState

GROUNDS = Grounds("main", "v1", 0)
ANSWER = KeptAnswer(
    GROUNDS,
    Rights("default", ("hr", "staff")),
    "c0ffee",
    ("Use copytree", " for it. [1]"),
    "stop",
    7,
    5,
    {"tier": "quote", "confidence": 0.1 + 0.2},
)


class Clock:
    """Seconds as a test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def bytes_of(answer: KeptAnswer) -> int:
    cache = AnswerCache(1 << 20, 60)
    cache.put("x", answer)
    return cache.bytes


def with_text(length: int) -> KeptAnswer:
    return dataclasses.replace(ANSWER, texts=("a" * length,))


# -- the table ---------------------------------------------------------------------------------------------------------
def test_what_was_put_in_comes_out_equal_and_by_itself() -> None:
    cache = AnswerCache(1 << 20, 60)
    cache.put("x", ANSWER)
    assert cache.get("x") == ANSWER
    assert cache.get("y") is None
    cache.get("x").plinth["tier"] = "changed"  # type: ignore[union-attr]
    assert cache.get("x") == ANSWER, "what one reader does to it the next one does not see"


def test_an_answer_is_given_until_it_is_too_old_however_often_it_was_asked() -> None:
    clock = Clock()
    cache = AnswerCache(1 << 20, 60, clock)
    cache.put("x", ANSWER)
    for now in (130.0, 159.9):
        clock.now = now
        assert cache.get("x") == ANSWER
    clock.now = 160.0
    assert cache.get("x") is None
    assert (len(cache), cache.bytes, cache.removed()) == (0, 0, {"expired": 1})


def test_bytes_are_those_of_what_is_there_and_never_too_many() -> None:
    most = 3 * bytes_of(with_text(100))
    cache = AnswerCache(most, 60)
    for n in range(10):
        cache.put(f"x{n}", with_text(100))
        assert cache.bytes <= most
    assert [n for n in range(10) if cache.get(f"x{n}")] == [7, 8, 9]
    assert cache.removed() == {"no_room": 7}
    assert cache.removed() == {}, "each is told once"
    cache.put("x9", with_text(1))
    assert cache.bytes == most - 99
    assert bytes_of(with_text(100)) > OVERHEAD + 100


def test_those_longest_unasked_make_room() -> None:
    cache = AnswerCache(3 * bytes_of(ANSWER), 60)
    for key in "abc":
        cache.put(key, ANSWER)
    cache.get("a")
    cache.put("d", ANSWER)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_an_answer_larger_than_all_room_is_not_kept_and_takes_nobody_s() -> None:
    cache = AnswerCache(2 * bytes_of(ANSWER), 60)
    cache.put("a", ANSWER)
    cache.put("b", with_text(10_000))
    assert cache.get("a") == ANSWER
    assert cache.get("b") is None
    cache.put("a", with_text(10_000))
    assert cache.get("a") is None, "the earlier answer is none any more"
    assert cache.bytes == 0


def test_a_cache_without_room_keeps_nothing() -> None:
    cache = AnswerCache(0, 60)
    cache.put("a", ANSWER)
    assert (len(cache), cache.bytes) == (0, 0)


@pytest.mark.parametrize(
    "changed", [{"collection": "boats"}, {"index_version": "v2"}, {"forgotten": 1}], ids=lambda c: next(iter(c))
)
def test_what_rests_on_something_else_is_swept_out(changed: dict[str, Any]) -> None:
    clock = Clock()
    cache = AnswerCache(1 << 20, 60, clock)
    other = dataclasses.replace(GROUNDS, **changed)
    cache.put("old", ANSWER)
    cache.put("new", dataclasses.replace(ANSWER, grounds=other))
    cache.sweep({other})
    assert cache.get("old") is None
    assert cache.get("new") is not None
    assert cache.removed() == {"outdated": 1}
    cache.sweep(None)
    assert len(cache) == 1, "nothing is known of what they rest on"
    clock.now += 60
    cache.sweep(None)
    assert (len(cache), cache.bytes) == (0, 0)


# -- shared ------------------------------------------------------------------------------------------------------------
def test_gateways_share_what_one_of_them_kept(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (AnswerCache(1 << 20, 60, clock, tmp_path) for _ in range(2))
    one.put("x", ANSWER)
    assert other.get("x") == ANSWER
    assert (len(other), other.bytes) == (1, one.bytes)
    other.drop("x", "outdated")
    assert one.get("x") is None
    assert (one.removed(), other.removed()) == ({}, {"outdated": 1}), "each tells what it removed itself"
    one.put("y", ANSWER)
    other.sweep(set())
    assert one.get("y") is None
    one.put("z", ANSWER)
    clock.now += 60
    assert other.get("z") is None


def test_they_share_the_room_too(tmp_path: Path) -> None:
    one, other = (AnswerCache(3 * bytes_of(ANSWER), 60, folder=tmp_path) for _ in range(2))
    for cache, key in zip((one, other, one), "abc", strict=True):
        cache.put(key, ANSWER)
    other.put("d", ANSWER)
    assert [key for key in "abcd" if one.get(key)] == ["b", "c", "d"]


def test_an_answer_outlives_the_gateway_that_kept_it(tmp_path: Path) -> None:
    AnswerCache(1 << 20, 60, folder=tmp_path).put("x", ANSWER)
    assert AnswerCache(1 << 20, 60, folder=tmp_path).get("x") == ANSWER


def test_who_is_in_the_way_is_not_waited_for(tmp_path: Path) -> None:
    cache = AnswerCache(1 << 20, 60, folder=tmp_path)
    cache.put("x", ANSWER)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    cache.put("y", ANSWER)
    assert time.monotonic() - begun < 20 * BUSY_S
    assert cache.get("x") == ANSWER, "what is there can be read meanwhile"
    assert cache.get("y") is None
    other.execute("ROLLBACK")
    cache.put("y", ANSWER)
    assert cache.get("y") == ANSWER
    other.close()


def test_a_file_that_is_no_table_leaves_each_its_own(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 1000)
    one, other = (AnswerCache(1 << 20, 60, folder=tmp_path) for _ in range(2))
    one.put("x", ANSWER)
    assert one.get("x") == ANSWER
    assert other.get("x") is None


def test_damage_on_the_way_is_as_if_nothing_were_kept(tmp_path: Path) -> None:
    cache = AnswerCache(1 << 20, 60, folder=tmp_path)
    cache.put("x", ANSWER)
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("DROP TABLE answers")
    other.close()
    cache.put("y", ANSWER)
    cache.sweep(None)
    assert (cache.get("x"), cache.get("y"), len(cache), cache.bytes) == (None, None, 0, 0)


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    def keep(worker: int) -> None:
        cache = AnswerCache(1 << 20, 60, folder=tmp_path)
        for n in range(20):
            while cache.get(f"{worker} {n}") is None:  # another one was in the way
                cache.put(f"{worker} {n}", ANSWER)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, range(4)))
    assert len(AnswerCache(1 << 20, 60, folder=tmp_path)) == 80


# -- the key -----------------------------------------------------------------------------------------------------------
TIER = TierState("small", model_version="m1", bands=(Band(0.0, 1.0, 40, 0.8, 0.7),))
KEY = CacheKey(
    Rights("default"),
    "auto",
    "",
    (TIER,),
    "",
    Versions("s", "p"),
    Sampling(),
    False,
    (("user", "How do I copy a tree?"),),
)
OTHERS: dict[str, Any] = {
    "rights": Rights("acme"),
    "model": "small",
    "collection": "boats",
    "tiers": (TierState("quote"),),
    "router": "router@3 from 0.5",
    "versions": Versions("s2", "p"),
    "sampling": Sampling(max_tokens=9),
    "plain": True,
    "turns": (("system", "How do I copy a tree?"),),
}
OTHER_SAMPLING: dict[str, Any] = {
    "max_tokens": 9, "stops": ("\n",), "temperature": 0.5, "top_p": 0.5, "presence_penalty": 1.0,
    "frequency_penalty": 1.0, "seed": 4,
}  # fmt: skip
OTHER_TIER: dict[str, Any] = {
    "name": "large", "ready": False, "earned": False, "fallback": True, "model_version": "m2",
    "knowledge_cutoff": "2026", "continues": True, "samples": True, "price": 1.0, "bands": (),
    "external": True, "enabled": False, "instead": "quote", "takes": ("seed",), "checked": True, "access": ("acme",),
}  # fmt: skip


def names(of: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(of)}


def test_no_part_of_the_key_is_left_out_here() -> None:
    """A new part, option or fact of a tier joins one of the lists: it has to be decided whether it shapes an answer."""
    assert set(OTHERS) == names(CacheKey)
    assert set(OTHER_SAMPLING) == names(Sampling)
    assert set(OTHER_TIER) | {"latency_ms", "ongoing", "capacity", "asleep"} == names(TierState)


@pytest.mark.parametrize("part", OTHERS)
def test_each_part_of_the_key_changes_it(part: str) -> None:
    assert dataclasses.replace(KEY, **{part: OTHERS[part]}).digest != KEY.digest
    assert dataclasses.replace(KEY).digest == KEY.digest


@pytest.mark.parametrize("option", OTHER_SAMPLING)
def test_each_option_of_sampling_changes_it(option: str) -> None:
    changed = dataclasses.replace(KEY.sampling, **{option: OTHER_SAMPLING[option]})
    assert dataclasses.replace(KEY, sampling=changed).digest != KEY.digest


@pytest.mark.parametrize("fact", OTHER_TIER)
def test_each_lasting_fact_of_a_tier_changes_it(fact: str) -> None:
    changed = settled(dataclasses.replace(TIER, **{fact: OTHER_TIER[fact]}))
    assert dataclasses.replace(KEY, tiers=(changed,)).digest != KEY.digest


def test_how_busy_a_tier_is_does_not() -> None:
    busy = dataclasses.replace(TIER, latency_ms=90.0, ongoing=5, capacity=8, asleep=True)
    assert settled(busy) == settled(TIER) == TIER


def test_white_space_and_forms_of_unicode_do_not() -> None:
    same = (("user", "  Where is\tthe\n cafe\u0301\u200b?\n"),)
    assert normalised(same) == (("user", "Where is the caf\u00e9?"),)
    assert normalised((("user", "Where is the Caf\u00e9?"),)) != normalised(same), "names may differ by their case"


@pytest.mark.parametrize("text", ["a\ud800b", "a\x00b", "'", '", "'])
def test_any_text_has_a_key(text: str) -> None:
    made = dataclasses.replace(KEY, turns=(("user", text),)).digest
    assert len(made) == 64
    assert made != KEY.digest


def test_turns_do_not_run_together() -> None:
    one, two = (("user", "a"), ("user", "b")), (("user", "a b"),)
    assert dataclasses.replace(KEY, turns=one).digest != dataclasses.replace(KEY, turns=two).digest


@pytest.mark.parametrize(
    ("override", "settings", "policy"),
    [
        ("answer.max_words=20", True, False),
        ("retrieval.passages=3", True, False),
        ("serve.tiers.quote.answer=" + json.dumps({"max_words": 20}), True, False),
        ('serve.guards=["characters"]', True, True),
        ("data.names=off", True, True),
    ],
)
def test_settings_and_policy_have_versions(override: str, settings: bool, policy: bool) -> None:
    before = Versions.of(PlinthConfig(), "code")
    after = Versions.of(configured(PlinthConfig(), [override]), "code")
    assert (before.settings != after.settings, before.policy != after.policy) == (settings, policy)


def test_new_code_is_a_new_version_of_both() -> None:
    before, after = (Versions.of(PlinthConfig(), code) for code in ("one", "two"))
    assert before.settings != after.settings
    assert before.policy != after.policy
