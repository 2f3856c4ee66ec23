"""Telephone numbers: international, North American and national shapes, and plainer ones beside a word that says so.

A number that could as well be an amount, a date, a version or an account (``699 956 915``, ``467 3395``) is a phone
only where a word before it speaks of phoning and no nearer one of accounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_EXTENSION = r"(?: ?(?:x|ext\.? ?)\d{1,5})?"
# Patterns begin with the character they are to find, and look behind it afterwards: so a search skips all other ones.
_INTERNATIONAL = re.compile(rf"(?:\+(?<![\w+].)|0(?<![\w+.-].)0 ?(?=[1-9]))\d[\d ().-]{{6,22}}\d{_EXTENSION}(?!\w)")
_AREA = r"(?:\(\d{3}\) ?|\d{3}[ .-])"
_NORTH_AMERICAN = re.compile(
    r"(?:\((?<![\w.-].)\d{3}\) ?|\d(?<![\w.-].)(?:\d\d[ .-]|(?<=1)[ .-]" + _AREA + r"|(?<=0)01[ .-]" + _AREA + r"))"
    r"\d{3}[ .-]\d{4}" + _EXTENSION + r"(?![\w-]|\.\d)"
)
_NATIONAL = re.compile(
    r"(?:\((?<![\w./-].)0|0(?<![\w./-].))(?!00)\d{1,4}\)?[ /-]\d{2,4}(?:[ -]?\d{2,4}){1,3}"
    r"(?![\w/-]|\.\d| \d{1,4}[ -][\d<]| ?<)"
)
_DECIMAL = re.compile(r"\+?\d+\.\d*")
# Groups as people write phone numbers; which of them count, _is_grouped_phone says.
_BEFORE = r"(?<![\w.,:/$€£#=)-].)(?<!\d[ (].)"
_GROUPED = re.compile(
    rf"(?:\({_BEFORE}\d{{2,4}}\) ?\d{{3,4}}(?:[ -]\d{{2,4}}){{1,2}}{_EXTENSION}"
    rf"|\d{_BEFORE}(?:\d{{1,3}}([ .-])\d{{2,6}}(?:\1\d{{2,6}}){{0,4}}|\d{{6,10}}))"
    r"(?![\w/:€%°-]|[.,]\d| [\d(]| ?<)"
)
# Any digits that could be a number, and the words right before them that say they are one.
_LOOSE = re.compile(
    r"(?:\+(?<![\w.,:/$€£#=-].)\(?\d|\((?<![\w.,:/$€£#=-].)\d|\d(?<![\w.,:/$€£#=-].))"
    rf"[\d ().-]{{5,18}}\d{_EXTENSION}(?!\w)"
)
_NAMED = re.compile(
    r"\b(?:phone|telephone|tel|mobile|cell|fax|desk|hotline|whatsapp|sms|call(?:ed|ing)? (?:me|us|him|her|them|at|on)"
    r"|reach(?:ed)? (?:me|us|him|her|them|at|on)|answering|dial|text me|messages to)\b"
    r"[^\d\n+(]{0,14}(?:\n[^\d\n+(]{0,4})?\Z"
)  # fmt: skip
# One of these is in every context looked for.
_PHONE_WORDS = (
    "phone", "tel", "mobile", "cell", "fax", "desk", "hotline", "whatsapp", "sms", "call", "reach", "answering", "dial",
    "text me", "messages to", "contact", "number", "registered", "message",
)  # fmt: skip
CONTEXT_CHARS = 56  # A word that says what a number is may stand so far before it.
# The last of these before a number decides: the first group speaks of phoning, the second of something else.
_CONTEXT = re.compile(
    r"(tele?phone|t[ée]l[ée]phone|telefon|tel[ée]fono|\btel\b|mobile|m[óo]vil|\bhandy"
    r"|\bcell(?: phone|:)|(?:my|his|her|your|our|their) cell\b|\bfax|\bcall|\bdial"
    r"|whatsapp|\bsms\b|\btext(?: me|ed|ing)|messag|contact|\breach|hotline|landline|phone|voice ?mail|registered"
    r"|\brings? |\brang\b|in touch|\bextension|\bnumber)"
    r"|((?:account|card|order|invoice|isbn|issn|serial|ticket|passport|licen[cs]e|tracking|reference|version|model|part"
    r"|case|member|policy|customer|product|item|flight|room|page|line|code|pin|id|tax|vat|ssn|zip|postal|random|prime"
    r"|even|odd|real|integer|whole|large|natural|total)\b(?: (?:numbers?|no\b\.?|nr\b|id\b|code))?"
    r"|amount|balance|bytes|population|limit|maximum|minimum|default|\bsize|\bport\b|numbers of|number of)"
)


# What may follow a number of nine digits that is no amount: the end of a clause or a small word, but no unit.
_CLAUSE_GOES_ON = re.compile(
    r"\s*(?:\Z|[.;:!?)\n\"']|,(?! ?[\d<])| ?(?:is|and|or|to|for|if|at|but|now|when|so|please|thanks|as|has|was|on)\b)"
)

_SENTENCE_END = re.compile(r"[<>\n\d]|[.!?](?=\s|\Z)")


def phones_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of telephone numbers; they may overlap, the first of them is to be taken."""
    patterns = [(_INTERNATIONAL, 8, 20), (_NORTH_AMERICAN, 10, 18), (_NATIONAL, 9, 11)]
    lowered = text.lower()
    named = any(word in lowered for word in _PHONE_WORDS)
    yield from _of_shapes(text, patterns[:1])
    for match in _GROUPED.finditer(text):
        start, end = match.span()
        sizes = [len(group) for group in re.findall(r"\d+", match[0])]
        if not 7 <= sum(sizes) <= 13 or sizes == [3, 2, 4]:  # the latter: a social security number that is none
            continue
        if _has_phone_shape(match[0], sizes):
            yield start, end
        elif len(sizes) > 1 or named:
            reach = CONTEXT_CHARS if len(sizes) > 1 else CONTEXT_CHARS // 2
            speaks = _last_word(text[max(0, start - reach) : start].lower())
            if named and not speaks:
                speaks = _next_word(text[end : end + CONTEXT_CHARS].lower())
            if speaks == "phone" or (not speaks and _is_nine_digits(text, start, end, sizes)):
                yield start, end
    yield from _of_shapes(text, patterns[1:])
    for match in _LOOSE.finditer(text) if named else ():
        before = text[max(0, match.start() - CONTEXT_CHARS) : match.start()].lower()
        if 7 <= sum(c.isdigit() for c in match[0]) <= 20 and _NAMED.search(before) and not _DECIMAL.fullmatch(match[0]):
            yield match.span()


