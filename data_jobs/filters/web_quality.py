"""The published filters of web text, each rule a pure function of a page with its source and its threshold.

- Gopher: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 (quality) and table A1 (repetition).
- C4: Raffel et al. 2020, arXiv:1910.10683, section 2.2. Its word list of obscenities is not applied.
- FineWeb: Penedo et al. 2024, arXiv:2406.17557, section 3.6. Like FineWeb this does not require every line to end in
  punctuation (C4's rule, which takes 30 % of all text); FineWeb's own share of such lines takes its place.

They were made for English. Words are counted as the language counts them (``text.scripts``: without blanks each letter
is a word; Ethiopic has a mark between words), their length in letters without marks. A rule that says nothing of a
language passes its pages: the length of words and repeated phrases where words are not separated, the lower limit of
their length for Korean, whose letters are syllables, sentences and final punctuation for Thai and Lao, which have none.

C4 edits pages line by line; here a page is kept as it is or dropped, and its sentences are counted over the lines that
C4 would have kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property

from data_jobs.text.scripts import HANGUL, IDEOGRAPHIC, UNPUNCTUATED, UNSPACED_LETTERS
from data_jobs.text.scripts import words as words_of

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
TERMINAL = tuple(".?!\"'”’…。？！．｡」』؟۔।॥။៖។།༎։።፧᙮")
_SENTENCE_END = re.compile(r"[.?!]+[\"'”’)]*(?=\s|\Z|[\u3040-\u9fff])|[。？！．｡؟۔।॥။។།༎։።፧᙮]+|፡፡|::(?=\s|\Z)")
_SPLIT = re.compile(r"[\s\u1361]+")
MOST = 0.3  # of the letters: from there on a page is in their script
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_TOP_NGRAMS = ((2, 0.20), (3, 0.18), (4, 0.16))
_DUPLICATE_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


class Page:
    """A text and what several rules count in it, counted once.

    ``words`` are as the language has them, ``lexical`` those with a letter or digit in them, ``lines`` those that are
    not blank, ``language`` an ISO 639-1 code, or nothing where it is not known. ``unspaced``: whether the language
    writes no blanks between words.
    """

    def __init__(self, text: str, language: str = "") -> None:
        self.text, self.language = text, language

    @cached_property
    def words(self) -> list[str]:
        """What white space separates, as the published rules count words; letters where nothing separates words."""
        return words_of(self.text) if self.unspaced else self._split

    @cached_property
    def _split(self) -> list[str]:
        return self.text.split() if self.text.isascii() else [word for word in _SPLIT.split(self.text) if word]

    @cached_property
    def unspaced(self) -> bool:
        """Whether the language writes no blanks between words."""
        return self.mostly(UNSPACED_LETTERS)

    @cached_property
    def foreign_letters(self) -> bool:
        """Whether more letters than English borrows (1 %) are none of its own."""
        if self.text.isascii():
            return False
        return sum(not c.isascii() for c in self.text if c.isalpha()) > 0.01 * sum(c.isalpha() for c in self.text)

    def mostly(self, letters: re.Pattern[str]) -> bool:
        """Whether ``letters`` are so many of the page's letters that it is in their script."""
        if self.text.isascii() or not letters.search(self.text):
            return False
        return len(letters.findall(self.text)) > MOST * sum(c.isalpha() for c in self.text)

    @cached_property
    def lexical(self) -> list[str]:
        """The words that hold a letter or a digit."""
        return [word for word in self.words if any(c.isalnum() for c in word)]

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.split("\n") if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        """The parts between blank lines."""
        return [part for part in re.split(r"\n\s*\n", self.text.strip()) if part.strip()]


# -- Gopher: quality ---------------------------------------------------------------------------------------------------
def gopher_word_count(page: Page) -> str:
    """Between 50 and 100,000 words."""
    return "gopher_word_count" if not 50 <= len(page.lexical) <= 100_000 else ""


