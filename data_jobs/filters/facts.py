"""Whether two nearly equal texts say different things: same form is not same fact.

Two data sheets made from one template share nearly all their words; what differs is what each of them is about. Two
copies of one page differ in what stands around the text: dates of printing, page numbers, addresses, navigation, a
paragraph more. So the words that only one of two texts has are lined up with those of the other, and each place where
one was *exchanged* for another is looked at. It is a fact if a number, a name or a negation was exchanged, or any word
of the title. Words that were only added are none (the longer text is the one that stays), nor are exchanges in lines
about the document itself. Where most exchanges are of ordinary words, somebody revised a text: a revision says the
same, with its numbers brought up to date, and its newest or longest version is enough.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from data_jobs.text.scripts import UNSPACED

MAX_TOKENS = 1000  # More than this differs: that is no exchange of a few words. It is also what a comparison may cost.
LONGEST = 6  # Words; what is longer on either side is another passage, not another value in the same place.
FEW = 3  # Words; a negation comes with few others, and one name has few words more than another.
MOVED = 2  # Words; a run of so many that stands in the other text at another place was moved, not exchanged.
LONGEST_UNSPACED = 16  # The same in characters, for scripts without blanks.
TITLE_WORDS = 16  # A first line of at most so many words is taken for a title.
ADDED = 0.5  # What words that were only added count of an exchange of ordinary words.
SHARE = 0.5  # of the exchanges in a text that must be facts: below it the text was revised
NUMBERED = 1000  # Characters; forms with many instances are short.
STAMP_WORDS = 14  # A line about the document itself is not longer.
CLAUSE_WORDS = 4  # Words; a longer line that ends like a sentence is one.

_LETTERS = rf"[{UNSPACED}]"


def _entries() -> dict[str, tuple[str, ...]]:
    """The lists of ``facts_words.txt`` by their names."""
    found: dict[str, tuple[str, ...]] = {}
    for part in files(__package__).joinpath("facts_words.txt").read_text("utf-8").split("\n[")[1:]:
        name, _, body = part.partition("]\n")
        found[name.partition(":")[0]] = tuple(
            entry.strip() for entry in body.replace("\n", "|").split("|") if entry.strip()
        )
    return found


_WORDS = _entries()
_STAMPS = _WORDS["stamps"]  # What a line says about the document itself, in the languages people print in.
_ORDINALS, _NEGATIONS = frozenset(_WORDS["ordinals"]), frozenset(_WORDS["negations"])
_PREFIXES = _WORDS["prefixes"]
# Of two words of one group each says something else.
_KINDS = ("numerals", "calendar", "colours", "durations", "units", "currencies")
_GROUPS = [frozenset(_WORDS[name]) for name in _KINDS] + [frozenset(group.split("/")) for group in _WORDS["opposites"]]
_GROUPS_OF: dict[str, list[int]] = {}
for _number, _group in enumerate(_GROUPS):
    for _word in _group:
        _GROUPS_OF.setdefault(_word, []).append(_number)
_COMPARING, _COUNTING = frozenset(("<", ">", "<=", ">=", "==", "!=")), frozenset("+-*")
# Numbers with their sign, signs between two things, words, flags, letters of scripts without blanks.
_TOKEN = re.compile(
    rf"(?:(?<![^\s(\[=:])[-−–](?=\d))?\d+(?:[.,:/-]\d+)*|(?<= )(?:[<>]=?|[=!]=|[-+*])(?= )"
    rf"|[\U0001f1e6-\U0001f1ff]{{2}}|[^\W\d_{UNSPACED}][^\W_{UNSPACED}]*|{_LETTERS}"
)
_SENTENCE = re.compile(r"(?<=[.!?។။།।۔؟։])\s+|(?<=[。！？｡])|\s*\n\s*")
# Addresses, anchors, sources of images, numbered references: where something is, not what.
_ADDRESS = re.compile(
    r"(?:https?|ftp|file)://\S+|www\.\S+|\]\([^)\s]*\)|\[\d+\](?!\()|(?:src|href|id|class)=\"[^\"]*\"|^\[[^\]]+\]:.*$",
    re.IGNORECASE | re.MULTILINE,
)
_STAMP = re.compile(
    r"\b(?:updated?|pages?|rev|revision|seite|sida|side|trang|หน้า|쪽)\b|第\s*\d+\s*[页頁]|หน้า\s*\d"
    r"|^\W*[\d.,]+[km]?\s(?:views?|comments?|likes?|shares?|replies|min(?:utes?)? read)\b"
    r"|^\W*(?:share|edit|tweet) (?:on|this)\b"
)
_EDITION = re.compile(r"\b(?:version|build)\b")
_NAVIGATION = re.compile(r"[>›»|/→·•]")
_NEGATING = re.compile(
    r"[不没沒無无非未别勿禁否]|ない|ません|なし|ไม่|ห้าม|មិន|ບໍ່|မ[^\s]{1,4}(?:ပါ|ဘူး)|མ་|མི་|지 (?:않|말|못)"
)
# Characters that are written one way or the other.
_SAME = str.maketrans("妳您裏台", "你你里臺")
_WITH_DIGIT = re.compile(r"^[^\n\d]*\d.*$", re.MULTILINE)
_NUMBER = re.compile(r"\w*\d+(?:[.,:/-]?\w+)*")
_DATE = re.compile(r"\b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b|\b\d\d?:\d\d(?::\d\d)?\b|\b(?:19|20)\d\d\b")
_THOUSANDS = re.compile(r"(?<=\d)[,'](?=\d{3}(?!\d))")


def different_facts(left: str, right: str) -> bool:
    """Whether two normalised texts say different things: see the module's docstring."""
    mine, other = _only_here(left, right)
    if not mine or not other:
        return False
    a, b = _tokens(mine), _tokens(other)
    if max(len(a), len(b)) > MAX_TOKENS:
        return False
    exchanges = _exchanges(a, b)
    gone = Counter(token.folded for run, _ in exchanges for token in run)
    gone.subtract(token.folded for _, run in exchanges for token in run)
    titles = {_title(left), _title(right)} if exchanges else set()
    facts: set[tuple[str, str]] = set()
    edits = 0.0
    added = [False, False]  # whether a value stands in one text alone, by side
    for lost, new in exchanges:
        if any(len(run) >= MOVED and not any(gone[token.folded] for token in run) for run in (lost, new)):
            continue
        if not lost or not new:
            if _negates(lost or new) and len(lost or new) <= FEW:
                facts.add((_said(lost), _said(new)))
            else:
                edits += ADDED
                added[bool(new)] |= len(lost or new) <= LONGEST and _has_number(lost or new)
        elif _opposes(lost, new):
            facts.add((_said(lost), _said(new)))
        elif not _spelling(lost, new):
            if len(titles) > 1 and _short(lost, new) and lost[0].sentence in titles and new[0].sentence in titles:
                return True
            if _is_fact(lost, new, left, right):
                facts.add((_said(lost), _said(new)))
            else:
                edits += 1
    if all(added):  # 14 of 98 beside 98 of 70: the word that both share hides the exchange
        facts.add(("", ""))
    return len(facts) > 0 and len(facts) >= SHARE * (len(facts) + edits)


