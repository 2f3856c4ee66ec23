"""Whether a sentence that a model wrote says nothing but what its source says: decided by words, without a model.

A sentence is *faithful* to a source if it is the source with phrases left out. Every word of it stands in the source,
in the same order: numbers, names and signs to the letter, other words perhaps inflected; only articles, forms of "to
be" and the like (``FREE``) come and go. What is left out begins and ends where a phrase does, at a preposition or a
mark of punctuation, and holds no word that turns a meaning round ("not", "only", "unless", "at least 5"). So nothing
gets in that is not in the source: no number, no name, no other deed, no other doer.

It errs on one side: many true sentences are refused (another order, a synonym), for which a quotation can stand. What
it cannot see: a phrase that restricted a meaning without one of the words it knows ("in the film").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from data_jobs.retrieval.analysis import fold, stem

# Added, dropped and changed freely: they say nothing by themselves. None that tells whom or where to, or an "or".
FREE = frozenset(
    """a an the is are was were be been being am it its this that these those which there and of in on has have had do
    does did""".split()  # noqa: SIM905
)
# What a sentence may have begun with where its heading says what it is about.
LEANING = frozenset("they their he she his her such".split())  # noqa: SIM905
# Where a phrase begins that can be left out, beside any mark of punctuation.
PREPOSITIONS = frozenset(
    """in on at of by for with from to into onto during since after before through across under over between among
    within as near via along upon toward towards using""".split()  # noqa: SIM905
)
# Never left out, wherever they stand in the source.
TURNING = frozenset(
    """not no never nor neither none nothing nobody nowhere without except unless until only hardly rarely seldom barely
    cannot can could may might must should would will shall ought if whether or either instead rather false untrue deny
    denied denies allegedly reportedly supposedly according claimed claims believed believes thought say said says
    argued alleged rumoured rumored planned plans few little former formerly per each every other than""".split()  # noqa: SIM905
)
# Not left out where they stand just before a number that is kept.
BOUNDS = frozenset(
    """least most over under about around nearly almost approximately roughly up before after since by below above
    between from exactly""".split()  # noqa: SIM905
)
NUMERALS = frozenset(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands million
    millions billion billions dozen dozens half third quarter once twice double first second""".split()  # noqa: SIM905
)
NEAR = 3  # words before a number in which a bound of it stands

_TOKEN = re.compile(
    r"(?P<sign>(?<!\w)[-−+±~≈<>≤≥$€£¥#]*(?=\d))?(?P<word>\w+(?:[.,:'’/@+−–-]+\w+)*(?:[%°‰]|[+#]+(?!\w))?)"
    r"|(?P<symbol>!=|[^\w\s.,;:!?'\"“”‘’«»()\[\]{}…*_`|—–\\/-]+)"
    r"|(?P<mark>[.,;:!?()\[\]{}…—–|]|(?<!\w)-(?!\w))"
)
_TURNED = re.compile(r"n['’]t$")


@dataclass(frozen=True)
class Word:
    """A word (or a sign) of a text.

    Attributes:
        exact: its letters, case apart; ``stem``: without its ending.
        free: of ``FREE``; fixed: a number, a sign, or a word that turns a meaning: never inflected.
        capital, name: begins large; and not just because it begins the sentence.
        opens: whether a phrase begins with it, or with the free words before it.
    """

    exact: str
    stem: str
    free: bool
    fixed: bool
    capital: bool
    name: bool
    opens: bool


def words_of(text: str) -> list[Word]:
    """The words and signs of a text, in order."""
    found: list[Word] = []
    opens = first = True
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text)):
        if match["mark"]:
            opens = True
            continue
        whole, letters = match[0].casefold(), match["word"] or ""
        number = any(character.isnumeric() for character in whole) or whole in NUMERALS
        titled = letters[:1].isupper() and not letters[1:].strip("’'").isupper()
        small = letters.islower() or (first and titled)
        free = small and whole in FREE
        opens = opens or whole in PREPOSITIONS
        fixed = number or not letters or whole in TURNING or _TURNED.search(whole) is not None
        capital = any(character.isupper() for character in letters)
        found.append(Word(whole, stem(fold(whole)), free, fixed, capital, capital and not (first and titled), opens))
        first = False
        opens = opens and free
    return found


def faithful(sentence: str, source: str, heading: str = "") -> bool:
    """Whether a sentence says nothing that its source, under its heading, does not say.

    Args:
        sentence: what was written, without markers.
        source: one sentence, or what else is quoted as one piece.
        heading: what the source stands under. Its words may open the sentence if the source is then kept from its
            beginning: "The library was built in 1911" of "It was built in 1911, they say" under "Library".
    """
    said = [word for word in words_of(sentence) if not word.free]
    above, below = ([word for word in words_of(text) if not word.free] for text in (heading, source))
    places = _aligned(said, [*above, *below])
    if places is None:
        return False
    kept = [place - len(above) for place in places if place >= len(above)]
    if not kept or not any(below[place].exact.isalnum() for place in kept):
        return False  # a heading says nothing by itself, nor does a sign
    if len(kept) < len(places) and any(word.exact not in LEANING for word in below[: kept[0]]):
        return False  # what the source says is of somebody else than its heading
    return _may_leave_out(below, kept) and _keeps_bounds(source, {below[place].exact for place in kept}, said)


def _aligned(said: Sequence[Word], source: Sequence[Word]) -> list[int] | None:
    """Where each word of a sentence stands in the source, in order; None where one does not. Of equal words the last is
    taken: those of the source itself before those of its heading."""
    places: list[int] = []
    at = len(source)
    for word in reversed(said):
        at -= 1
        while at >= 0 and not _same(word, source[at]):
            at -= 1
        if at < 0:
            return None
        places.append(at)
    return places[::-1]


def _same(word: Word, other: Word) -> bool:
    if word.exact == other.exact:
        return True
    to_the_letter = word.fixed or other.fixed or word.name or other.name or (word.capital and other.capital)
    return not to_the_letter and word.stem == other.stem


def _may_leave_out(source: Sequence[Word], kept: Sequence[int]) -> bool:
    """Whether every run of words that is left out is a phrase, and turns nothing round."""
    edges = [-1, *kept, len(source)]
    for before, after in pairwise(edges):
        gone = source[before + 1 : after]
        if not gone or (before < 0 and all(word.exact in LEANING for word in gone)):
            continue
        ends = after == len(source) or source[after].opens
        if not (gone[0].opens and ends) or any(_turns(word) for word in gone):
            return False
    return True


def _turns(word: Word) -> bool:
    return word.exact in TURNING or _TURNED.search(word.exact) is not None


def _keeps_bounds(source: str, kept: set[str], said: Sequence[Word]) -> bool:
    """Whether what bounds a number ("at least", "until") stands with each number that is kept."""
    spoken = {word.exact for word in said}
    words = words_of(source)
    return all(
        other.exact in spoken
        for place, word in enumerate(words)
        if word.exact in kept and (word.exact in NUMERALS or any(c.isnumeric() for c in word.exact))
        for other in words[max(0, place - NEAR) : place]
        if other.exact in BOUNDS
    )