def gopher_word_length(page: Page) -> str:
    """Mean word length between 3 and 10 characters, marks on letters not counted against the upper limit. Not where
    words are not separated; for Korean at most 10."""
    if page.unspaced or not page.lexical:
        return ""
    words = [word.strip(".,;:!?\"'()[]“”‘’") for word in page.lexical]
    size = sum(map(len, words))
    marks = 0 if page.text.isascii() else sum(unicodedata.category(c)[0] == "M" for word in words for c in word)
    least = 1 if page.mostly(HANGUL) else 3
    return "" if size >= least * len(words) and size - marks <= 10 * len(words) else "gopher_word_length"


def gopher_symbols(page: Page) -> str:
    """At most 0.1 hash signs, and at most 0.1 ellipses, for each word."""
    ellipses = page.text.count("...") + page.text.count("…")
    return "gopher_symbols" if max(page.text.count("#"), ellipses) > 0.1 * len(page.words) else ""


def gopher_bullets(page: Page) -> str:
    """At most 90 % of the lines start with a bullet."""
    bullets = sum(line.lstrip().startswith(("•", "‣", "◦", "▪", "-", "*")) for line in page.lines)
    return "gopher_bullets" if bullets > 0.9 * len(page.lines) else ""


def gopher_ellipsis_lines(page: Page) -> str:
    """At most 30 % of the lines end with an ellipsis."""
    ends = sum(line.rstrip().endswith(("...", "…")) for line in page.lines)
    return "gopher_ellipsis_lines" if ends > 0.3 * len(page.lines) else ""


def gopher_alphabetic(page: Page) -> str:
    """At least 80 % of the words hold a letter."""
    lettered = sum(any(c.isalpha() for c in word) for word in page.words)
    return "gopher_alphabetic" if lettered < 0.8 * len(page.words) else ""


def gopher_stop_words(page: Page) -> str:
    """At least two of the, be, to, of, and, that, have, with. For English, where nobody asked for the language, and in
    plain Latin letters where it could not be told."""
    if page.language not in ("", "en", "und") or (page.language == "und" and page.foreign_letters):
        return ""
    found = STOP_WORDS & {word.strip(".,;:!?\"'()").lower() for word in page.words}
    return "gopher_stop_words" if len(found) < 2 else ""


# -- Gopher: repetition (table A1) -------------------------------------------------------------------------------------
def gopher_duplicate_lines(page: Page) -> str:
    """At most 30 % of the lines, with 20 % of the characters, stand in the page already."""
    return "gopher_duplicate_lines" if _repeats(page.lines, len(page.text), 0.30, 0.20) else ""


def gopher_duplicate_paragraphs(page: Page) -> str:
    """At most 30 % of the paragraphs, with 20 % of the characters, stand in the page already."""
    return "gopher_duplicate_paragraphs" if _repeats(page.paragraphs, len(page.text), 0.30, 0.20) else ""


def _repeats(parts: Sequence[str], chars: int, most: float, most_chars: float) -> bool:
    counted = Counter(parts)
    again = len(parts) - len(counted)
    again_chars = sum(len(part) * (times - 1) for part, times in counted.items())
    return again > most * len(parts) or again_chars > most_chars * chars


def gopher_top_ngrams(page: Page) -> str:
    """The most frequent 2-, 3- and 4-gram make up at most 20, 18 and 16 % of the characters (words separated)."""
    if page.unspaced:
        return ""
    for size, most in _TOP_NGRAMS:
        grams = Counter(zip(*(page.words[i:] for i in range(size)), strict=False))
        gram, times = grams.most_common(1)[0] if grams else ((), 0)
        if times > 1 and times * len(" ".join(gram)) > most * len(page.text):
            return "gopher_top_ngrams"
    return ""