def numbers(text: str) -> str:
    """The numbers that a text begins with, but dates and those about the document itself, as one string: equal for
    most copies, and mostly not for two instances of one form."""
    found: set[str] = set()
    for line in _WITH_DIGIT.findall(text[:NUMBERED]):
        if not _is_stamp(line):
            found.update(_NUMBER.findall(_DATE.sub(" ", line)))
    return " ".join(sorted(found))


def _only_here(left: str, right: str) -> tuple[list[str], list[str]]:
    """The sentences that only the one and only the other text has, in order, but those about the document itself."""
    ours, theirs = left.split("\n"), right.split("\n")
    mine, other = _without(ours, theirs), _without(theirs, ours)
    mine, other = (
        [s for line in lines if not _is_stamp(line) for s in _SENTENCE.split(_without_addresses(line)) if s]
        for lines in (mine, other)
    )
    return _without(mine, other), _without(other, mine)


def _without(lines: Sequence[str], others: Sequence[str]) -> list[str]:
    left = Counter(others)
    kept = []
    for line in lines:
        if left[line] > 0:
            left[line] -= 1
        elif line.strip():
            kept.append(line)
    return kept


def _title(text: str) -> str:
    """The first sentence but those about the document itself, where it is as short as titles are."""
    for line in text.split("\n", 12)[:12]:
        if line.strip() and not _is_stamp(line):
            first = _SENTENCE.split(_without_addresses(line), maxsplit=1)[0]
            return first if len(_TOKEN.findall(first)) <= TITLE_WORDS else ""
    return ""


def _without_addresses(line: str) -> str:
    line = line.strip()
    return _ADDRESS.sub(" ", line) if "[" in line or "/" in line or "=" in line or "www." in line else line


def _is_stamp(line: str) -> bool:
    size = len(line.split())
    if size > STAMP_WORDS or (size <= 1 and len(line) > 4 * STAMP_WORDS):
        return False
    # Not the row of a table, nor values with their units: 80 km/h.
    values = line.startswith("|") or (any(c in line for c in "|/") and any(c.isdigit() for c in line))
    if not values and len(_NAVIGATION.findall(line)) >= 2:
        return True
    lowered = line.lower()
    if any(word in lowered for word in _STAMPS) or _STAMP.search(lowered):
        return True
    clause = size > CLAUSE_WORDS and line[-1] in ".!?。"  # it says what holds for a version
    return not clause and _EDITION.search(lowered) is not None


class _Token(NamedTuple):
    text: str
    folded: str
    first: bool  # of its sentence
    sentence: str
    before: str  # the folded word before it


