"""Same form is not same fact: precision and recall on pairs of many forms, and what the rules go by."""

from __future__ import annotations

import pytest

from cluster.core.records import Document
from data_jobs.filters.dedup import deduplicate, fingerprint
from data_jobs.filters.facts import different_facts, numbers
from tests.data_jobs.filters.template_pairs import TemplatePair, make_pairs

TUNE, REPORT = 1, 2  # seeds: the rules were made while looking at pairs of the first


def merged(pair: TemplatePair) -> bool:
    texts = {"a": pair.left, "b": pair.right}
    documents = [Document(name, name, text, name) for name, text in texts.items()]
    return len(deduplicate(map(fingerprint, documents), texts.__getitem__, 0.85)) == 1


def test_copies_go_and_other_facts_stay() -> None:
    pairs = make_pairs(REPORT, 9, held_out=True)
    assert len(pairs) >= 150
    found = [(pair, merged(pair)) for pair in pairs]
    right = sum(joined and not pair.different for pair, joined in found)
    joined = sum(joined for _, joined in found)
    assert right >= 0.95 * joined, [(p.domain, p.kind) for p, j in found if j and p.different]
    assert right >= 0.95 * len(pairs) / 2, [(p.domain, p.kind) for p, j in found if not j and not p.different]


@pytest.mark.parametrize(
    ("left", "right", "different"),
    [
        ("The limit is 40 bar.", "The limit is 90 bar.", True),
        ("The limit is 1,000 bar.", "The limit is 1000 bar.", False),
        ("It is: of 14 the limit is 98 bar.", "It is: of 98 the limit is 70 bar.", True),
        ("Ask the office in Leeds for it.", "Ask the office in Derby for it.", True),
        ("You may open the lid.", "You may not open the lid.", True),
        ("Er darf das tun.", "Er darf das nicht tun.", True),
        ("可以吸烟。", "不可以吸烟。", True),
        ("Reset the router\n\nHold the button.", "Reset the modem\n\nHold the button.", True),
        ("Hold the button.\nPage 3 of 7", "Hold the button.\nPage 4 of 9", False),
        ("Printed on 1 May 2024\nHold it.", "Printed on 9 June 2021\nHold it.", False),
        ("Hold the button and wait.", "Hold the button\nand   wait.", False),
        ("Hold the button.", "Hold the button.\n\nThe limit is 40 bar.", False),
        ("See https://a.example/v1 for more.", "See https://a.example/v2 for more.", False),
        ("Lists\nAs Listing 9-13 shows, it is.", "Lists\nAs Listing 9-10 shows, it is.", False),
        ("The colour of the organisation.", "The color of the organization.", False),
        # rows of tables and slashes of units are no navigation, and a sentence about a version is no stamp
        ("| P1 | 7 |", "| P1 | 9 |", True),
        ("| Lid | red | thin |", "| Lid | Oak | thin |", True),
        ("P1 | 7 | yes", "P1 | 9 | yes", True),
        ("The limit is 80 km/h or 50 mi/h.", "The limit is 60 km/h or 50 mi/h.", True),
        ("It applies to version 2.4 only.", "It applies to version 2.5 only.", True),
        ("Hold it.\nVersion 2.4", "Hold it.\nVersion 2.5", False),
        ("Home | Docs | Pumps\nHold it.", "Start | Help | Pumps\nHold it.", False),
        ("Hold it.\n1,203 views · 4 comments", "Hold it.\n1,377 views · 9 comments", False),
        ("Hold it.\nShare on Twitter", "Hold it.\nShare on Mastodon", False),
        ("Hold it.\n5 min read", "Hold it.\n6 min read", False),
        ("The limit is 12 bar.", "The limit is 12 psi.", True),
        ("It opens at 9 am.", "It opens at 9 pm.", True),
        ("Turn it clockwise.", "Turn it counterclockwise.", True),
        ("It costs 12 euros.", "It costs 12 francs.", True),
    ],
)
def test_what_is_a_fact(left: str, right: str, different: bool) -> None:
    assert different_facts(left, right) is different
    assert different_facts(right, left) is different


def test_a_page_that_leaves_a_fact_out_does_not_join_two_that_state_it_differently() -> None:
    form = make_pairs(TUNE, 1)[0].left
    texts = {"p1": f"{form} The limit of it is 40 bar.", "p2": f"{form} The limit of it is 90 bar.", "none": form}
    documents = [Document(name, name, text, name) for name, text in texts.items()]
    gone = [one.dropped for one in deduplicate(map(fingerprint, documents), texts.__getitem__, 0.85)]
    assert gone == ["none"]


def test_copies_are_found_among_many_instances_of_their_form() -> None:
    form = make_pairs(TUNE, 1)[0].left
    texts = {f"d{n:03d}": f"{form} The limit of pump {n} is {7 * n} bar." for n in range(40)}
    texts |= {f"copy{n}": f"{texts[f'd{n:03d}']}\n\nPrinted on {n + 1} May 2024" for n in (3, 20, 39)}
    documents = [Document(name, name, text, name) for name, text in texts.items()]
    found = deduplicate(map(fingerprint, documents), texts.__getitem__, 0.85)
    assert {(one.dropped, one.kept) for one in found} == {("d003", "copy3"), ("d020", "copy20"), ("d039", "copy39")}


@pytest.mark.parametrize(
    ("one", "other", "stays"),
    [("Basic plan", "Team plan", True), ("Basic plan", "Basic plan | Our shop", False), ("a", "b", False)],
)
def test_one_text_under_two_titles(one: str, other: str, stays: bool) -> None:
    text = "There are ten seats, which can be changed at the end of every month."
    documents = [Document("a.jsonl#1" if stays else "a", one, text, "a"), Document("b", other, text, "b")]
    assert (deduplicate(map(fingerprint, documents), lambda name: text, 0.85) == []) is stays


def test_numbers_leave_dates_and_page_numbers_out() -> None:
    assert numbers("Printed on 3 May 2024\nPump P1 takes 40 bar since 2019.\nPage 3 of 7") == "40 P1"


SHARED = (
    "The service covers inspection, cleaning and the replacement of worn parts by trained staff in the working week, "
    "and the customer keeps the room dry, accessible and well lit at all times so that work can be done without delay. "
)


@pytest.mark.parametrize(
    ("left", "right", "different"),
    [
        ("Store it at -20 °C.", "Store it at 20 °C.", True),
        ("Wait for three days.", "Wait for seven days.", True),
        ("Warten Sie drei Tage.", "Warten Sie sieben Tage.", True),
        ("Open it before the start.", "Open it after the start.", True),
        ("That is the minimum.", "That is the maximum.", True),
        ("The lid is locked.", "The lid is unlocked.", True),
        ("Turn the switch on.", "Turn the switch off.", True),
        ("verify = true", "verify = false", True),
        ("if x < 5 then stop", "if x > 5 then stop", True),
        ("x = a + b", "x = a - b", True),
        ("of type α.", "of type β.", True),
        ("The wire is red.", "The wire is green.", True),
        ("Team: 🇩🇪", "Team: 🇫🇷", True),
        ("Le délai finit en mars.", "Le délai finit en mai.", True),
        ("Open the lid slowly.", "Open the lid gently.", False),
        ("It sits on the table.", "It sits at the table.", False),
    ],
)
def test_values_in_words_and_opposites_are_facts(left: str, right: str, different: bool) -> None:
    assert different_facts(SHARED + left, SHARED + right) is different
