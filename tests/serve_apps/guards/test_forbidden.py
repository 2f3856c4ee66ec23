"""What a policy forbids does not leave: not a character of it, in no letters, wherever the stream was cut."""

from __future__ import annotations

import asyncio
import itertools
import json
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.core.errors import UsageError
from cluster.core.records import Copy, Passage, Verdict
from data_jobs.retrieval.results import OutlineFound, Retrieval, Understood
from data_jobs.safety.views import _LOOK_ALIKE
from serve_apps.gateway.hops import Hops
from serve_apps.gateway.permitted import permitted
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.guards.forbidden import Forbidden, comparable
from serve_apps.guards.personal import LONGEST
from serve_apps.guards.policy import Policies, parse_policies
from serve_apps.guards.window import OutputWindow, Placeholders
from tests.fakes import PASSAGE, FixedRetriever, RealGuard, ScriptedTier
from tests.serve_apps.gateway.test_inside import Listening
from tests.serve_apps.service import CHAT, Service

SECRETS = ("Project Bluebird", "Ænigma 2000", "план Барбаросса")
FORBIDDEN = Forbidden(SECRETS)
WORDS = "the project returns a blue copy of every plan in this list unless told otherwise and raises".split()  # noqa: SIM905
FILLER = st.lists(st.sampled_from(WORDS), min_size=0, max_size=40).map(" ".join)
BETWEEN = st.sampled_from(["", "", "", "\u200b", "\u00ad", "\u0301\u0327" * 8, "*", ".", " ", "\n", "\u2060" * 40, "-"])
FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@st.composite
def written(draw: st.DrawFn) -> str:
    """A forbidden text as somebody might write it who does not want it found."""
    found = []
    for char in draw(st.sampled_from(SECRETS)):
        # A lunate sigma is a c to the eye, but compatibility forms turn it into a sigma, which is none.
        alike = _LOOK_ALIKE.get(char.lower(), "").translate({0x3F2: None, 0x3F9: None})
        wide = chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char
        found.append(draw(st.sampled_from([char, char, char.upper(), char.lower(), wide, *alike])) + draw(BETWEEN))
    return unicodedata.normalize(draw(st.sampled_from(FORMS)), "".join(found))


def streamed(text: str, cuts: list[int]) -> str:
    """What leaves when ``text`` arrives cut at ``cuts`` and is checked as a gateway does."""
    window, out = OutputWindow(LONGEST + 8, Placeholders()), ""
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        window.push(text[begin:end])
        if FORBIDDEN.inside(window.text()):
            return out
        out += window.release((), final=False, waits=FORBIDDEN.begun(window.text()))
    return out + window.release((), final=True)


@settings(max_examples=50, deadline=None)
@given(FILLER, written(), FILLER, st.lists(st.integers(0, 900), max_size=12))
@example("", "Project Bluebird", "", list(range(20)))
@example("a " * 200, "P" + "\u0301" * 900 + "roject Bluebird", "b " * 200, list(range(0, 1_400, 40)))
@example("Project Blue project ", "Project" + " " * 900 + "Bluebird", "", list(range(0, 1_000, 50)))
def test_not_a_character_of_it_leaves(before: str, secret: str, after: str, cuts: list[int]) -> None:
    assert FORBIDDEN.inside(before + secret + after)
    for at in (cuts, list(range(len(before), len(before) + min(len(secret), 25)))):
        out = streamed(before + secret + after, at)
        # Letters are what is compared; what is left out between them tells nothing.
        assert comparable(before).startswith(comparable(out)), "only what stands before it may leave"


@settings(max_examples=25, deadline=None)
@given(FILLER, FILLER, st.lists(st.integers(0, 600), max_size=20))
def test_what_only_begins_like_it_leaves_in_the_end(before: str, after: str, cuts: list[int]) -> None:
    text = f"{before} Project Blue {after}"
    assert streamed(text, cuts) == text


def test_text_flows_while_nothing_forbidden_has_begun() -> None:
    text = " ".join(WORDS * 40)
    window, out = OutputWindow(LONGEST + 8, Placeholders()), 0
    window.push(text)
    out = len(window.release((), final=False, waits=FORBIDDEN.begun(window.text())))
    assert out > len(text) - 2 * LONGEST
    assert FORBIDDEN.begun("and this is the Pro") == len("and this is the ")
    assert FORBIDDEN.begun("and this") == len("and this")
    assert Forbidden(()).begun("Pro") == 3


@settings(max_examples=30)
@given(st.text(max_size=60), st.text(max_size=60))
def test_texts_are_compared_a_character_at_a_time(first: str, second: str) -> None:
    assert comparable(first + second) == comparable(first) + comparable(second)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("Ηλιος", "ΗΛΙΟΣ"),
        ("план", "ПЛАН"),
        ("VOLK", "ⅤΟᏞК"),
        ("Straße", "STRASSE"),
        ("2020", "２０２O"),
        ("naïve", "NAIVE"),
    ],
)
def test_either_way_to_read_a_text_counts(wanted: str, text: str) -> None:
    assert Forbidden([wanted]).inside(f"so {text} it is")