def _tokens(sentences: Sequence[str]) -> list[_Token]:
    made: list[_Token] = []
    for sentence in sentences:
        before = ""
        for number, match in enumerate(_TOKEN.finditer(sentence)):
            word = match[0]
            folded = word.lower()
            if not folded.isascii():
                folded = folded.translate(_SAME)
            elif "," in folded or "'" in folded:
                folded = _THOUSANDS.sub("", folded)
            made.append(_Token(word, folded, number == 0, sentence, before))
            before = folded
    return made


Run = Sequence[_Token]


def _exchanges(left: Run, right: Run) -> list[tuple[Run, Run]]:
    """(words of the one, words of the other) of every place where they differ; one of them may be empty."""
    a, b = [t.folded for t in left], [t.folded for t in right]
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    matcher = difflib.SequenceMatcher(None, a[same:], b[same:], autojunk=False)
    places: list[tuple[int, int, int, int]] = []
    for tag, *at in matcher.get_opcodes():
        i, j, k, m = (same + place for place in at)
        if tag == "equal":
            continue
        # Two names may share a character: what is on both sides of it is one exchange.
        if places and i - places[-1][1] == 1 and k - places[-1][3] == 1 and _unspaced(left[i - 1 : i]):
            i, k = places[-1][0], places[-1][2]
            places.pop()
        places.append((i, j, k, m))
    return [(left[i:j], right[k:m]) for i, j, k, m in places]


def _said(run: Run) -> str:
    return " ".join(token.folded for token in run)


def _is_fact(lost: Run, new: Run, left: str, right: str) -> bool:
    """Whether one value stands for another: a number for a number, a name for a name, or a negation for none."""
    if not _short(lost, new) or lost[0].before in _ORDINALS:
        return False
    if _negates(lost) != _negates(new) or _inflects(lost) != _inflects(new):
        return True
    if _has_number(lost) and _has_number(new):
        return True
    if abs(len(lost) - len(new)) > FEW and not _unspaced(lost, new):
        return False
    return _mostly_names(lost, left) and _mostly_names(new, right)


def _opposes(lost: Run, new: Run) -> bool:
    """Whether a word was exchanged for another of its group (``before``, ``after``; ``three``, ``seven``), for the same
    with a prefix that denies it (``locked``, ``unlocked``), a sign, a letter or a flag for another."""
    if not _short(lost, new):
        return False
    one, two = {t.folded for t in lost}, {t.folded for t in new}
    if any(
        not {*_GROUPS_OF.get(a, ())}.isdisjoint(_GROUPS_OF.get(b, ())) for a in one - two for b in two - one if a != b
    ):
        return True
    if len(lost) != 1 or len(new) != 1:
        return False
    (first, second) = sorted((lost[0].folded, new[0].folded), key=len)
    if {first, second} <= _COMPARING or {first, second} <= _COUNTING or (_is_sign(first) and _is_sign(second)):
        return True
    return len(first) > 3 and second.endswith(first) and second.removesuffix(first) in _PREFIXES


def _is_sign(word: str) -> bool:
    """A Greek letter by itself, a flag."""
    return (len(word) == 1 and "\u0391" <= word <= "\u03c9") or "\U0001f1e6" <= word[:1] <= "\U0001f1ff"


def _negates(run: Run) -> bool:
    return any(t.folded in _NEGATIONS for t in run) or bool(_NEGATING.search("".join(t.folded for t in run)))


def _inflects(run: Run) -> bool:
    """Whether the run, with the letter before it, is a form that negates (``ません`` beside ``ます``)."""
    return bool(_NEGATING.search(run[0].before + "".join(token.folded for token in run)))


def _unspaced(*runs: Run) -> bool:
    return any(re.match(_LETTERS, t.text) for run in runs for t in run)


def _spelling(lost: Run, new: Run) -> bool:
    """The same words in another spelling or form; never so where digits are."""
    one, two = "".join(t.folded for t in lost), "".join(t.folded for t in new)
    if one.replace("_", "") == two.replace("_", ""):
        return True
    if any(c.isdigit() for c in one + two) or min(len(one), len(two)) < 5:
        return False
    return difflib.SequenceMatcher(None, one, two, autojunk=False).ratio() >= 0.8


def _short(lost: Run, new: Run) -> bool:
    return max(len(lost), len(new)) <= (LONGEST_UNSPACED if _unspaced(lost, new) else LONGEST)


def _has_number(run: Run) -> bool:
    return any(c.isdigit() for token in run for c in token.text)


def _mostly_names(run: Run, text: str) -> bool:
    names = sum(_is_name(token, text) for token in run)
    return names > 0 and 2 * (names + sum(token.text.isdigit() for token in run)) > len(run)


def _is_name(token: _Token, text: str) -> bool:
    """Capitals, but of a word that the text also writes small; in scripts without capitals every word."""
    word = token.text
    if word.lower() == word.upper():
        return not "\u3041" <= word <= "\u309f" and not word.isdigit()  # hiragana inflects, it seldom names
    return word != word.lower() and not (token.first and f" {word.lower()} " in text)