def _of_shapes(text: str, patterns: list[tuple[re.Pattern[str], int, int]]) -> Iterator[tuple[int, int]]:
    for pattern, least, most in patterns:
        for match in pattern.finditer(text):
            if least <= sum(c.isdigit() for c in match[0]) <= most and not _DECIMAL.fullmatch(match[0]):
                yield match.span()


def _has_phone_shape(value: str, sizes: list[int]) -> bool:
    """Whether groups of digits can hardly be anything else: no amount (threes behind the first), date or version."""
    if len(sizes) == 1 or _is_date(sizes):
        return False
    if value[0] == "(":
        return True
    separator = value[sizes[0]]
    if len(sizes) in (4, 5) and set(sizes) == {2} and (separator == "-" or (separator == "." and len(sizes) == 5)):
        return True  # 60-56-85-91, 03.93.92.16.85
    mixed = len(sizes) >= 3 and {2, 3} <= set(sizes) and max(sizes) < 5 and sum(sizes) >= 8
    return mixed and separator != "." and sizes[1:] != [3] * (len(sizes) - 1)


def _is_date(sizes: list[int]) -> bool:
    return len(sizes) == 3 and (sizes[0] == 4 or sizes[2] == 4) and sum(sizes) == 8


def _is_nine_digits(text: str, start: int, end: int, sizes: list[int]) -> bool:
    """Eight or nine digits in threes (``699 956 915``) that are neither round, nor counted in a unit, nor in a list."""
    value = text[start:end]
    if sizes not in ([3, 3, 3], [2, 3, 3]) or "." in value or re.search(r"00(?!\d)", value):
        return False
    if re.match(r"\s{1,2}[\d<]", text[end : end + 3]):
        return False
    return not re.search(r"[\d<>][,;]?\s{0,2}\Z", text[max(0, start - 4) : start]) and bool(
        _CLAUSE_GOES_ON.match(text, end, end + 8)
    )


def _next_word(after: str) -> str:
    """As below, of the words behind a number up to the end of its sentence."""
    word = _CONTEXT.search(_SENTENCE_END.split(after, maxsplit=1)[0])
    return "" if not word else "phone" if word[1] else "other"


def _last_word(before: str) -> str:
    """What the last telling word speaks of: ``phone``, ``other``, nothing.

    Not looked past: what is covered or replaced (``<``, ``>``). Nobody knows what stood there, so it is ``other``: a
    text must not hold more once it is redacted.
    """
    edge = max(before.rfind("<"), before.rfind(">"))
    words = list(_CONTEXT.finditer(before, edge + 1))
    if not words:
        return "other" if edge >= 0 else ""
    return "phone" if words[-1][1] else "other"
