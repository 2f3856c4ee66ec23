"""Rules for what is asked of a model or said to it: injections, and clearly harmful requests (``rules.yaml``).

A rule is no regular expression. It is a row of sets of words, each within so many words of the one before; words are
compared by their stems. So a text of n words takes time linear in n, whatever it says and whatever a rule says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import Stemmer
import yaml

from cluster.core.errors import UsageError
from data_jobs.safety.views import folded, views, words_of

FILE = "rules.yaml"
INJECTION, HARMFUL = "injection", "harmful"
CATEGORIES = (INJECTION, HARMFUL)
GAP = 2  # words between two sets of words where a rule does not say
BEFORE, AROUND = 3, 8  # words in which `not_after` and `unless` are looked for

# Passages between quotation marks: to ask about an injection is none.
_QUOTED = re.compile(
    "\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|‘[^’\n]{1,400}’|`[^`\n]{1,400}`|(?<!\\w)'[^'\n]{1,400}'(?!\\w)"
)
_ABOUT = "injection injections jailbreak jailbreaks attack attacks attacker phrase phrases detect filter classifier"


@dataclass(frozen=True)
class Hit:
    """A rule that a text breaks: its id and category, the file's version, and the reason as people may read it.

    ``mention``: the words are quoted in a text about such attacks."""

    rule: str
    category: str
    version: str
    reason: str
    mention: bool = False


@dataclass(frozen=True)
class Row:
    """Stems that must follow each other: sets, and how many words may stand before each but the first."""

    sets: tuple[frozenset[str], ...]
    gaps: tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """See ``rules.yaml``."""

    id: str
    category: str
    reason: str
    rows: tuple[Row, ...]
    unless: frozenset[str]
    not_after: frozenset[str]


class RuleBook:
    """Rules, ready to look for.

    Attributes:
        version: of the file.
    """

    def __init__(self, version: str, rules: Sequence[Rule], vocabulary: frozenset[str]) -> None:
        self.version, self.rules, self._vocabulary = version, tuple(rules), vocabulary
        # Every set of every row has a bit: a text that lacks one of a row's sets, as nearly all do, is soon done with.
        self._bits: dict[str, int] = {}
        self._rows: dict[str, list[tuple[Row, int]]] = {rule.id: [] for rule in rules}
        bit = 1
        for rule in rules:
            for row in rule.rows:
                needs = 0
                for own in row.sets:
                    self._bits |= {one: self._bits.get(one, 0) | bit for one in own}
                    needs, bit = needs | bit, bit << 1
                self._rows[rule.id].append((row, needs))

    def scan(self, text: str, categories: Iterable[str] = CATEGORIES) -> list[Hit]:
        """The rules that a text breaks in any disguise, in the order of the file, each once."""
        wanted = [rule for rule in self.rules if rule.category in set(categories)]
        found = self._broken(text, wanted)
        if not found:
            return []
        mentioned = self._mentioned(text, found)
        return [
            Hit(rule.id, rule.category, self.version, rule.reason, rule.id in mentioned)
            for rule in wanted
            if rule.id in found
        ]

    def _broken(self, text: str, rules: Sequence[Rule]) -> set[str]:
        found: set[str] = set()
        for words in views(text, self._vocabulary):
            said = 0
            for one in self._bits.keys() & set(map(stem, words)):
                said |= self._bits[one]
            near = [(rule, row) for rule in rules if rule.id not in found
                    for row, needs in self._rows[rule.id] if said & needs == needs]  # fmt: skip
            if near:
                places = _places(words)
                found |= {rule.id for rule, row in near if _breaks(row, rule, places)}
        return found

    def _mentioned(self, text: str, found: set[str]) -> set[str]:
        """Those of the broken injection rules whose words stand in quotation marks, in a text about attacks."""
        outside = _QUOTED.sub(" ", text)
        if outside == text or not {stem(word) for word in words_of(folded(outside))} & _about():
            return set()
        quoted = [rule for rule in self.rules if rule.id in found and rule.category == INJECTION]
        return {rule.id for rule in quoted} - self._broken(outside, quoted)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of an English word; of any other, something that stays the same."""
    return str(_stemmer().stemWord(word))


@cache
def _stemmer() -> Any:
    return Stemmer.Stemmer("english")


@cache
def _about() -> frozenset[str]:
    return frozenset(map(stem, _ABOUT.split()))


