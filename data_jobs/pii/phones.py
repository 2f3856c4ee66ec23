"""Telephone numbers: loose shapes, of which the surroundings and the world's numbering plans say which are one.

Dates, versions, amounts and epoch seconds are none. A number that could as well be an account (``699 956 915``,
``467 3395``) is a phone only where a word near it speaks of phoning and no nearer one of accounts, or where it is
written the way its country writes numbers (``phonenumbers``, the metadata of libphonenumber).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from data_jobs.pii.form import lower

_EXTENSION = r"(?: ?(?:x|ext\.? ?|extension )\d{1,6})?"
# ``467 3395-Office``, ``467 3395 (mobile)``: what a number is may stand behind it.
_LABEL = (
    r"(?i: ?[-/(,]{1,2} ?(?:office|fax|home|work|mobile|cell|phone|tel|direct|private|voice|day|evening)\b"
    r"| (?:office|fax|mobile|cell|home|work)(?= ?(?:[\n,;)]|\Z)))"
)
# Patterns begin with the character they are to find, and look behind it afterwards: so a search skips all other ones.
_INTERNATIONAL = re.compile(
    rf"(?:\+(?<![\w+].)|0(?<![\w+.-].)0 ?(?=[1-9]))(?:\(?\d)[\d ()./-]{{6,22}}\d{_EXTENSION}(?!\w)"
)
_NORTH_AMERICAN = re.compile(
    r"(?:\((?<![\w.-].)[2-9]\d\d\) ?|[2-9](?<![\w./-].)\d\d[ .-]|1(?<![\w./-].)[ .-](?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])"
    r"|0(?<![\w./-].)01[ .-](?:\(\d{3}\) ?|\d{3}[ .-]))"
    r"\d{3}[ .-]\d{4}" + _EXTENSION + rf"(?:(?![\w-]|[./]\d)|(?={_LABEL}))"
)
_BEFORE = r"(?<![\w.,:/$€£#=)\[\\-].)(?<!\d[ (].)"
# Groups as people write them; the digits of the first may stand in brackets.
_GROUPED = re.compile(
    rf"(?:\({_BEFORE}\d{{2,5}}\)[ -]?\d{{2,8}}(?:[ -]\d{{2,6}}){{0,4}}"
    rf"|\d{_BEFORE}(?:\d{{0,5}}(?P<sep>[ ./-])\d{{2,8}}(?:(?:(?P=sep)|[ -])\d{{2,6}}){{0,4}}|\d{{6,12}})){_EXTENSION}"
    rf"(?:(?![\w/:€%°-]|[.,]\d| [\d(]| ?<)|(?={_LABEL}))"
)
# Any digits that could be a number, and the words right before them that say they are one.
_LOOSE = re.compile(
    r"(?:\+(?<![\w.,/$€£#\[-].)\(?\d|\((?<![\w.,/$€£#\[-].)\d|\d(?<![\w.,/$€£#\[-].))"
    rf"[\d ()./-]{{5,18}}\d{_EXTENSION}(?!\w)"
)
_NAMED = re.compile(
    r"(?:电话|電話|手机|手機|传真|携帯|전화|연락처|휴대폰|โทร|เบอร์"
    r"|هاتف|جوال|تليفون|موبايل|اتصل|رقمي|טלפון|נייד|फोन|मोबाइल|điện thoại|連絡先|联系|聯繫"
    r"|\b(?:телефон|тел|моб|факс|τηλ(?:έφωνο)?|κινητό"
    r"|(?:tele?)?phone|telefono?|t[ée]l[ée]phone|tel|mobile|m[óo]vil|handy|mobil|cell|fax|desk|hotline|landline"
    r"|whatsapp|sms|viber|signal|call(?:ed|ing)? (?:me|us|him|her|them|at|on|back)|cell(?:ulare|phone)|celular|portable"
    r"|number['’]s|mob(?:ile)?(?: no\.?| number)?|tlf|(?:mon|ton|son|notre|votre|mi|tu|su|meu|seu|il mio|mijn|meine"
    r"|min|mój)"
    r" (?:n[úu]m[ée]ro|nummer|numer)"
    r"|rufnummer|erreichbar(?: unter)?|joignable(?: au)?|telefoon|office(?=:)|home(?=:)|work(?=:)|puhelin"
    r"|telefonnummer|telefonu?|telefone|komórk[ai]|bel(?:len)? (?:me|mij|ons|naar)"
    r"|(?:ruf|rufe|rufen) (?:mich|uns)"
    r"|appele[zr]?(?:-moi)?|rappele[zr]?(?:-moi)?|ll[aá]m(?:ame|enos|anos|ar al?)|ligue|ring(?:a| meg)?"
    r"|chiama(?:mi|re|ci)?"
    r"|(?:my|our|his|her|their|your) (?:new |old |direct |private |work |home )?number|reach(?:ed)? (?:me|us) on"
    r"|reach(?:ed)? (?:me|us|him|her|them|at|on)"
    r"|answering|dial(?:ed|ing)?|text me|messages to|ring (?:me|us)|rufen sie|appelez)\b)"
    r"[^\d\n+(]{0,14}(?:\n[^\d\n+(]{0,4})?\Z"
)  # fmt: skip
# A number that goes on in the next line, where nothing but a sign stands behind the rest of it.
_NEXT_LINE = re.compile(r" ?\n ?\d{2,5}(?:[ .-]\d{2,4}){0,2}(?=[ \t]{0,2}(?:[(.,;!?)]|\Z|\n))")
_LINKED = re.compile(r"(?:wa\.me/|\btel:|\bsms:|\bcallto:)\+?(\d{7,15})(?!\w)")
# With a word of phoning before it, as letters, single digits or signs: 4l5-555-Ol32, 4 1 5 5 5 5 0 1 3 2, 415_555_0132.
_ODD = re.compile(r"\d(?<![\w.,/$€£#\[-].)(?:[ _*,-]{0,3}[\dOolI]){6,14}(?![\w%]|[.,]\d)")
_ASSIGNED = ("phone=", "tel=", "mobile=", "fax=")
# One of these is in every context looked for.
_PHONE_WORDS = (
    "phone", "tel", "t\u00e9l", "mobil", "m\u00f3vil", "handy", "cell", "fax", "desk", "hotline", "landline",
    "whatsapp",
    "sms", "viber", "signal", "call", "reach", "answering", "dial", "text me", "messages to", "contact", "number",
    "registered", "messag", "ring", "rang", "voice", "text ", "office", "home", "work", "direct", "private",
    "ph:", "ph.",
    "ph ", "mob", "rufen", "appele", "in touch", "extension", "\u7535\u8bdd", "\u96fb\u8a71",
    "\u624b\u673a", "\u624b\u6a5f", "\u4f20\u771f", "\u643a\u5e2f", "\uc804\ud654", "\uc5f0\ub77d\ucc98",
    "\ud734\ub300\ud3f0", "\u0e42\u0e17\u0e23", "\u0e40\u0e1a\u0e2d\u0e23\u0e4c",
    "هاتف", "جوال", "تليفون", "موبايل", "טלפון", "נייד", "फोन", "मोबाइल", "điện thoại", "тел", "моб", "факс",
    "τηλ", "κινητό", "اتصل", "رقمي", "連絡先", "联系", "聯繫", "portable", "puhelin", "kom\u00f3r", "bel me", "bel mij",
    "tlf", "erreichbar", "joignable", "numéro", "número", "numero", "nummer", "numer", "bel ons", "bellen", "ruf",
    "ll\u00e1m", "llam", "ligue", "chiama", "wa.me/",
)  # fmt: skip
CONTEXT_CHARS = 56  # A word that says what a number is may stand so far before it.
# The last of these before a number decides: they speak of phoning, or may do so of a number in groups, or do not.
# Alternatives begin with a letter, or stand behind one border: others cost ten times as much where none fits.
_CONTEXT = re.compile(
    r"(tele?phone|t[ée]l[ée]phone|telefon|tel[ée]fono|m[óo]vil|whatsapp|hotline|landline|phone|voice ?mail"
    r"|电话|電話|手机|手機|传真|携帯|전화|연락처|휴대폰|โทร|เบอร์"
    r"|\b(?:tel\b|mobile\b(?! (?:app|device|web|site|version|game))|handy|fax|dial|sms\b|ph\b"
    r"|cell\b(?! (?:in|of|at|value|[a-z]\d))|call(?:s|ed|ing)? (?:me|us|him|her|them|now|back|my)\b"
    r"|text(?: me|ed|ing)|ph[.:]{1,2}|mob[.:]{1,2}|cell[.:]{1,2}"
    r"|(?:my|his|her|their|your|our|contact|direct|office|home|work) (?:(?!account|card|order|invoice|customer"
    r"|member|policy|"
    r"reference|serial|tracking|ticket|case|tax|version|flight|room|page)[a-z]+ )?number)"
    r"|[\n|,;] ?[tmpofchw][.:]{1,2} ?\Z|\A[tmpofchw][.:]{1,2} ?\Z)"
    r"|(messag|contact|registered|in touch|['’]s numbers?\b(?! of)"
    r"|\b(?:call(?:s|ed|ing|er)?\b(?! (?:to|stack|site|graph|returned|took|id|failed))|reach|text \Z|rings? |rang\b"
    r"|extension|(?:the|this|that|these|whose|which|what|new|old|correct|wrong|right|same|following) numbers?\b"
    r"(?! of)))"
    r"|((?:account|card|order|invoice|isbn|issn|serial|ticket|passport|licen[cs]e|tracking|reference|version|model|part"
    r"|case|member|policy|customer|product|item|flight|room|page|line|code|pin|id|tax|vat|ssn|zip|postal|random|prime"
    r"|even|odd|real|integer|whole|large|natural|total|bug|issue|cve|pull request|pr|commit|revision"
    r"|build|error|article"
    r"|record|batch|lot|sku|ean|upc|doi|patent|process|thread|timestamp|epoch|offset|chapter|section"
    r"|rfc|pep|gene|sample"
    r"|seed|release|survey|grant|contract|claim|row|index)\b(?: (?:numbers?|no\b\.?|nr\b|id\b|code))?"
    r"|(?:conference|function|system|api) calls?|call stack|amount|balance|bytes|population|limit|maximum"
    r"|minimum|default|\b(?:size|port\b|number\b)|numbers? of)"
)
_LETTER = re.compile(r"(?:\A|[\n|,;] ?)[tmpofchw][.:]{1,2} ?[\d(+]")  # as on a business card
# What may follow a number of nine digits that is no amount: the end of a clause or a small word, but no unit.
_CLAUSE_GOES_ON = re.compile(
    r"\s*(?:\Z|[.;:!?)\n\"']|,(?! ?[\d<])| ?(?:is|and|or|to|for|if|at|but|now|when|so|please|thanks|as|has|was|on)\b)"
)
_MEANINGS = ("", "phone", "number", "other")
_SENTENCE_END = re.compile(r"[<>\n\d]|[.!?](?=\s|\Z)")
# Dates in any order, alone or with a time behind them, and spans of years.
_DATE = re.compile(
    r"(?:(?:19|20)\d\d([./ -])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])([./ -])(?:0?[1-9]|[12]\d|3[01])\2(?:(?:19|20)\d\d|\d\d)"
    r"|[0-2]?\d[.:][0-5]\d ?- ?[0-2]?\d[.:][0-5]\d|(?:19|20)\d\d ?[-/ ] ?(?:19|20)\d\d)(?!\d|[./-]\d|(?: \d{2}){2})"
)
_IN_PAIRS = re.compile(r"\d\d(?: \d\d){3}")  # a number in Denmark or Norway rather than a date
_DECIMAL = re.compile(r"\+?\d+\.\d*")
_BARE = re.compile(r"[2-9]\d\d[2-9]\d{6}|0[1-9]\d{8,9}")  # North American, or with a trunk prefix
_EPOCH = re.compile(r"1\d{9}(?:\d{3}){0,3}|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4}(?:\d\d)?)?")


def phones_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of telephone numbers; they may overlap, the first of them is to be taken."""
    lowered = lower(text)
    named = any(word in lowered for word in _PHONE_WORDS) or _LETTER.search(lowered) is not None
    validations = MAX_VALIDATIONS
    for match in _INTERNATIONAL.finditer(text):
        if 8 <= _count(match[0]) <= 20 and not _DECIMAL.fullmatch(match[0]):
            validations -= 1
            if validations < 0 or _has_country(match[0]):  # after many, a number is believed
                yield match.start(), _end_of(text, match)
    validations, telling = MAX_VALIDATIONS, _Telling(lowered)
    for match in _GROUPED.finditer(text):
        start, end = match.span()
        groups = re.findall(r"\d+", re.split("[xe]", match[0])[0])
        sizes = [len(group) for group in groups]
        if not 7 <= sum(sizes) <= 13 or sizes == [3, 2, 4] or _is_no_number(match[0]):
            continue  # 3, 2, 4: a social security number that is none
        speaks = telling.before(start, CONTEXT_CHARS if len(sizes) > 1 else CONTEXT_CHARS // 2)
        speaks = speaks or _next_word(lowered[end : end + CONTEXT_CHARS])
        if match[0][0] != "(" and (speaks == "other" or (speaks != "phone" and _is_amount(match[0], sizes))):
            continue
        if _has_phone_shape(match[0], sizes) or (speaks and (len(sizes) > 1 or not _EPOCH.fullmatch(match[0]))):
            if len(sizes) > 1 or speaks == "phone" or _BARE.fullmatch(match[0]):
                yield start, end
        elif len(sizes) > 1 and _is_own_line(text, start, end):
            yield start, end
        elif len(sizes) > 1 and sum(sizes) >= 9 and sizes != [3, 3, 3] and validations:
            validations -= 1
            if _is_written_as_in_its_country(" ".join(groups)) and _stands_alone(text, start, end):
                yield start, end
    if any(scheme in text for scheme in ("wa.me/", "tel:", "sms:", "callto:")):
        yield from (match.span(1) for match in _LINKED.finditer(text))
    telling = _Telling(lowered)
    for match in _NORTH_AMERICAN.finditer(text):
        if not _DATE.match(match[0]) and telling.before(match.start(), CONTEXT_CHARS // 2) != "other":
            yield match.span()
    read = 0
    for match in _LOOSE.finditer(text) if named else ():
        begin, read = max(read, match.start() - CONTEXT_CHARS), match.end()  # no digit stands behind such a word
        if text[match.start() - 1 : match.start()] == "=" and not lowered.endswith(_ASSIGNED, begin, match.start()):
            continue  # of code: ``signal=1234567``
        none = _is_no_number(match[0]) and not _IN_PAIRS.fullmatch(match[0])
        if 7 <= _count(match[0]) <= 20 and _NAMED.search(lowered, begin, match.start()) and not none:
            bare = match[0].isdigit()
            if not bare or not _EPOCH.fullmatch(match[0]):
                yield match.span()
    read = 0
    for match in _ODD.finditer(text) if named else ():
        begin, read = max(read, match.start() - CONTEXT_CHARS), match.end()
        if sum(map(str.isdigit, match[0])) < 5 or match[0].isdigit() or _is_no_number(match[0]):
            continue
        if _NAMED.search(lowered, begin, match.start()):
            yield match.span()


def _end_of(text: str, match: re.Match[str]) -> int:
    """Where an international number ends: in the next line, if it is one with what stands there."""
    more = _NEXT_LINE.match(text, match.end(), match.end() + 20)
    if more and _count(match[0] + more[0]) <= 15 and _has_country(match[0] + more[0]):
        return more.end()
    return match.end()


def _count(value: str) -> int:
    return sum(c.isdigit() for c in value)


def _is_no_number(value: str) -> bool:
    return bool(_DATE.match(value) or _DECIMAL.fullmatch(value))


def _is_amount(value: str, sizes: list[int]) -> bool:
    """Whether digits in threes are a round number: ``12 500 000``."""
    return sizes[1:] == [3] * (len(sizes) - 1) and sizes[0] <= 3 and value.endswith("00")


def _has_phone_shape(value: str, sizes: list[int]) -> bool:
    """Whether groups of digits can hardly be anything else: no amount (threes behind the first), date or version."""
    if value[0] == "(":
        return len(sizes) > 1 and sum(sizes) >= 8
    if len(sizes) == 1:
        return False
    separator = value[sizes[0]]
    if len(sizes) in (4, 5) and set(sizes) == {2} and (separator == "-" or (separator == "." and len(sizes) == 5)):
        return True  # 60-56-85-91, 03.93.92.16.85
    if separator == "/" and value[0] == "0" and 3 <= sizes[0] <= 5 and len(sizes) > 2 and sizes[1] <= 3:
        return True  # 0171/123 45 67
    mixed = len(sizes) >= 3 and {2, 3} <= set(sizes) and max(sizes) < 5 and sum(sizes) >= 8
    return mixed and separator in " -" and sizes[1:] != [3] * (len(sizes) - 1)


def _stands_alone(text: str, start: int, end: int) -> bool:
    if re.match(r"\s{1,2}[\d<]", text[end : end + 3]):
        return False
    return not re.search(r"[\d<>][,;]?\s{0,2}\Z", text[max(0, start - 4) : start]) and bool(
        _CLAUSE_GOES_ON.match(text, end, end + 8)
    )


def _is_own_line(text: str, start: int, end: int) -> bool:
    """Whether a number is a line of a signature or form: nothing beside it, words in the lines around it."""
    before, after = text[max(0, start - 80) : start], text[end : end + 80]
    above, newline, beside = before.rpartition("\n")
    if beside.strip() or not newline or (after.strip(" \t\r") and after.lstrip(" \t\r")[:1] != "\n"):
        return False
    lines = (above.rstrip().rpartition("\n")[2], after.lstrip().partition("\n")[0])
    # What is replaced (<PHONE_1>) says nothing: a text must not hold more once it is redacted.
    words = any("<" not in line and ("@" in line or any(c.isupper() for c in line)) for line in lines)
    return words and not any(re.fullmatch(r"[\d\s.,-]+", x) for x in lines)


def _next_word(after: str) -> str:
    """What the first telling word behind a number, up to the end of its sentence, speaks of: see ``_Telling``."""
    if re.match(_LABEL, after):
        return "phone"
    word = _CONTEXT.search(_SENTENCE_END.split(after, maxsplit=1)[0])
    return _MEANINGS[word.lastindex or 0] if word else ""


class _Telling:
    """The last telling words before numbers, which are asked for in order: no stretch of a text is read twice."""

    def __init__(self, lowered: str) -> None:
        self._text = lowered
        self._read = 0
        self._word = (-1, "")  # where the last one begins, and its meaning
        self._covered = -1

    def before(self, start: int, reach: int) -> str:
        """What the last telling word in the ``reach`` characters before ``start`` speaks of: ``phone``, perhaps a
        ``number`` to call, ``other``, nothing.

        Not looked past: what is covered or replaced (``<``, ``>``). Nobody knows what stood there, so it is ``other``:
        a text must not hold more once it is redacted.
        """
        begin = max(self._read, start - CONTEXT_CHARS)
        stretch = self._text[begin:start]
        covered = max(stretch.rfind("<"), stretch.rfind(">"))
        if covered >= 0:
            self._covered = begin + covered
        for word in _CONTEXT.finditer(stretch, covered + 1):
            self._word = (begin + word.start(), _MEANINGS[word.lastindex or 0])
        self._read = start
        at, meaning = self._word
        if at > self._covered and at >= start - reach:
            return meaning
        return "other" if self._covered >= max(0, start - reach) else ""


# -- numbering plans ---------------------------------------------------------------------------------------------------
MAX_VALIDATIONS = 20  # Each takes some 1 ms; a text made of look-alikes must not take seconds.
_REGION_CODES = """
GB DE FR ES IT NL BE CH AT SE NO DK FI PL CZ SK HU PT GR RO BG HR SI IE IS EE LV LT UA RU TR IL ZA EG NG KE MA IN PK
CN JP KR TW HK SG MY TH VN ID PH AU NZ BR AR MX CL CO PE UY CY LU TN
"""
_REGIONS = _REGION_CODES.split()


@functools.lru_cache(4096)
def _has_country(value: str) -> bool:
    """Whether an international number begins with a country's code and has as many digits as numbers there may have."""
    import phonenumbers

    number = re.split("[xe]", value)[0]
    digits = "".join(c for c in number.replace("(0)", "") if c.isdigit())
    digits = digits[2:] if digits.startswith("00") else digits
    try:
        parsed = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(parsed)


@functools.lru_cache(4096)
def _is_written_as_in_its_country(groups: str) -> bool:
    """Whether groups of digits are a valid number of a country, cut where it is cut there."""
    import phonenumbers

    digits = groups.replace(" ", "")
    for region in _REGIONS:
        pattern, prefix = _plan(region)
        national = digits[len(prefix) :] if prefix and digits.startswith(prefix) else digits
        if pattern.fullmatch(national):
            number = phonenumbers.PhoneNumber(_country(region), int(national))
            number.italian_leading_zero = national.startswith("0")
            form = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
            if re.findall(r"\d+", form) == groups.split():
                return True
    return False


@functools.cache
def _country(region: str) -> int:
    import phonenumbers

    return phonenumbers.country_code_for_region(region)


@functools.cache
def _plan(region: str) -> tuple[re.Pattern[str], str]:
    """A pattern of a region's fixed and mobile numbers, and the prefix they have within it."""
    import phonenumbers

    metadata: Any = phonenumbers.PhoneMetadata.metadata_for_region(region)
    kinds = (metadata.fixed_line, metadata.mobile)
    patterns = [kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern]
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)), metadata.national_prefix or ""
