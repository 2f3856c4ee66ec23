"""Pages about things that do not exist, as small folders hold them, with questions for what they tell and what they do
not: rows for a reader, in the form of ``contrast``.

Real pages state few facts in forms that rules can ask for; here every statement is known, so the same question is
answered by one page and is a near miss over another. Wordings of statement and question are drawn apart, so that what
is learnt is the attribute and not a pair of templates.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from data_jobs.synthetic.contrast import ANSWERED, ContrastRow

LICENCE = "Apache-2.0"
THINGS = {
    "place": ("library", "museum", "harbour", "school", "station", "swimming pool", "bakery", "town hall", "theatre",
              "garden", "clinic", "workshop", "hotel", "lighthouse", "market hall", "sports centre", "archive", "farm"),
    "made": ("ship", "bridge", "tower", "ferry", "pump", "kiln", "telescope", "tram", "crane", "boiler", "organ", "press",
             "windmill", "locomotive", "printer", "fountain", "clock", "generator"),
    "group": ("choir", "rowing club", "orchestra", "repair team", "chess club", "fire brigade", "reading circle", "company",
              "cooperative", "foundation", "night shift", "support desk"),
    "plan": ("membership", "basic plan", "annual pass", "lease", "summer course", "first aid course", "festival",
             "newsletter", "loyalty card", "pilot project", "insurance", "scholarship", "maintenance contract", "warranty"),
    "service": ("backup job", "billing service", "login page", "mail gateway", "search index", "payment API", "build server",
                "message queue", "image cache", "export tool", "sync daemon", "alerting system"),
}  # fmt: skip
NAMES = ("Marlow", "Ostrava", "Helena", "Quist", "Tarn", "Bellweather", "Ilse", "Corvin", "Norrby", "Aldous", "Fenwick",
         "Ravel", "Sorrel", "Pinter", "Lindqvist", "Okafor", "Haruka", "Dellamore", "Vesper", "Kestrel", "Amberley",
         "Juniper", "Zephyr", "Halden")  # fmt: skip
FIRST = ("Ada", "Tomas", "Priya", "Jonas", "Mei", "Oscar", "Leila", "Hugo", "Ingrid", "Samuel", "Noor", "Clara")
LAST = ("Berg", "Okoye", "Lindholm", "Marsh", "Tanaka", "Voss", "Delgado", "Petrov", "Reyes", "Quinn", "Haas", "Novak")
TOWNS = ("Ellerby", "Tornio", "Castel Nuovo", "Port Anders", "Wexham", "Lindau", "Sankt Olav", "Braemore", "Villanova")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "March", "April", "June", "August", "September", "October", "December")
COLOURS = ("dark green", "red", "white and blue", "yellow", "grey", "bright orange", "black")
STUFF = ("oak", "cast iron", "limestone", "brick", "aluminium", "concrete", "copper", "glass and steel")
LANGUAGES = ("Python", "Go", "Rust", "Java", "TypeScript", "Kotlin")
REASONS = ("the roof was leaking", "too few people came", "the funding had run out", "the old one was too small",
           "customers had asked for it", "two outages had happened in a row", "the lease ended")  # fmt: skip


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
_SOLID = ("place", "made")
# fmt: off
ATTRIBUTES = (
    Attribute("built", _SOLID, "year", ("{S} was built in {v}.", "Construction of {s} was finished in {v}.", "Built in {v}, {s} is one of the oldest of its kind.", "{S} dates from {v}."),
              ("When was {s} built?", "In what year was {s} constructed?", "How old is {s}?", "what year is {s} from", "When was the {t} made?")),
    Attribute("builder", _SOLID, "person", ("{S} was designed by {v}.", "{v} drew the plans for {s}.", "The architect of {s} was {v}."),
              ("Who designed {s}?", "Who was the architect of {s}?", "Who drew the plans for {s}?")),
    Attribute("cost", _ALL, "money", ("{S} costs {v} a year.", "The price of {s} is {v}.", "For {s} we pay {v} every year.", "{v} is what {s} costs in total."),
              ("How much does {s} cost?", "What is the price of {s}?", "What do we pay for {s}?", "How expensive is {s}?", "{s} cost")),
    Attribute("owner", _ALL, "person", ("{S} belongs to {v}.", "{v} owns {s}.", "The owner of {s} is {v}."),
              ("Who owns {s}?", "Who does {s} belong to?", "Who is the owner of {s}?", "owner of {s}")),
    Attribute("lead", ("place", "group", "plan", "service"), "person", ("{S} is run by {v}.", "{v} is in charge of {s}.", "{v} has led {s} for three years.", "Ask {v}, who is responsible for {s}."),
              ("Who runs {s}?", "Who is in charge of {s}?", "Who is responsible for {s}?", "Who leads {s}?", "Who manages {s}?")),
    Attribute("hours", ("place", "group"), "hours", ("{S} is open {v}.", "Opening hours of {s}: {v}.", "You can visit {s} {v}."),
              ("When is {s} open?", "What are the opening hours of {s}?", "When can I visit {s}?", "opening times {s}")),
    Attribute("closed", ("place",), "day", ("{S} is closed on {v}s.", "On {v}s the doors of {s} stay shut."),
              ("On which day is {s} closed?", "When is {s} closed?", "Which day does {s} not open?"), ("hours",)),
    Attribute("where", ("place", "made", "group"), "place", ("{S} is in {v}.", "You find {s} in {v}.", "{S} stands at the edge of {v}.", "The address of {s} is Mill Lane 4, {v}."),
              ("Where is {s}?", "In which town is {s}?", "Where can I find {s}?", "What is the location of {s}?", "What is the address of {s}?")),
    Attribute("people", ("place", "group", "service"), "number", ("{v} people work for {s}.", "{S} has {v} employees.", "The staff of {s} numbers {v}."),
              ("How many people work for {s}?", "How many employees does {s} have?", "How big is the staff of {s}?")),
    Attribute("members", ("group", "plan"), "number", ("{S} has {v} members.", "{v} members belong to {s}.", "Membership of {s} stands at {v}."),
              ("How many members does {s} have?", "What is the number of members of {s}?", "How many people belong to {s}?")),
    Attribute("height", _SOLID, "metres", ("{S} is {v} high.", "With a height of {v}, {s} can be seen from far.", "{S} rises {v} above the ground."),
              ("How high is {s}?", "How tall is {s}?", "What is the height of {s}?")),
    Attribute("weight", ("made",), "tonnes", ("{S} weighs {v}.", "The weight of {s} is {v}."),
              ("How heavy is {s}?", "What does {s} weigh?", "What is the weight of {s}?")),
    Attribute("speed", ("made",), "speed", ("{S} reaches {v}.", "The top speed of {s} is {v}."), ("How fast is {s}?", "What is the top speed of {s}?")),
    Attribute("colour", _SOLID, "colour", ("{S} is painted {v}.", "Since last year {s} is {v}."), ("What colour is {s}?", "In which colour is {s} painted?")),
    Attribute("material", _SOLID, "stuff", ("{S} is made of {v}.", "The walls of {s} are {v}.", "{v} was used for {s}."), ("What is {s} made of?", "Which material was used for {s}?")),
    Attribute("renovated", _SOLID, "year", ("{S} was renovated in {v}.", "In {v} {s} was thoroughly restored.", "The last renovation of {s} took place in {v}."),
              ("When was {s} renovated?", "In what year was {s} restored?", "When was the last renovation of {s}?")),
    Attribute("sold", _ALL[:3], "year", ("{S} was sold in {v}.", "In {v} {s} was sold to a neighbour."), ("When was {s} sold?", "In what year was {s} sold?")),
    Attribute("ended", _ALL, "date", ("{S} was shut down on {v}.", "On {v} {s} came to an end.", "{S} ended on {v}."),
              ("When did {s} end?", "When was {s} shut down?", "On what date did {s} close for good?")),
    Attribute("started", ("group", "plan", "service"), "date", ("{S} started on {v}.", "{S} was founded on {v}.", "We launched {s} on {v}."),
              ("When did {s} start?", "When was {s} founded?", "Since when do we have {s}?", "What is the start date of {s}?")),
    Attribute("deadline", ("plan",), "date", ("Applications for {s} close on {v}.", "The deadline for {s} is {v}.", "Register for {s} by {v}."),
              ("What is the deadline for {s}?", "Until when can I apply for {s}?", "When do applications for {s} close?")),
    Attribute("length", ("plan",), "span", ("{S} lasts {v}.", "The duration of {s} is {v}.", "{S} runs for {v}."), ("How long does {s} last?", "What is the duration of {s}?", "How long is {s}?")),
    Attribute("cancel", ("plan",), "span", ("{S} can be cancelled with {v} notice.", "To cancel {s}, write to us {v} before its end."),
              ("How do I cancel {s}?", "What is the notice period of {s}?", "How can {s} be cancelled?")),
    Attribute("phone", ("place", "group", "plan"), "phone", ("The telephone number of {s} is {v}.", "Call {s} at {v}.", "{S} can be reached by phone under {v}."),
              ("What is the phone number of {s}?", "How can I call {s}?", "Which number do I dial for {s}?")),
    Attribute("language", ("service",), "language", ("{S} is written in {v}.", "The code of {s} is {v}."), ("Which language is {s} written in?", "What programming language does {s} use?")),
    Attribute("port", ("service",), "port", ("{S} listens on port {v}.", "The port of {s} is {v}."), ("Which port does {s} listen on?", "What is the port of {s}?")),
    Attribute("timeout", ("service",), "seconds", ("Requests to {s} time out after {v}.", "The timeout of {s} is {v}."), ("What is the timeout of {s}?", "After how long do requests to {s} time out?")),
    Attribute("version", ("service",), "version", ("The current version of {s} is {v}.", "{S} runs in version {v}."), ("Which version of {s} is current?", "What version does {s} run?")),
    Attribute("restart", ("service",), "command", ("To restart {s}, run `{v}`.", "{S} is restarted with `{v}`."), ("How do I restart {s}?", "What command restarts {s}?")),
    Attribute("why", ("place", "group", "plan", "service"), "reason", ("{S} was moved because {v}.", "We moved {s}: {v}.", "The reason for moving {s} was that {v}."),
              ("Why was {s} moved?", "What was the reason for moving {s}?")),
    Attribute("visitors", ("place", "plan"), "number", ("{S} has {v} visitors a year.", "Every year {v} people come to {s}."), ("How many visitors does {s} have?", "How many people come to {s} every year?")),
    Attribute("size", ("place",), "area", ("{S} covers {v}.", "The floor of {s} measures {v}."), ("How large is {s}?", "What is the area of {s}?", "How big is {s}?")),
    Attribute("email", ("group", "service", "plan"), "email", ("Write to {v} about {s}.", "The e-mail address of {s} is {v}."), ("What is the e-mail address of {s}?", "Where do I write about {s}?")),
    Attribute("sponsor", ("group", "plan", "place"), "firm", ("{S} is paid for by {v}.", "{v} sponsors {s}.", "The money for {s} comes from {v}."), ("Who pays for {s}?", "Who sponsors {s}?", "Where does the money for {s} come from?")),
    Attribute("prize", ("group",), "firm", ("{S} won the {v} cup.", "Last year {s} came first at the {v} games."), ("What did {s} win?", "Which prize did {s} win?")),
)
# fmt: on
_BY_NAME = {attribute.name: attribute for attribute in ATTRIBUTES}
_GLUE = ("Visitors like it.", "More is told at the desk.", "This page is updated every spring.", "Please be careful.",
         "Nothing else changed.", "Many remember it well.", "See also the other pages.", "It is popular with families.")  # fmt: skip


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
    return (f"the {picker.choice(NAMES)} {name}", name) if luck < 0.9 else (f"the {name} of {picker.choice(TOWNS)}", name)


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
        "money": lambda: picker.choice((f"{number(5, 900)} euros", f"${number(5, 900)}.00", f"{number(2, 80)},000 pounds")),
        "hours": lambda: f"from {number(7, 11)} am to {number(4, 9)} pm",
        "day": lambda: picker.choice(DAYS),
        "place": lambda: picker.choice(TOWNS),
        "number": lambda: picker.choice((str(number(6, 900)), f"{number(2, 40)},500", "about two hundred", "thirty-four")),
        "metres": lambda: picker.choice((f"{number(3, 90)} metres", f"{number(9, 280)} feet")),
        "tonnes": lambda: picker.choice((f"{number(2, 400)} tonnes", f"{number(20, 900)} kilograms")),
        "speed": lambda: f"{number(12, 140)} kilometres per hour",
        "colour": lambda: picker.choice(COLOURS),
        "stuff": lambda: picker.choice(STUFF),
        "date": lambda: f"{number(1, 28)} {picker.choice(MONTHS)} {number(1990, 2026)}",
        "span": lambda: picker.choice((f"{number(2, 18)} months", f"{number(2, 12)} weeks", "one year", f"{number(10, 90)} days")),
        "phone": lambda: f"0{number(200, 999)} {number(100, 999)} {number(100, 999)}",
        "language": lambda: picker.choice(LANGUAGES),
        "port": lambda: str(number(1024, 9999)),
        "seconds": lambda: f"{number(5, 120)} seconds",
        "version": lambda: f"{number(1, 9)}.{number(0, 20)}.{number(0, 9)}",
        "command": lambda: f"{picker.choice(('service', 'ctl', 'make'))} restart-{picker.choice(('all', 'node', 'main'))}",
        "reason": lambda: picker.choice(REASONS),
        "area": lambda: f"{number(40, 9000)} square metres",
        "email": lambda: f"{picker.choice(NAMES).lower()}@example.org",
        "firm": lambda: f"{picker.choice(NAMES)} {picker.choice(('Ltd', 'Foundation', 'Bank', 'Brothers'))}",
    }  # fmt: skip
    return made[kind]()
