"""What bears a person's name and is no person: firms, methods, dishes, machines, places, storms, cells of tables."""

from __future__ import annotations

import re

# Of firms, dishes, places, tools and methods that bear a name.
_WITH_CAPITALS_WORDS = """
Controls Systems Group Bank Motors Industries Company Corporation Corp Inc Ltd Limited GmbH Foundation Institute
University College School Hospital Airport Station Bridge Tower Museum Theatre Theater Stadium Library Prize Award
Medal Cup Trophy Act Report Scale Score Index Test Method Model Theorem Lemma Filter Tree Transform Function Process
Distribution Engine Motor Pump Valve Cake Pie Salad Soup Sauce Sandwich Cocktail Biscuits Bread Apple Fir Pine Rose
Server Framework Library Compiler Optimizer Technologies Software Solutions Services Partners Holdings Brothers
Stanley Spencer Davidson Electric Instruments Laboratories Labs Press Publishing Records Studios Hotel Inn Arms Castle
Park Hue Benz Royce Requiem Symphony Street Road Square Avenue Lane Hall Center Centre Prime Fixture Rate Level Rating
Mode Text Page Status Type Size Value Field
"""
# Not in forms that verbs have as well: "Anna tests the pump".
_IN_SMALL_WORDS = """
algorithms? methods? iterations? equations? transform distances? filter model effects? constants? number diseases?
syndromes? engines? radars? burners? flasks? dishes dish counter diagrams? chart scale screw key knife knives lamps?
printers? drill theorems? lemmas? inequality inequalities criterion criteria coefficients? correlation statistics?
distributions? process function polynomials? series matrix matrices code trees? heap hash(?:es)? networks? machine
motors? pump valves? airports? stations? bridges? towers? symphon(?:y|ies) sonatas? salads? cakes? sauces? soups?
sandwich(?:es)? cocktails? whiskey? beers? cheese apples? fir pine spruce terriers? optimi[sz]ers? optimi[sz]ation
regression classifiers? projections? telescopes? probe rockets? robots? drive converters? bearings? couplings? gauge
batteries battery cells? compilers? frameworks? librar(?:y|ies) servers? clusters? plugins? toolkits? formulas?
formulae laws? bread biscuits? test score prizes? awards? medals?
"""
# Behind "'s" only what is called after somebody, not what somebody has: Moore's law, not Moore's car.
_AFTER_SOMEBODY_WORDS = """
laws? disease syndrome theorem lemma algorithm razor paradox constant equations? inequality principle rule conjecture
formula method test transform series coefficient kappa alpha correlation distance palsy sign triangle snowflake ladder
cube comet belt ghost cat demon
"""


def _any(words: str) -> str:
    return "|".join(words.split())


