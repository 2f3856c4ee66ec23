"""Which parts of a text a name model reads: those with words that could be names, and of common words only the first.

Most sentences of a manual hold no name, and a model of six layers costs more than all rules together. A word with a
capital that stands in lower case nowhere in the text could be a name. Its first few sentences are read; where none of
them holds a name, the rest of its sentences are not read for its sake.
"""

from __future__ import annotations

import re
from collections import defaultdict

from data_jobs.pii.things import is_called_so, is_listed_with_technology, is_measured, is_no_cell_of_persons, is_thing

UNIT_CHARS = 400  # The model was trained on short texts.
OVERLAP = 64  # Where a sentence is longer, its pieces share so much: a name that one of them cuts is whole in the next.
READ = 2  # Sentences read for each word.
_SENTENCE = re.compile(r"[^\n]+?(?:[.!?。！？](?=\s)|(?=\n)|\Z)")
_CAPITALISED = re.compile(r"(?<![\w./\\@-])[^\W\d_a-z][^\W\d_A-Z]+(?:['’-]\w+)*(?![\w(/\\@=]|\.\w)")
_UPPER = re.compile(r"[^\W\d_a-z]")
_LOWER = re.compile(r"(?<!\w)[^\W\d_A-Z]+(?!\w)")
_CAMEL = re.compile(
    r"(?<!\bMc)(?<!\bMac)(?<!\bDe)(?<!\bDi)(?<!\bLe)(?<!\bLa)(?<!\bVan)(?<!\bFitz)(?<=[^\W\d_A-Z])[A-Z]"
)
_JOINING = frozenset(("and", "or", "the", "a", "an"))  # as in titles: "Holly and Ivy"
_LAST_WORD = re.compile(r"([^\W\d_]+)[ \u00a0]\Z")
_NUMBER_AND_WORD = re.compile(r"\b\d{1,5}[A-Za-z]?,? [^\W\d_a-z][^\W\d_]+|[^\W\d_a-z][^\W\d_]+ \d{1,5}\b")
# Words with a capital that are no names: they begin sentences, or are proper nouns of other kinds.
_NO_NAME_WORDS = """
a an the this that these those it its if in on at to for from by with without when where while what which who why
how as and or but not no yes any all some each every many most more other another such same use using used see note
you your we our they their he she his her i my is are was were be been do does did can could might must should
will would have has had let there here then than also however therefore thus so because since after before during
until only both either neither first second third next last new old please thanks dear hello hi add set get make run
create open close click select choose enter type press start stop install update remove delete return returns
example figure table section chapter part page step version release default optional required warning important tip
caution info error january february march july september october november december monday
tuesday wednesday thursday friday saturday sunday english german french spanish italian chinese japanese korean
russian american british european python java swift ruby rust julia ada pascal kotlin scala kafka jenkins maven
gradle jupyter pandas django flask apache spark hadoop kibana grafana prometheus cassandra ansible terraform vagrant
selenium newton gauss bayes fourier javascript typescript linux windows mac macos ubuntu debian android github
gitlab docker kubernetes google microsoft amazon apple azure aws internet web unix posix unicode
boolean jira istio haskell helvetica trello true false
null none ok id
"""
_NO_NAMES = frozenset(_NO_NAME_WORDS.split())
# Names that are ordinary words as well: plants, stones, months, seasons, colours, virtues, animals, land, towns, verbs,
# and those of theorems.
# One of them that begins a sentence or stands in a title is a person's name only where persons are spoken of.
_WORD_TOO_WORDS = """
amaryllis anemone angelica aspen aster azalea basil bay bryony calla camellia caraway cassia cherry cicely clementine
clover daffodil dahlia daisy dill fern flora gardenia ginger hawthorn hazel heath heather holly hyacinth iris ivy
jasmine juniper laurel lavender lily lotus magnolia marigold marjoram mint myrtle olive oleander orchid pansy parsley
peony petunia poppy primrose reed rosemary rose rowan rue saffron sage senna sorrel tansy tarragon thyme tulip verbena
viola violet willow yarrow zinnia
agate amber beryl coral crystal diamond emerald flint garnet gem jade jasper onyx opal pearl sapphire slate sterling
topaz
april may june august
autumn dawn eve summer winter sky storm rain misty sunny star azure celeste ebony indigo ivory scarlet sienna teal
amity charity clemency constance faith felicity grace harmony haven honor hope joy justice liberty melody mercy merit
merry patience piety prudence temperance unity verity victory
angel bear birdie buck crane dove drake fawn finch fox hawk jay kit lark lynx merlin phoenix piper raven robin
starling swan wolf wren
brook cliff cove dale dell fen field forest glen grove harbor lake lane marsh meadow moor ocean prairie ridge river
shore vale valley
alexandria asia augusta austin boston brooklyn chelsea china dakota dallas denver devon florence france georgia
houston india ireland israel jordan kent kenya kingston lincoln london lourdes madison milan montana odessa orlando
paris savannah sydney venice verona vienna virginia
ace art ash bond brand buddy chance chase chip curt dash dot drew dusty gale gene grant grey hale
lance link marina miles norm pat penny pierce pip ray rich rick rocky roman rusty sandy sierra skip
sonny spike stew trey trip van ward woody york zest clay hardy hunter mason parker piston
porter ranger sawyer trace turner
bill don frank jack mark max nick rob sue wade
boltzmann chebyshev dijkstra doppler euclid euler fibonacci gaussian hilbert kalman kolmogorov lagrange laplace markov
nash pareto poisson riemann turing wiener
"""
_WORDS_TOO = frozenset(_WORD_TOO_WORDS.split())
_TITLE = re.compile(r"\s{0,8}(?:#{1,6} ([^\W\d_]+)[ \t]*\n|([^\W\d_]+)[ \t]*\n\s*\n)")
_ARTICLE = re.compile(r"\b(?:[Tt]he|[Aa]n?)[ \u00a0]\Z")
_COMMON_NOUN = re.compile(
    r"[ \u00a0](?!(?:and|or|in|of|at|on|to|was|is|has|had|who|did|will|would|could|can|may|said|says|from|for|with"
    r"|by)\b)"
    r"[^\W\d_A-Z]{3,}"
)
# What is written of persons only, or to them.
_OF_PERSONS = re.compile(
    r"(?i)\b(?:he|she|him|his|hers?|himself|herself|who|whom|whose|mrs?|ms|miss|dr|prof|sir|madam"
    r"|aged|born|years? old|wife|husband|mother|father|mum|mom|dad|brothers?|sisters?|sons?|daughters?|aunt|uncle"
    r"|cousins?|nephew|niece|grand(?:ma|pa|mother|father|son|daughter)|parents?|friends?|colleagues?|neighbou?rs?|boss"
    r"|manager|nurse|doctor|patient|teacher|tenant|lawyer|client|customer|employee|intern|girl|boy|woman|lady"
    r"|said|says|told|tells|asked|asks|wrote|writes|called|phoned|rang|emailed|texted|replied|sent|spoke|speaks|talked"
    r"|complained|promised|apologi[sz]ed|signed|paid|owes|owed|lives|lived|married|divorced|died|resigned|retired"
    r"|hired|fired|salary|passport|diagnosed|allergic|pregnant|diabetes|asthma|cancer|surgery|hospital|treated for"
    r"|sick|on leave|on holiday|dear|hi|hello|hey|cheers|regards|sincerely|thanks|thank you"
    r"|ask|call|phone|email|invite|remind|(?:speak|talk) (?:to|with))\b"
)


