"""Telephone numbers: international, North American and national shapes, and plainer ones beside a word that says so.

A number that could as well be an amount, a date, a version or an account (``699 956 915``, ``467 3395``) is a phone
only where a word before it speaks of phoning and no nearer one of accounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_EXTENSION = r"(?: ?(?:x|ext\.? ?)\d{1,5})?"
_INTERNATIONAL = re.compile(rf"(?<![\w+])(?:\+|00 ?(?=[1-9]))\d[\d ().-]{{6,22}}\d{_EXTENSION}(?!\w)")
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.-])(?:(?:00)?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}" + _EXTENSION + r"(?![\w-]|\.\d)"
)
_NATIONAL = re.compile(
    r"(?<![\w./-])\(?0\d{1,4}\)?[ /-]\d{2,4}(?:[ -]?\d{2,4}){1,3}(?![\w/-]|\.\d| \d{1,4}[ -][\d<]| ?<)"
)
_DECIMAL = re.compile(r"\+?\d+\.\d*")
# Groups as people write phone numbers; which of them count, _is_grouped_phone says.
_GROUPED = re.compile(
    r"(?<![\w.,:/$€£#=)-])(?<![\d)][ (])(?:\(\d{2,4}\) ?\d{3,4}(?:[ -]\d{2,4}){1,2}"
    r"|\d{2,4}([ .-])\d{2,4}(?:\1\d{2,6}){0,4})"
    r"(?![\w/:€%°-]|[.,]\d| [\d(]| ?<)"
)
_NAMED_PHONE = re.compile(
    r"\b(?:phone|telephone|tel|mobile|cell|fax|desk|hotline|whatsapp|sms|call(?:ed|ing)? (?:me|us|him|her|them|at|on)"
    r"|reach(?:ed)? (?:me|us|him|her|them|at|on)|answering|dial|text me|messages to)\b"
    r"[^\d\n+(]{0,14}(?:\n[^\d\n+(]{0,4})?(\+?\(?\d[\d ().-]{5,18}\d(?: ?(?:x|ext\.? ?)\d{1,5})?)(?!\w)", re.I,
)  # fmt: skip
# One of these is in every match of the pattern above, which looks at each word of the text.
_PHONE_WORDS = (
    "phone", "tel", "mobile", "cell", "fax", "desk", "hotline", "whatsapp", "sms", "call", "reach", "answering", "dial",
    "text me", "messages to", "contact", "number", "registered", "message",
)  # fmt: skip
CONTEXT_CHARS = 56  # how far before a number a word may stand that says what it is
_CONTEXT = re.compile(
    r"(tele?phone|t[ée]l[ée]phone|telefon|tel[ée]fono|\btel\b|mobile|m[óo]vil|\bcell|\bfax|\bcall|\bdial|whatsapp|\bsms\b"
    r"|\btext|message|contact|reach|hotline|landline|phone|registered|ring me|\bnumber (?:is|at)|(?:my|h(?:is|er)|your"
    r"|their|our) number)"
    r"|(account|card\b|order|invoice|isbn|issn|serial|ticket|passport|licen[cs]e|tracking|amount|balance|version|bytes"
    r"|population|total|size|port\b|\bid\b|\bssn\b|zip|postal)"
)


def phones_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of telephone numbers; they may overlap, the first of them is to be taken."""
    patterns = [(_INTERNATIONAL, 8, 20), (_NORTH_AMERICAN, 10, 18), (_NATIONAL, 9, 11)]
    lowered = text.lower()
    named = any(word in lowered for word in _PHONE_WORDS)
    if named:
        patterns.append((_NAMED_PHONE, 7, 20))
    yield from _of_shapes(text, patterns[:1])
    for match in _GROUPED.finditer(text):
        if _is_grouped_phone(match[0], lowered, match.start() if named and len(lowered) == len(text) else 0):
            yield match.span()
    yield from _of_shapes(text, patterns[1:])


def _of_shapes(text: str, patterns: list[tuple[re.Pattern[str], int, int]]) -> Iterator[tuple[int, int]]:
    for pattern, least, most in patterns:
        group = pattern.groups
        for match in pattern.finditer(text):
            if least <= sum(c.isdigit() for c in match[group]) <= most and not _DECIMAL.fullmatch(match[group]):
                yield match.span(group)


def _is_grouped_phone(value: str, lowered: str, at: int) -> bool:
    """Whether groups of digits are a phone number by their shape or, for plainer shapes, by a word before ``at``."""
    sizes = [len(group) for group in re.findall(r"\d+", value)]
    if not 7 <= sum(sizes) <= 13:
        return False
    if sizes == [3, 2, 4]:
        return False  # a social security number that is none
    dated = len(sizes) == 3 and (sizes[0] == 4 or sizes[2] == 4) and sum(sizes) == 8
    if value[0] == "(":
        return not dated
    separator = re.search(r"\D", value)
    by_hyphen, by_dot = separator is not None and separator[0] == "-", separator is not None and separator[0] == "."
    if len(sizes) in (4, 5) and set(sizes) == {2} and (by_hyphen or (by_dot and len(sizes) == 5)):
        return True  # 60-56-85-91, 03.93.92.16.85
    # Thousands come in threes behind the first group; years, times and sizes in groups of two and four.
    mixed = len(sizes) >= 3 and {2, 3} <= set(sizes) and max(sizes) < 5
    if mixed and not by_dot and sizes[1:] != [3] * (len(sizes) - 1):
        return sum(sizes) >= 8
    return bool(at) and not dated and not by_dot and _speaks_of_phones(lowered[max(0, at - CONTEXT_CHARS) : at])


def _speaks_of_phones(before: str) -> bool:
    """The last telling word is one of phoning. What was covered or replaced (``<``, ``>``) is not looked past."""
    before = before[max(before.rfind("<"), before.rfind(">")) + 1 :]
    words = list(_CONTEXT.finditer(before))
    return bool(words) and words[-1][1] is not None