_BEHIND = re.compile(
    rf"[ \u00a0](?:{_any(_WITH_CAPITALS_WORDS)})\b|[ \u00a0](?:{_any(_IN_SMALL_WORDS)})\b"
    rf"|['’]s?[ \u00a0](?:{_any(_AFTER_SOMEBODY_WORDS)})\b"
)
_BEFORE = re.compile(
    r"(?i:\b(?:hurricane|typhoon|cyclone|storm|hms|uss|mv|lake|mount|project|codename|cocktail|opera|ballet|novel"
    r"|musical))[ \u00a0]"
)
# In a list of words with capitals, what is said of the last one is said of all: "Otto and Wankel engines".
_LISTED = re.compile(
    r"(?:, (?:and |or )?|[ \u00a0](?:and|or|&)[ \u00a0])"
    r"[^\W\d_a-z][\w.'’-]{1,20}(?:[ \u00a0][^\W\d_a-z][\w.'’-]{0,20}){0,2}"
)
_LISTED_BEFORE = re.compile(r"([^\W\d_]{2,24})(?:, (?:and |or )?|[ \u00a0](?:and|or|&)[ \u00a0])\Z")
_TECHNOLOGY_WORDS = """
python java swift ruby rust julia ada pascal kotlin scala kafka jenkins maven gradle jupyter pandas django flask
apache spark hadoop kibana grafana prometheus cassandra ansible terraform docker kubernetes linux windows debian
ubuntu redis nginx postgres jira helm istio trello diesel
"""
_TECHNOLOGY = frozenset(_TECHNOLOGY_WORDS.split())
_MAX_LISTED = 6
_MEASURED = re.compile(r"[ :=|]{1,3}[+-]?\d+[.,]\d")
# Firms, brands, figures and kinds whose names are those of persons, as they are written without "&".
_CALLED_LIKE_PERSONS_WORDS = """
harley davidson, ernst young, ben jerry, marks spencer, lockheed martin, northrop grumman, morgan stanley, goldman
sachs, dow jones, johnson johnson, jack daniels, jim beam, johnnie walker, tommy hilfiger, calvin klein, ralph lauren,
hugo boss, louis vuitton, saint laurent, giorgio armani, dolce gabbana, levi strauss, wells fargo, charles schwab,
merrill lynch, price waterhouse, booz allen, mary kay, estee lauder, elizabeth arden, tim hortons, betty crocker, sara
lee, oscar mayer, granny smith, jack russell, tom collins, shirley temple, bloody mary, earl grey, lady grey, santa
claus, robinson crusoe, sherlock holmes, harry potter, james bond, mickey mouse, donald duck, monterey jack, jack
frost, john deere, mercedes benz, rolls royce, procter gamble, hewlett packard, black decker, aston martin, alfa
romeo, mary celeste, peter pan, don quixote, oliver twist, jane eyre, tom sawyer, huckleberry finn, anna karenina,
william hill, ted baker, hugo award, max planck, johns hopkins, king charles spaniel, queen elizabeth, dr pepper,
uncle ben, winnie pooh, romeo juliet
"""
_CALLED_LIKE_PERSONS = frozenset(name.strip() for name in _CALLED_LIKE_PERSONS_WORDS.replace("\n", " ").split(","))
# -- tables ------------------------------------------------------------------------------------------------------------
_BELOW_HEAD = re.compile(r"\n[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)*\|?[ \t]*(?:\n|\Z)")
_MAX_TABLE_CHARS = 4_000  # so far above a cell its head is looked for
_OF_PERSONS = re.compile(
    r"(?i)name|person|people|who\b|owner|author|contact|employee|staff|customer|client|patient|manager|user|reviewer"
    r"|assignee|responsible|teacher|student|member|player|speaker|winner|tenant|guest|doctor|driver|lead\b|maintainer"
    r"|mitarbeiter|kunde|ansprech|verantwortlich|autor|nombre|nom\b|naam|cliente|paciente|responsable|sender|recipient"
)


def is_called_so(said: str) -> bool:
    """Whether it is the name of a well-known firm, brand, kind or figure."""
    return " ".join(said.lower().split()) in _CALLED_LIKE_PERSONS


def is_thing(text: str, start: int, end: int) -> bool:
    """Whether what looks like a name names something that is no person, by what stands beside it."""
    before = _BEFORE.finditer(text, max(0, start - 12), end)
    if _BEHIND.match(text, end) or any(start in match.span() for match in before):
        return True
    at = end
    for _ in range(_MAX_LISTED):
        listed = _LISTED.match(text, at)
        if not listed:
            break
        at = listed.end()
        if _BEHIND.match(text, at):
            return True
    return False


def is_listed_with_technology(text: str, start: int) -> bool:
    """Whether it stands behind names of software in one list: "Docker, Helm and Istio"."""
    for _ in range(_MAX_LISTED):
        listed = _LISTED_BEFORE.search(text, max(0, start - 32), start)
        if not listed:
            return False
        if listed[1].lower() in _TECHNOLOGY:
            return True
        start = listed.start()
    return False


def is_measured(text: str, start: int, end: int) -> bool:
    """Whether one word has a number with a fraction right behind it: ``Baker 4.2``."""
    return text[start:end].isalpha() and _MEASURED.match(text, end) is not None


def is_no_cell_of_persons(text: str, start: int, end: int) -> bool:
    """Whether it stands in the head of a table, or is one word in a column that is not of persons."""
    line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    if line.count("|") < 2:
        return False
    if line_end >= 0 and _BELOW_HEAD.match(text, line_end):
        return True
    column = text.count("|", line_start, start)
    head = _head_above(text, line_start)
    if head is None or not text[start:end].isalpha() or "@" in line:
        return False
    cells = head.split("|")
    return column < len(cells) and not _OF_PERSONS.search(cells[column])


def _head_above(text: str, line_start: int) -> str | None:
    """The head of the table whose row begins at ``line_start``; None where there is none near."""
    low = max(0, line_start - _MAX_TABLE_CHARS)
    rules = list(_BELOW_HEAD.finditer(text, low, line_start))
    if not rules or "\n\n" in text[rules[-1].end() : line_start]:
        return None
    above = text[: rules[-1].start()]
    return above[above.rfind("\n") + 1 :]