class NameUnits:
    """Sentences of one text as ``[start, end)``, and the words in them that could be names."""

    def __init__(self, text: str) -> None:
        self._text = text
        # Where nothing is written with a capital, capitals tell nothing: all is read.
        self._flat = _UPPER.search(text) is None
        self._lower = set(_LOWER.findall(text))
        self._units: list[tuple[int, int]] = []
        self._words: list[frozenset[str]] = []
        self._streets: list[bool] = []
        for match in _SENTENCE.finditer(text):
            for start, end in _pieces(*match.span()):
                self._add(start, end)
        title = _TITLE.match(text)
        self._title = (
            title[1] or title[2] if title else ""
        )  # a word that is a text's title is rather its subject than a person
        self._read: set[int] = set()
        self._persons: dict[str, bool] = {}

    def _add(self, start: int, end: int) -> None:
        piece = self._text[start:end]
        if not any(c.isalpha() for c in piece):
            return
        words = frozenset(word for word in _CAPITALISED.findall(piece) if self._could_be_a_name(word))
        self._units.append((start, end))
        self._words.append(words)
        self._streets.append(bool(words) and _NUMBER_AND_WORD.search(piece) is not None)

    def _could_be_a_name(self, word: str) -> bool:
        low = word.lower()
        return low not in _NO_NAMES and low not in self._lower

    def is_name(self, start: int, end: int) -> bool:
        """Whether what a model takes for a name is written like one, where writing tells."""
        said = self._text[start:end]
        if self._flat:
            return " " in said
        words = [word for word in _CAPITALISED.findall(said) if self._could_be_a_name(word)]
        if _CAMEL.search(said) or not words:
            return False
        (word, *others) = words
        if is_called_so(said) or is_no_cell_of_persons(self._text, start, end):
            return False
        measured = is_measured(self._text, start, end)
        if (measured or (not others and is_listed_with_technology(self._text, start))) and not self._of_a_person(word):
            return False
        if self._is_part_of_a_thing(start, end, alone=not others) and not self._of_a_person(word):
            return False
        ordinary = not others and (word.lower() in _WORDS_TOO or word == self._title)
        return not ordinary or self._within_a_sentence(start) or self._of_a_person(word)

    def _is_part_of_a_thing(self, start: int, end: int, alone: bool) -> bool:
        """Whether it names something else with the word behind it: "Johnson Controls", "the Adam optimizer"."""
        if alone and _ARTICLE.search(self._text, max(0, start - 6), start) and _COMMON_NOUN.match(self._text, end):
            return True
        return is_thing(self._text, start, end)

    def _within_a_sentence(self, start: int) -> bool:
        """Whether the word before is in lower case: a capital behind it is one of a proper noun."""
        before = _LAST_WORD.search(self._text, max(0, start - UNIT_CHARS), start)
        return before is not None and before[1].islower() and before[1] not in _JOINING

    def _of_a_person(self, word: str) -> bool:
        """Whether a sentence with the word speaks of persons."""
        if word not in self._persons:
            holding = (index for index, words in enumerate(self._words) if word in words)
            pieces = (self._text[slice(*self._units[index])].replace(word, " ") for index in holding)
            self._persons[word] = any(_OF_PERSONS.search(piece) for piece in pieces)
        return self._persons[word]

    def first(self) -> list[tuple[int, int]]:
        """Units to read at first."""
        seen: dict[str, int] = defaultdict(int)
        for index, words in enumerate(self._words):
            if self._flat or any(seen[word] < READ for word in words):
                self._read.add(index)
                for word in words:
                    seen[word] += 1
        return [self._units[index] for index in sorted(self._read)]

    def more(self, found: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
        """Units not read yet that hold a word of what was found."""
        names = {word for start, end, _ in found for word in _CAPITALISED.findall(self._text[start:end])}
        return [
            unit
            for index, unit in enumerate(self._units)
            if index not in self._read and not names.isdisjoint(self._words[index])
        ]


def _pieces(start: int, end: int) -> list[tuple[int, int]]:
    pieces = []
    while end - start > UNIT_CHARS:
        pieces.append((start, start + UNIT_CHARS))
        start += UNIT_CHARS - OVERLAP
    return [*pieces, (start, end)]
