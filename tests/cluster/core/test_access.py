"""Labels: who may read, what a damaged label means, and that they can only be narrowed."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from cluster.core.access import NO_RIGHTS, NOBODY_MAY, Access, Rights, access_counts, readable
from cluster.core.identity import LOCAL, Principal
from cluster.core.records import Chunk, Document, Passage
from cluster.core.sections.data import DataSection

ACME = Rights("acme")
HR = Rights("acme", ("hr",))
BOTH = Rights("acme", ("board", "hr"))
OTHER_HR = Rights("umbrella", ("hr",))
EVERYBODY = (NO_RIGHTS, ACME, HR, BOTH, OTHER_HR, Rights.of(LOCAL))


@pytest.mark.parametrize(
    ("label", "may"),
    [
        ("", EVERYBODY),
        ("acme", (ACME, HR, BOTH)),
        ("acme:hr", (HR, BOTH)),
        ("acme:board,hr", (HR, BOTH)),
        ("acme:board", (BOTH,)),
        ("umbrella:hr", (OTHER_HR,)),
        ("default", (Rights.of(LOCAL),)),
    ],
)
def test_who_may_read_what(label: str, may: tuple[Rights, ...]) -> None:
    assert [who for who in EVERYBODY if Access.of_text(label).allows(who)] == [who for who in EVERYBODY if who in may]
    assert Access.of_text(label).text == label


@pytest.mark.parametrize(
    "damaged", [None, 7, "!", " ", "acme:", ":hr", "acme:hr,", "acme hr", "acme:hr:board", "\x00", "ac\nme"]
)
def test_what_is_no_label_lets_nobody_read(damaged: object) -> None:
    assert not any(Access.of_text(damaged).allows(who) for who in (*EVERYBODY, Rights("!"), Rights("acme ")))


def test_a_record_with_a_damaged_label_is_nobody_s_and_one_without_is_of_an_earlier_program() -> None:
    row = Chunk("c", "d", "t", "s", "text", 0, 4).to_dict()
    assert Chunk.from_dict({**row, "access": None}).access == NOBODY_MAY
    assert Chunk.from_dict({name: value for name, value in row.items() if name != "access"}).access == ""
    document = Document("d", "t", "text", "s", access="acme:hr")
    assert Document.from_dict(document.to_dict()) == document
    assert Document.from_dict({**document.to_dict(), "access": 3}).access == NOBODY_MAY
    passage = Passage("c", "d", "t", "s", "text", 0, 4, 0.5, access="acme")
    assert Passage.from_dict(passage.to_dict()) == passage


def test_two_labels_leave_only_whom_both_let_read() -> None:
    """Over every pair: whoever may read by the narrowed label may by both; without a common reader it is refused."""
    groups = [frozenset(g) for n in range(3) for g in itertools.combinations(("hr", "board"), n)]
    labels = [Access(), Access("umbrella"), *(Access("acme", some) for some in groups)]
    for outer, inner in itertools.product(labels, labels):
        try:
            both = outer.narrowed(inner)
        except ValueError:
            assert {outer.tenant, inner.tenant} == {"acme", "umbrella"} or not outer.groups & inner.groups
            continue
        for who in EVERYBODY:
            assert not both.allows(who) or (outer.allows(who) and inner.allows(who)), (outer, inner, who)
        assert both.text or not (outer.text or inner.text)


@pytest.mark.parametrize(
    "body",
    [None, [], "acme", {}, {"groups": ["hr"]}, {"tenant": ""}, {"tenant": "a b"}, {"tenant": 5}, {"tenant": "a,b"},
     {"tenant": "acme", "groups": "hr"}, {"tenant": "acme", "groups": []}, {"tenant": "acme", "groups": None},
     {"tenant": "acme", "groups": ["h:r"]}, {"tenant": "acme", "group": ["hr"]}, {"tenant": "!"}],
)  # fmt: skip
def test_a_declared_label_that_is_none_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match=r"needed|name"):
        Access.of_mapping(body)


def test_a_setting_is_a_label_or_refused() -> None:
    assert DataSection(access="acme:hr,board").access == "acme:board,hr"
    for text in ("acme:", "!", "a b", ":hr"):
        with pytest.raises(ValidationError):
            DataSection(access=text)


def test_rights_of_a_key_are_its_tenant_and_groups_whatever_their_order() -> None:
    first, second = (Principal("k", "acme", frozenset(groups)) for groups in (("hr", "board"), ("board", "hr")))
    assert Rights.of(first) == Rights.of(second) == BOTH
    assert repr(Rights.of(first)) == repr(Rights.of(second))


def test_counts_of_labels_are_told_only_where_there_are_some() -> None:
    assert access_counts({"": 7}) == access_counts({}) == {}
    assert access_counts({"acme": 2, "": 7, "gone": 0}) == {"access": {"": 7, "acme": 2}}
    assert readable(("", "acme", "acme:board", "!"), HR) == {"", "acme"}
