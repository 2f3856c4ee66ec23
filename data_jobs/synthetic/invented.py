"""Pages about things that do not exist, as small folders hold them, with questions for what they tell and what they do
not: rows for a reader, in the form of ``contrast``.

Real pages state few facts in forms that rules can ask for; here every statement is known, so the same question is
answered by one page and is a near miss over another. Wordings of statement and question are drawn apart, so that what
is learnt is the attribute and not a pair of templates.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_jobs.synthetic.contrast import ANSWERED, ContrastRow

THINGS = {
    "place": (
        "library",
        "museum",
        "harbour",
        "school",
        "station",
        "swimming pool",
        "bakery",
        "town hall",
        "theatre",
        "garden",
        "clinic",
        "workshop",
        "hotel",
        "lighthouse",
        "market hall",
        "sports centre",
        "archive",
        "farm",
    ),
    "made": (
        "ship",
        "bridge",
        "tower",
        "ferry",
        "pump",
        "kiln",
        "telescope",
        "tram",
        "crane",
        "boiler",
        "organ",
        "press",
        "windmill",
        "locomotive",
        "printer",
        "fountain",
        "clock",
        "generator",
    ),
    "group": (
        "choir",
        "rowing club",
        "orchestra",
        "repair team",
        "chess club",
        "fire brigade",
        "reading circle",
        "company",
        "cooperative",
        "foundation",
        "night shift",
        "support desk",
    ),
    "plan": (
        "membership",
        "basic plan",
        "annual pass",
        "lease",
        "summer course",
        "first aid course",
        "festival",
        "newsletter",
        "loyalty card",
        "pilot project",
        "insurance",
        "scholarship",
        "maintenance contract",
        "warranty",
    ),
    "service": (
        "backup job",
        "billing service",
        "login page",
        "mail gateway",
        "search index",
        "payment API",
        "build server",
        "message queue",
        "image cache",
        "export tool",
        "sync daemon",
        "alerting system",
    ),
}
NAMES = (
    "Marlow",
    "Ostrava",
    "Helena",
    "Quist",
    "Tarn",
    "Bellweather",
    "Ilse",
    "Corvin",
    "Norrby",
    "Aldous",
    "Fenwick",
    "Ravel",
    "Sorrel",
    "Pinter",
    "Lindqvist",
    "Okafor",
    "Haruka",
    "Dellamore",
    "Vesper",
    "Kestrel",
    "Amberley",
    "Juniper",
    "Zephyr",
    "Halden",
)
FIRST = ("Ada", "Tomas", "Priya", "Jonas", "Mei", "Oscar", "Leila", "Hugo", "Ingrid", "Samuel", "Noor", "Clara")
LAST = ("Berg", "Okoye", "Lindholm", "Marsh", "Tanaka", "Voss", "Delgado", "Petrov", "Reyes", "Quinn", "Haas", "Novak")
TOWNS = ("Ellerby", "Tornio", "Castel Nuovo", "Port Anders", "Wexham", "Lindau", "Sankt Olav", "Braemore", "Villanova")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "March", "April", "June", "August", "September", "October", "December")
COLOURS = ("dark green", "red", "white and blue", "yellow", "grey", "bright orange", "black")
STUFF = ("oak", "cast iron", "limestone", "brick", "aluminium", "concrete", "copper", "glass and steel")
LANGUAGES = ("Python", "Go", "Rust", "Java", "TypeScript", "Kotlin")
REASONS = (
    "the roof was leaking",
    "too few people came",
    "the funding had run out",
    "the old one was too small",
    "customers had asked for it",
    "two outages had happened in a row",
    "the lease ended",
)


@dataclass(frozen=True)
class Attribute:
    """What can be said of a thing. In the wordings {s} is the thing ("the ship"), {v} the value, {S} begins a sentence.

    Attributes:
        of: the groups of ``THINGS`` that have it.
        value: the kind of value (``_value``).
        near: names of attributes whose statements answer its questions, too.
    """

    name: str
    of: tuple[str, ...]
    value: str
    said: tuple[str, ...]
    asked: tuple[str, ...]
    near: tuple[str, ...] = ()


_ALL = tuple(THINGS)
_TABLE: list[dict[str, Any]] = json.loads(Path(__file__).with_name("attributes.json").read_text(encoding="utf-8"))
ATTRIBUTES = tuple(
    Attribute(
        row["name"], tuple(row["of"]), row["value"], tuple(row["said"]), tuple(row["asked"]), tuple(row.get("near", ()))
    )
    for row in _TABLE
)  # fmt: skip
_GLUE = (
    "Visitors like it.",
    "More is told at the desk.",
    "This page is updated every spring.",
    "Please be careful.",
    "Nothing else changed.",
    "Many remember it well.",
    "See also the other pages.",
    "It is popular with families.",
)


def invented_rows(count: int, seed: int) -> Iterator[ContrastRow]:
    """About ``count`` rows: of every page one or two questions that it answers, and as many near misses."""
    picker = random.Random(seed)  # noqa: S311 (no secret)
    made = page = 0
    while made < count:
        for row in _page(f"invented-{seed}-{page}", picker):
            yield row
            made += 1
        page += 1


def _page(document: str, picker: random.Random) -> Iterator[ContrastRow]:
    group, other_group = picker.choice(_ALL), picker.choice(_ALL)
    thing, other = _thing(group, picker), _thing(other_group, picker)
    if thing[0] == other[0]:
        return
    has = [attribute for attribute in ATTRIBUTES if group in attribute.of]
    told = picker.sample(has, picker.randint(1, 3))
    stated = [_state(attribute, thing[0], picker) for attribute in told]
    mixed = picker.random() < 0.5
    foreign = picker.choice([a for a in ATTRIBUTES if other_group in a.of])
    parts = [sentence for sentence, _ in stated]
    if mixed:
        parts.append(_state(foreign, other[0], picker)[0])
    if picker.random() < 0.4:
        parts.append(picker.choice(_GLUE))
    picker.shuffle(parts)
    named = picker.random() < 0.5
    title = picker.choice((thing[1], thing[0])) if named else picker.choice(("About us", "Notes", "Overview", ""))
    title = title[:1].upper() + title[1:]
    if not mixed and picker.random() < 0.5:
        # As people write on: what the title, or the sentence before, is about is `it` from then on.
        at = 0 if named else 1
        parts[at:] = [p.replace(thing[0], "it").replace(thing[0][0].upper() + thing[0][1:], "It") for p in parts[at:]]
        parts = parts if named or thing[0] in parts[0].lower() or thing[0] in parts[0] else [thing[0] + ".", *parts]
    text = " ".join(parts)

    def row(attribute: Attribute, of: tuple[str, str], kind: str, answer: str = "") -> ContrastRow:
        asked = picker.choice(attribute.asked).replace("{s}", of[0]).replace("{t}", of[1])
        return ContrastRow(asked[:1].upper() + asked[1:], title, text, kind == ANSWERED, kind, document, answer)

    place = picker.randrange(len(told))
    yield row(told[place], thing, ANSWERED, stated[place][1])
    names = {attribute.name for attribute in told}
    lacks = [a for a in has if not names & {a.name, *a.near}]
    if lacks:
        yield row(picker.choice(lacks), thing, "attribute")
    if mixed:
        # The page tells it of one thing and is asked of the other.
        if group in foreign.of and not names & {foreign.name, *foreign.near}:
            yield row(foreign, thing, "entity")
        crossed = picker.choice(told)
        if other_group in crossed.of and crossed.name != foreign.name and foreign.name not in crossed.near:
            yield row(crossed, other, "entity")
    elif other_group in told[place].of:
        yield row(told[place], other, "entity")


def _thing(group: str, picker: random.Random) -> tuple[str, str]:
    """A thing as it stands in a sentence, and its common name."""
    name = picker.choice(THINGS[group])
    luck = picker.random()
    if luck < 0.6:
        return f"the {name}", name
    return (
        (f"the {picker.choice(NAMES)} {name}", name) if luck < 0.9 else (f"the {name} of {picker.choice(TOWNS)}", name)
    )


def _state(attribute: Attribute, thing: str, picker: random.Random) -> tuple[str, str]:
    """A sentence that tells the attribute of a thing, and the value in it."""
    value = _value(attribute.value, picker)
    wording = picker.choice(attribute.said)
    if wording.startswith("{v}"):
        value = value[:1].upper() + value[1:]
    sentence = wording.replace("{S}", thing[:1].upper() + thing[1:]).replace("{s}", thing).replace("{v}", value)
    return sentence, value


def _value(kind: str, picker: random.Random) -> str:
    number = picker.randint
    made = {
        "year": lambda: str(number(1780, 2024)),
        "person": lambda: f"{picker.choice(FIRST)} {picker.choice(LAST)}",
        "money": lambda: picker.choice(
            (f"{number(5, 900)} euros", f"${number(5, 900)}.00", f"{number(2, 80)},000 pounds")
        ),
        "hours": lambda: f"from {number(7, 11)} am to {number(4, 9)} pm",
        "day": lambda: picker.choice(DAYS),
        "place": lambda: picker.choice(TOWNS),
        "number": lambda: picker.choice(
            (str(number(6, 900)), f"{number(2, 40)},500", "about two hundred", "thirty-four")
        ),
        "metres": lambda: picker.choice((f"{number(3, 90)} metres", f"{number(9, 280)} feet")),
        "tonnes": lambda: picker.choice((f"{number(2, 400)} tonnes", f"{number(20, 900)} kilograms")),
        "speed": lambda: f"{number(12, 140)} kilometres per hour",
        "colour": lambda: picker.choice(COLOURS),
        "stuff": lambda: picker.choice(STUFF),
        "date": lambda: f"{number(1, 28)} {picker.choice(MONTHS)} {number(1990, 2026)}",
        "span": lambda: picker.choice(
            (f"{number(2, 18)} months", f"{number(2, 12)} weeks", "one year", f"{number(10, 90)} days")
        ),
        "phone": lambda: f"0{number(200, 999)} {number(100, 999)} {number(100, 999)}",
        "language": lambda: picker.choice(LANGUAGES),
        "port": lambda: str(number(1024, 9999)),
        "seconds": lambda: f"{number(5, 120)} seconds",
        "version": lambda: f"{number(1, 9)}.{number(0, 20)}.{number(0, 9)}",
        "command": lambda: (
            f"{picker.choice(('service', 'ctl', 'make'))} restart-{picker.choice(('all', 'node', 'main'))}"
        ),
        "reason": lambda: picker.choice(REASONS),
        "area": lambda: f"{number(40, 9000)} square metres",
        "email": lambda: f"{picker.choice(NAMES).lower()}@example.org",
        "firm": lambda: f"{picker.choice(NAMES)} {picker.choice(('Ltd', 'Foundation', 'Bank', 'Brothers'))}",
    }
    return made[kind]()
