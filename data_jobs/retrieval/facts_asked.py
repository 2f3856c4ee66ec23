"""Which fact a question asks for, told by its wording alone, and whether a text has anything of that kind.

What such a question wants (a time, a number, a price, a person, a place, a name) stands in a text as a few words, or it
does not stand there: this is what a reader of passages can tell and what similarity cannot ("When was the library
built?" beside a page that tells how high it is). So does what settles a question for yes or no, or for a reason. How
something is done is told over sections that no window holds. Closed classes of English words, no topics.
"""

from __future__ import annotations

import re
from functools import lru_cache

from data_jobs.retrieval.asking import DEFINITION, LIST, PLAIN, YES_NO, asks, form_of

TIME, EXTENT, OFTEN, NUMBER, PRICE, OTHER = "time", "extent", "often", "number", "price", "other"
"""``extent``: how long, in time or in space. ``other``: a person, a place, a name: no closed class tells whether a text
has one."""
MAX_WORDS = 40  # a longer message tells something


def _any(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


_BEFORE = (
    f"(?:{_any('in on at from to by for of with under since until till during after before into within between')} )?"
)
_DID = _any("do does did will would must is are was were")
_OWN = _any("the our my your his her its their")
_TIMES = _any("years? days? dates? months? weekdays? weeks? century decade hours? times? season quarter")
_MEASURED = _any(
    "temperature age size height width depth length weight speed distance percentage share number amount diameter"
    " volume area capacity population pressure voltage rate quantity thickness interval port"
)
_HOW_MEASURED = _any(
    "many much old big large high tall deep fast hard heavy thick thin wide small warm hot cold loud strong"
)
_PRICE = _any("price cost fee fare rent salary fine deposit")
# What is not one fact, though asked for as one: "What is the difference", "What's the best way to".
_AT_LENGTH = r"(?:the |an? )?(?:\w+ )?" + _any(
    "differences? distinction ways? syntax purpose point reasons? meaning idea role use steps procedure process"
    " approach effects? advantages? benefits? problems? examples?"
)
_NO_FACT = "|".join(
    (
        _any("happens happened if about can could should would must do does did are were"),
        rf"{_any('is was')} (?!{_OWN}\b|{_any('in on at')}\b)",  # "what is baggage", "what is a span"
        rf"(?:{_any('is was')} )?{_AT_LENGTH}\b",
    )
)
_KINDS = {
    PRICE: rf"(?:how much|what) {_DID} .*\b{_any('costs? pays? charged? price[ds]? fees? fare')}\b"
    rf"|{_any('which what')} (?:{_DID} )?(?:the )?(?:\w+ )?{_PRICE}\b"
    rf"|how (?:much {_any('is are was were')}|expensive)\b",
    OFTEN: rf"how {_any('often frequently regularly')}\b",
    EXTENT: rf"(?:for )?how {_any('long far soon late early')}\b",
    TIME: rf"(?:{_any('since until till from by')} )?when\b(?! should\b)"
    rf"|{_BEFORE}{_any('which what')} (?:{_any('is was')} the )?{_TIMES}\b",
    NUMBER: rf"{_BEFORE}how {_HOW_MEASURED}\b|{_BEFORE}{_any('which what')} (?:{_DID} the )?(?:\w+ )?{_MEASURED}\b",
    OTHER: rf"{_any('who whom whose where')}\b|{_BEFORE}{_any('which what whose')} (?!(?:{_NO_FACT})\b)",
}
_ASKED = {kind: re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE) for kind, pattern in _KINDS.items()}
_SHORT_FORM = re.compile(r"^\W*(who|what|when|where)['’]s\b", re.IGNORECASE)
# "The former speaker of Parliament is whom?", "It sits from February to late what?"
_ASKED_LAST = re.compile(rf"\b{_any('who whom whose when where which what')}(?:\s+\w+){{0,2}}\s*\?\W*$", re.IGNORECASE)
_POLITE = re.compile(
    r"^\W*(?:(?:please|hi|hello|hey|so|well|and|but|ok(?:ay)?)\b[,!]?\s+)*"
    r"(?:(?:(?:can|could|would|will) you(?: please)?|please|i(?:'d| would) like to know|do you know)\s+(?:tell me\s+)?"
    r"|tell me\s+)?",
    re.IGNORECASE,
)

