"""Whether the time of an answer tells what others have: a question for another tenant's document takes as long as one
for a document of nobody.

The questions of a pair are alike but for the words, and asked one right after the other, in an order by lot: whatever
else the machine does meets both. Judged is in how many pairs the first takes longer, which no slow moment can carry.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from math import sqrt
from typing import Any

import pytest

from tests.serve_apps.replicas.test_rights import Tenant, tenants
from tests.serve_apps.replicas.test_rights import replica_of as replica_of  # a fixture

SIGMAS = 4.5  # an honest service fails one time in 150,000
Asked = Callable[[str], Awaitable[Any]]


def pairs(theirs: Tenant, nobodys: Tenant, count: int) -> list[tuple[str, str]]:
    """(a question after their documents, the same after documents that do not exist); no question twice."""
    forms = (
        "What is the budget of {code}, number {n}?",
        "Who is {person} of the {code} plan ({n})?",
        "When does {a} deliver {b} for {code} in part {n}?",
        "Summarize {firm}/{code}-plan.md page {n}",
    )

    def asked(who: Tenant, n: int) -> str:
        words = {"code": who.code, "person": who.person, "a": who.facts[0], "b": who.facts[1], "firm": who.name}
        return forms[n % len(forms)].format(n=n, **words)

    return [(asked(theirs, n), asked(nobodys, n)) for n in range(count)]


async def slower(ask: Asked, questions: list[tuple[str, str]]) -> float:
    """The share of pairs whose first question took more processor time than its second."""
    order, longer = random.Random(3), 0
    for pair in questions:
        took = {}
        for place in order.sample((0, 1), 2):
            begun = time.process_time_ns()
            await ask(pair[place])
            took[place] = time.process_time_ns() - begun
        longer += took[0] > took[1]
    return longer / len(questions)


def bound(count: int) -> float:
    """How far from a half the share may be by chance."""
    return SIGMAS * 0.5 / sqrt(count)


def made_up(like: Tenant) -> Tenant:
    """A tenant that is nowhere, its words of the same length as those of another one."""
    picker = random.Random(8)

    def word(text: str) -> str:
        made = "".join(picker.choice("bdfgklmnprst" if place % 2 == 0 else "aeiou") for place in range(len(text)))
        return made.capitalize() if text[0].isupper() else made

    first, second, third = map(word, like.facts)
    return Tenant(word(like.name), "g", word(like.code), word(like.person), (first, second, third))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_time_does_not_tell_what_another_tenant_has(replica_of: Any, count: int) -> None:
    own, victim, *_ = people = tenants(4)
    replica = replica_of(people)

    async def ask(question: str) -> Any:
        return await replica.search(question, None, "", own.rights)

    async def measured() -> tuple[float, float]:
        questions = pairs(victim, made_up(victim), count + 110)
        await slower(ask, questions[count + 100 :])  # builds the view, and warms up

        async def telling(question: str) -> Any:  # what a filter behind the search would do: work on what is found
            found = await ask(question)
            if victim.code in question or victim.facts[0] in question:
                until = time.process_time_ns() + 2_000_000
                while time.process_time_ns() < until:
                    pass
            return found

        return await slower(ask, questions[:count]), await slower(telling, questions[count : count + 100])

    honest, told = asyncio.run(measured())
    assert abs(honest - 0.5) <= bound(count), f"the time tells it in {honest:.0%} of the pairs"
    assert told - 0.5 > bound(100), "two milliseconds more would have been noticed"