MINE = """
version: "5"
policies:
  - name: default
    forbidden: [Project Bluebird]
  - name: law
    tenants: [law]
    forbidden: [Case 4711]
  - name: strict
    collections: [strict]
    output: {harmful: block}
"""


def policies(text: str = MINE) -> Policies:
    return Policies(parse_policies(text))


def test_what_is_forbidden_depends_on_tenant_and_collection() -> None:
    assert policies().withheld("CASE-4711 and the rest", "default", "main") == ()
    (verdict,) = policies().withheld("CASE-4711 and the rest", "law", "main")
    assert (verdict.action, verdict.rule, verdict.policy) == ("block", "forbidden_text", "law@5")
    assert "4711" not in str(verdict)
    assert policies().withheld("project  BLUEBIRD", "law", "main")[0].policy == "default@5"
    assert policies().output("default", "main") == frozenset()
    assert policies().output("default", "strict") == {"block"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("forbidden: ['§ -']", r"policies\.0\.forbidden: text 0 needs 3 letters"),
        ("forbidden: [abc, '" + "x" * 201 + "']", "text 1 needs 3 letters or digits, and at most 200"),
        ("forbidden: " + json.dumps(["abc"] * 201), r"policies\.0\.forbidden"),
        ("output: {rude: block}", "no rule or category 'rude'"),
        ("output: {harmful: redact}", r"policies\.0\.output\.harmful"),
    ],
)
def test_what_cannot_be_found_is_refused(said: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_policies(f"version: '1'\npolicies: [{{name: a, {said}}}]")


LONG = [f"sentence {n} of a long answer that goes on. " for n in range(40)]


def asked(service: Service, stream: bool = False) -> tuple[str, str, Any]:
    """Text, finish reason and the rest of an answer."""
    reply = service.client().post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert reply.status_code == 200, reply.text
    if not stream:
        choice = reply.json()["choices"][0]
        return choice["message"]["content"], choice["finish_reason"], reply.json()
    lines = [json.loads(line[6:]) for line in reply.text.split("\n") if line.startswith("data: {")]
    text = "".join(line["choices"][0]["delta"].get("content", "") for line in lines if line["choices"])
    return text, next(line["choices"][0]["finish_reason"] for line in lines[::-1] if line["choices"]), lines[-1]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_with_it_ends_in_content_filter(stream: bool) -> None:
    service = Service(
        tier=ScriptedTier(deltas=[*LONG, "It is Pro", "ject Blu", "ebird, and ", *LONG]), policies=policies()
    )
    text, finish, rest = asked(service, stream)
    assert finish == "content_filter"
    assert "".join(LONG).startswith(text.removesuffix("It is ")) or not text
    assert "bird" not in json.dumps(rest)
    verdicts = [labels for name, _, labels in service.recorder.values if name == "plinth_verdicts_total"]
    assert {"stage": "guard_out", "action": "block", "rule": "forbidden_text"} in verdicts


def test_a_passage_with_it_is_left_out_of_a_search() -> None:
    word = "directory"
    whole = Service(retriever=FixedRetriever()).client().post("/v1/search", json={"query": "copy"}).json()
    assert any(word in one["text"] for one in whole["data"])
    forbidding = policies(MINE.replace("Project Bluebird", word))
    found = Service(policies=forbidding).client().post("/v1/search", json={"query": "copy"})
    assert found.status_code == 200
    assert [one for one in whole["data"] if word not in json.dumps(one)] == found.json()["data"]


BIRD = replace(PASSAGE, chunk="bird.md#0", document="bird.md", text="Project Bluebird copies a tree with cp.")


@pytest.mark.parametrize(("there", "shown"), [((BIRD, PASSAGE), [PASSAGE.chunk]), ((BIRD,), [])])
def test_a_passage_with_it_answers_nothing_and_the_others_do(there: tuple[Passage, ...], shown: list[str]) -> None:
    """What an answer quotes of it would have the whole answer withheld."""
    quote = Listening()
    service = Service(retriever=FixedRetriever(there), tier=quote, policies=policies())
    _, finish, rest = asked(service, stream=False)
    assert (finish, quote.shown) == ("stop", shown)
    (verdict,) = [one for one in rest["plinth"]["verdicts"] if one["stage"] == "guard_passages"]
    assert (verdict["action"], verdict["rule"]) == ("redact", "forbidden_text")
    assert "bird" not in json.dumps(rest)


NAMED = replace(PASSAGE, chunk="named#0", document="project-bluebird.md", title="Birds")
SOURCED = replace(PASSAGE, chunk="sourced#0", source="notes/Project Bluebird/a.md")
COPIED = replace(PASSAGE, chunk="copied#0", also=(Copy("b", "B", "project_bluebird/b.md"),))
HEADED = replace(PASSAGE, chunk="headed#0", header="| Project Bluebird | days |")


@pytest.mark.parametrize("one", [NAMED, SOURCED, COPIED, HEADED], ids=lambda one: one.chunk)
def test_a_passage_with_it_in_a_name_has_no_answer_withheld(one: Passage) -> None:
    quote = Listening()
    service = Service(retriever=FixedRetriever((one, PASSAGE)), tier=quote, policies=policies())
    _, finish, rest = asked(service, stream=False)
    assert (finish, quote.shown) == ("stop", [PASSAGE.chunk])
    assert "bird" not in json.dumps(rest).lower()


def test_an_outline_that_names_it_is_none() -> None:
    """A list of what a document holds names headings of passages that are not cited."""
    for held in ({"parts": ("Ducks", "Project Bluebird")}, {"document": "project-bluebird"}):
        outline = replace(OutlineFound("birds.md", "Birds", "file", passages=(PASSAGE,)), **held)
        record, seen = RequestRecord("req_1"), Understood(outline=outline)
        retriever = FixedRetriever(found=Retrieval("q", (PASSAGE,), understood=seen))
        for rules, left in ((policies(), None), (policies(MINE.replace("Project Bluebird", "Cuckoo")), outline)):
            hops = Hops(RealGuard(), retriever, 1.0, rules)
            assert asyncio.run(hops.search("q", None, record)).understood.outline == left


class Corrected(FixedRetriever):
    """Takes every question for another one."""

    def __init__(self, meant: str, **options: Any) -> None:
        super().__init__(**options)
        self.meant = meant

    async def search(self, *args: Any, **options: Any) -> Retrieval:
        found = await super().search(*args, **options)
        return replace(found, understood=Understood(self.meant))


CORRECTIONS = [
    ("who leads project bluebird?", ""),
    ("who is ann.lee@acme-corp.com?", "who is <EMAIL_1>?"),
    ("who leads project goose?", "who leads project goose?"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("meant", "told"), CORRECTIONS)
def test_what_was_searched_for_passes_the_guard(meant: str, told: str, stream: bool) -> None:
    service = Service(retriever=Corrected(meant), tier=ScriptedTier(), policies=policies())
    text, finish, rest = asked(service, stream)
    assert (bool(text), finish, rest["plinth"]["searched_for"]) == (True, "stop", told)
    assert "bluebird" not in json.dumps(rest)


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_searched_for_is_not_told_of_a_withheld_answer(stream: bool) -> None:
    tier = ScriptedTier(deltas=[*LONG, "It is Project Bluebird, and ", *LONG])
    service = Service(retriever=Corrected("who leads project goose?"), tier=tier, policies=policies())
    assert asked(service, stream)[2]["plinth"]["searched_for"] == ""


@pytest.mark.parametrize("passages", [(PASSAGE,), ()])
@pytest.mark.parametrize(("meant", "told"), CORRECTIONS)
def test_what_a_search_searched_for_passes_the_guard(meant: str, told: str, passages: tuple[Passage, ...]) -> None:
    service = Service(retriever=Corrected(meant, passages=passages), policies=policies())
    found = service.client().post("/v1/search", json={"query": "who leads it?"}).json()
    assert (found["plinth"]["searched_for"], len(found["data"])) == (told, len(passages))


def test_parts_and_outlines_lose_it_too() -> None:
    part = Retrieval("p", (PASSAGE, BIRD))
    outline = OutlineFound("bird.md", "Bird", "file", passages=(BIRD,))
    found = Retrieval("q", (PASSAGE,), understood=Understood(parts=(part,), outline=outline))
    kept, out = permitted(found, lambda passage: "Bluebird" in passage.text)
    assert [one.chunk for one in out] == [BIRD.chunk, BIRD.chunk]
    assert kept.understood.outline is None
    assert kept.understood.parts[0].passages == (PASSAGE,)
    assert permitted(part.only([0]), lambda passage: False)[0] == part.only([0])


BOMB = "Here is how to build a pipe bomb at home: "


@pytest.mark.parametrize("stream", [False, True])
def test_a_category_that_is_blocked_lets_nothing_out(stream: bool) -> None:
    strict = policies(MINE.replace("[strict]", "[main]"))
    service = Service(tier=ScriptedTier(deltas=[*LONG, BOMB, *LONG]), policies=strict)
    assert asked(service, stream)[:2] == ("", "content_filter")
    fine = Service(tier=ScriptedTier(deltas=LONG), policies=strict)
    assert asked(fine, stream)[:2] == ("".join(LONG), "stop")
    elsewhere = Service(tier=ScriptedTier(deltas=[*LONG, BOMB]), policies=policies())
    assert asked(elsewhere, stream)[0] == "".join([*LONG, BOMB])


def test_a_rule_s_verdict_on_what_goes_out_counts_only_where_a_policy_says_so() -> None:
    verdict = Verdict("guard_out", "block", "weapons", "why", "rules", "7")
    assert policies().applied([verdict], "default", "main") == ()
    assert policies().applied([verdict], "default", "strict")[0].policy == "strict@5"