_LONG = re.compile(
    rf"{_any('what which')} {_any('is are was were')} {_AT_LENGTH}\b".replace(" ", r"\s+"), re.IGNORECASE
)

_NUMERALS = _any(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundreds? thousands?"
    " millions? billions? dozens? half third quarter once twice single both pair couple several no none first"
    " second sole only all every each double"
)
_CALENDAR = _any(
    "january february march april may june july august september october november december jan feb apr jun jul"
    " aug sept? oct nov dec (?:mon|tues|wednes|thurs|fri|satur|sun)days?"
)
_TIME_WORDS = _any(
    "seconds? minutes? hours? days? nights? weeks? weekends? months? quarters? years? decades? century centuries"
    " morning noon midday afternoon evening midnight today tomorrow yesterday spring summer autumn winter season"
    " holidays? daily weekly monthly yearly annual(?:ly)? hourly nightly fortnight(?:ly)? always never immediately"
    " easter christmas era age times? o.clock"
)
_CLOCK = (
    r"\b(?:1\d{3}|20\d{2})s?\b|\b\d{1,2}[:.]\d{2}\b|\b\d{1,2}\s*(?:am|pm|a\.m|p\.m|h)\b|\bhalf past\b"
    rf"|\bfrom\b.+\b(?:to|until|till)\b|\b{_CALENDAR}\b|\b{_TIME_WORDS}\b"
)
_WHILE = _any("after before during until till since as\\ssoon once when whenever while if upon between from by past")
_LENGTHS = _any(
    "(?:kilo|centi|milli)?met(?:re|er)s? miles? feet foot ft inch(?:es)? yards? [cmk]?m pages? characters? words?"
    " letters? lines? bytes? far near close"
)
_MONEY = _any(
    "euros? eur dollars? usd cents? pounds? pence francs? chf crowns? kronor kroner yen rupees? rubles? free"
    " nothing costs? charges? prices? paid pays? fees? percent"
)
_HELD = {
    TIME: re.compile(rf"{_CLOCK}|\b{_WHILE}\b", re.IGNORECASE),
    EXTENT: re.compile(rf"{_CLOCK}|\b{_LENGTHS}\b|\d\s?[cmk]?m\b", re.IGNORECASE),
    OFTEN: re.compile(
        rf"{_CLOCK}|\b{_any('every each per once twice regular(?:ly)? often whenever')}\b", re.IGNORECASE
    ),
    NUMBER: re.compile(rf"\d|\b{_NUMERALS}\b", re.IGNORECASE),
    PRICE: re.compile(rf"[$€£¥%]|\b{_MONEY}\b", re.IGNORECASE),
}


@lru_cache(maxsize=1024)
def fact_asked(question: str) -> str:
    """The kind of fact (``TIME`` to ``OTHER``); empty where it asks for none, or in no words known here."""
    if len(question.split()) > MAX_WORDS:
        return ""
    bare = _SHORT_FORM.sub(r"\1 is", _POLITE.sub("", question.strip(), count=1))
    kind = next((kind for kind, pattern in _ASKED.items() if pattern.match(bare)), "")
    if not kind:
        last = _ASKED_LAST.search(bare) and not bare.lower().startswith(("how ", "why "))
        return OTHER if last else ""
    form = form_of(question)
    # A list of what the index's structure holds comes from there; "What wine goes with it?" only looks like a list.
    return kind if form.name in (PLAIN, DEFINITION) or (form.name == LIST and not form.wanted) else ""


def told_at_once(question: str) -> bool:
    """Whether a few sentences tell what is asked for, or do not: a fact, a reason, yes or no."""
    if fact_asked(question):
        return True
    bare = _SHORT_FORM.sub(r"\1 is", _POLITE.sub("", question.strip(), count=1))
    if len(question.split()) > MAX_WORDS or not asks(bare) or _LONG.match(bare):
        return False
    form = form_of(question)  # how something is done has a form of its own
    return form.name in (PLAIN, YES_NO) or (form.name == LIST and not form.wanted)


def may_tell(kind: str, text: str) -> bool:
    """Whether a text has anything of a kind of fact: no time where no word is one of time. True where none can tell."""
    held = _HELD.get(kind)
    return held is None or held.search(text) is not None