def gopher_duplicate_ngrams(page: Page) -> str:
    """5- to 10-grams that stand in the page already hold at most 15, 14, ... 10 % of the characters, each word counted
    once. Where words are separated."""
    if page.unspaced:
        return ""
    return "gopher_duplicate_ngrams" if any(_duplicated(page, *rule) for rule in _DUPLICATE_NGRAMS) else ""


def _duplicated(page: Page, size: int, most: float) -> bool:
    seen: set[Hashable] = set()
    repeated = at = 0
    while at <= len(page.words) - size:
        gram = tuple(page.words[at : at + size])
        if gram in seen:
            repeated += sum(map(len, gram))
            at += size
        else:
            seen.add(gram)
            at += 1
    return repeated > most * len(page.text)


# -- C4 ----------------------------------------------------------------------------------------------------------------
def c4_lorem_ipsum(page: Page) -> str:
    """No page with the phrase "lorem ipsum"."""
    return "c4_lorem_ipsum" if "lorem ipsum" in page.text.lower() else ""


def c4_curly_bracket(page: Page) -> str:
    """No page with a curly bracket: it is code."""
    return "c4_curly_bracket" if "{" in page.text else ""


def c4_few_sentences(page: Page) -> str:
    """At least 3 sentences in lines of at least 5 words, where the language has a mark for their end.

    Lines that mention JavaScript, cookies, terms of use, or hold a word of more than 1,000 characters do not count (so
    the JMLR version; earlier ones say 5 sentences, 3 words).
    """
    if page.mostly(UNPUNCTUATED):
        return ""
    sentences = 0
    for line in page.lines:
        words, lowered = words_of(line) if page.unspaced else _SPLIT.split(line.strip()), line.lower()
        if len(words) >= 5 and "javascript" not in lowered and not any(phrase in lowered for phrase in _POLICY):
            sentences += len(_SENTENCE_END.findall(line)) if max(map(len, words)) <= 1000 else 0
    return "c4_few_sentences" if sentences < 3 else ""


# -- FineWeb -----------------------------------------------------------------------------------------------------------
def fineweb_line_punctuation(page: Page) -> str:
    """More than 12 % of the lines end in punctuation. Where the language has any."""
    if page.mostly(UNPUNCTUATED):
        return ""
    ends = sum(line.rstrip().endswith(TERMINAL) for line in page.lines)
    return "fineweb_line_punctuation" if ends <= 0.12 * len(page.lines) else ""


def fineweb_duplicate_line_characters(page: Page) -> str:
    """Less than 10 % of the characters are in lines that stand in the page already."""
    again = sum(len(line) * (times - 1) for line, times in Counter(page.lines).items())
    return "fineweb_duplicate_line_characters" if again and again >= 0.1 * sum(map(len, page.lines)) else ""


def fineweb_short_lines(page: Page) -> str:
    """Less than 67 % of the lines have fewer than 30 characters; 15 in Chinese and Japanese, where one says more."""
    least = 15 if page.mostly(IDEOGRAPHIC) else 30
    short = sum(len(line) < least for line in page.lines)
    return "fineweb_short_lines" if short >= 0.67 * len(page.lines) else ""


PageRule = Callable[[Page], str]
RULES: tuple[PageRule, ...] = (
    gopher_word_count, gopher_word_length, gopher_symbols, gopher_bullets, gopher_ellipsis_lines, gopher_alphabetic,
    gopher_stop_words, c4_lorem_ipsum, c4_curly_bracket, c4_few_sentences, fineweb_line_punctuation,
    fineweb_short_lines, fineweb_duplicate_line_characters, gopher_duplicate_lines, gopher_duplicate_paragraphs,
    gopher_top_ngrams, gopher_duplicate_ngrams,
)  # fmt: skip
"""In the order they are asked: cheap ones first."""


def web_reason(text: str, language: str = "") -> str:
    """The name of the first rule that a page breaks, or nothing."""
    page = Page(text, language)
    return next((reason for rule in RULES if (reason := rule(page))), "")