def _places(words: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        found.setdefault(stem(word), []).append(place)
    return found


def _breaks(row: Row, rule: Rule, places: Mapping[str, list[int]]) -> bool:
    """Whether the words stand in this order, none of the rule's exceptions beside them."""
    spans = [(place, place) for place in _of(row.sets[0], places)]
    for own, gap in zip(row.sets[1:], row.gaps, strict=True):
        spans = _continued(spans, _of(own, places), gap)
        if not spans:
            return False
    before = set(_of(rule.not_after, places))
    around = set(_of(rule.unless, places))
    return any(
        before.isdisjoint(range(start - BEFORE, start)) and around.isdisjoint(range(start - AROUND, end + AROUND + 1))
        for start, end in spans
    )


def _of(stems: frozenset[str], places: Mapping[str, list[int]]) -> list[int]:
    found = [place for one in stems & places.keys() for place in places[one]]
    return sorted(found)


def _continued(spans: Sequence[tuple[int, int]], places: Sequence[int], gap: int) -> list[tuple[int, int]]:
    """The spans that go on to one of the places; of several that reach it, the one that begins last."""
    found, at = [], 0
    for place in places:
        while at < len(spans) and spans[at][1] < place:
            at += 1
        if at and place - spans[at - 1][1] <= gap + 1:
            found.append((spans[at - 1][0], place))
    return found


@cache
def load_rules(path: Path = Path(__file__).parent / FILE) -> RuleBook:
    """The rules of a file.

    Raises:
        UsageError: it is no such file; the message names the rule and what is wrong with it.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or set(data) != {"version", "words", "rules"}:
        raise UsageError(f"{path.name}: wants version, words and rules")
    sets = {name: str(words) for name, words in data["words"].items()}
    rules = [_rule(one, lambda text: _expanded(text, sets)) for one in data["rules"]]
    if len({rule.id for rule in rules}) != len(rules):
        raise UsageError(f"{path.name}: two rules have one id")
    english = [one for one in data["rules"] if not one["id"].endswith("other_languages")]
    items = [item for one in english for row in one["any"] for item in row if isinstance(item, str)]
    spoken = [word for item in items for word in _expanded(item, sets)]
    return RuleBook(str(data["version"]), rules, frozenset(words_of(folded(" ".join([*spoken, _GLUE])))))


# What stands between the words of a rule where words are run together.
_GLUE = (
    "a all an and any are as at be by can could do for from give given how i if in into is it me my now of on or please"
    " so that the then this to what when who will with would you your"
)
_FIELDS = {"id", "category", "reason", "any", "unless", "not_after"}


def _rule(data: Any, words: Callable[[str], list[str]]) -> Rule:
    name = data.get("id", "?") if isinstance(data, dict) else "?"
    if not isinstance(data, dict) or not {"id", "category", "reason", "any"} <= set(data) <= _FIELDS:
        raise UsageError(f"{FILE}: the rule {name} wants id, category, reason, any, and may have unless, not_after")
    if data["category"] not in CATEGORIES or not re.fullmatch("[a-z][a-z_]{2,40}", data["id"]):
        raise UsageError(f"{FILE}: the rule {name}: a category is one of {', '.join(CATEGORIES)}, an id is lower case")
    rows = tuple(_row(row, name, words) for row in data["any"])
    unless, after = (frozenset(map(stem, words(data.get(key, "")))) for key in ("unless", "not_after"))
    return Rule(data["id"], data["category"], data["reason"], rows, unless, after)


def _row(row: Any, name: str, words: Callable[[str], list[str]]) -> Row:
    sets: list[frozenset[str]] = []
    gaps: list[int] = []
    for item in row:
        if isinstance(item, int) and sets and len(gaps) < len(sets):
            gaps.append(item)
        elif isinstance(item, str) and (found := words(item)):
            gaps += [GAP] * (len(sets) - len(gaps))
            sets.append(frozenset(map(stem, found)))
        else:
            raise UsageError(f"{FILE}: the rule {name}: a row is words, and between them how many others may stand")
    if not sets or len(gaps) != len(sets) - 1:
        raise UsageError(f"{FILE}: the rule {name}: a row begins and ends with words")
    return Row(tuple(sets), tuple(gaps))


def _expanded(text: str, sets: Mapping[str, str]) -> list[str]:
    """The words of a row's item; ``$NAME`` stands for a list of them."""
    found: list[str] = []
    for word in text.split():
        if word.startswith("$") and word[1:] not in sets:
            raise UsageError(f"{FILE}: there is no list of words {word[1:]}")
        found += _expanded(sets[word[1:]], sets) if word.startswith("$") else words_of(folded(word))
    return found
