"""Find and redact personal data and credentials with rules: in documents, in requests, in streamed answers.

Seven types: ``EMAIL PHONE CARD IBAN SSN IP SECRET`` (``SECRET``: keys of well-known services, JSON web tokens, private
keys, ``password=...``, user and password in a URL). Where a type has a check (Luhn for cards, ISO 7064 mod 97-10 for
IBANs, the issuing rules of SSNs, the address registry for IPs) a finding has passed it. Names and street addresses
need a model and are left to one.

Not personal data, so left alone, since technical documents are full of them: loopback, private, link-local and
documentation addresses (RFC 1918, 4193, 5737, 3849), reserved domains (RFC 2606 and 6761: ``user@example.com``), dotted
versions (``1.2.3.4``, ``Chrome/114.0.0.0``), placeholders (``password=secret``, ``user:password@host``).

Every rule is linear in the text: quantifiers are bounded and a rule starts only where a run of its characters starts.
A finding is at most ``MAX_ENTITY_CHARS`` long; what is longer (a private key) comes as findings that touch.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_ENTITY_CHARS = 128
MAX_LOOKS = 8  # two do for anything seen; a bound for text made to hide more
TYPES = ("SECRET", "EMAIL", "IBAN", "CARD", "SSN", "IP", "PHONE")


@dataclass(frozen=True)
class Finding:
    """``text[start:end]`` is of ``type`` (one of ``TYPES``)."""

    type: str
    start: int
    end: int


def find(text: str) -> list[Finding]:
    """Everything in ``text`` that should not be in it: sorted, not overlapping, each at most MAX_ENTITY_CHARS long.

    Looks again with what was found covered: two addresses glued together hide each other.
    """
    spans: list[tuple[int, int, str]] = []
    rest = text
    for _ in range(MAX_LOOKS):
        found = _look(rest)
        if not found:
            break
        spans += found
        rest = _covered(rest, found)
    return [
        Finding(kind, piece, min(piece + MAX_ENTITY_CHARS, end))
        for start, end, kind in sorted(spans)
        for piece in range(start, end, MAX_ENTITY_CHARS)
    ]


def _covered(text: str, spans: list[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, _ in sorted(spans):
        parts += [text[at:start], "<" * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def _look(text: str) -> list[tuple[int, int, str]]:
    """Spans that the rules claim; where two claim the same characters the earlier rule has them."""
    taken: list[tuple[int, int, str]] = []
    covered = bytearray(len(text))
    for kind, needs, rule in _RULES:
        if needs(text):
            for start, end in rule(text):
                if covered.find(1, start, end) < 0:
                    taken.append((start, end, kind))
                    covered[start:end] = b"\x01" * (end - start)
    return taken


def redact(text: str) -> tuple[str, list[Finding]]:
    """``text`` with typed placeholders (``<EMAIL_1>``: the same value has the same number), and what was found.

    The findings' offsets are those in the given text. Nothing is left in the result that ``find`` would report.
    """
    findings = find(text)
    numbers: dict[str, dict[str, int]] = {kind: {} for kind in TYPES}
    parts, at = [], 0
    for kind, start, end in _joined(findings):
        number = numbers[kind].setdefault(text[start:end], len(numbers[kind]) + 1)
        parts += [text[at:start], f"<{kind}_{number}>"]
        at = end
    return "".join([*parts, text[at:]]), findings


def _joined(findings: list[Finding]) -> Iterator[tuple[str, int, int]]:
    """Findings with the touching pieces of a long one put together again."""
    for index, finding in enumerate(findings):
        before = findings[index - 1] if index else None
        if before and before.end == finding.start and before.type == finding.type:
            continue
        end = finding.end
        for after in findings[index + 1 :]:
            if after.start != end or after.type != finding.type:
                break
            end = after.end
        yield finding.type, finding.start, end


Spans = Iterator[tuple[int, int]]

# -- e-mail ------------------------------------------------------------------------------------------------------------
# Found from the @: a pattern that started at the local part would try every character of a long word.
_AT = re.compile(r"(?<=[\w%+'-])@((?:[\w-]{1,63}\.){1,6}[^\W\d_]{2,24})(?![\w-])")
_LOCAL_END = re.compile(r"[\w.%+'-]*\Z")
_RESERVED_DOMAIN = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|local)$", re.I)


def _emails(text: str) -> Spans:
    for match in _AT.finditer(text):
        start = match.start()
        while start > 0 and match.start() - start < 64 and (text[start - 1].isalnum() or text[start - 1] in "_.%+'-"):
            start -= 1
        while text[start] in ".'-":
            start += 1
        if start < match.start() and text[start : match.start()] != "git" and not _RESERVED_DOMAIN.search(match[1]):
            yield start, min(match.end(), start + MAX_ENTITY_CHARS)


# Most texts hold no run of digits long enough for any number below: one cheap look saves five rules.
_DIGITS_AND_SEPARATORS = re.compile(r"\d[\d ().-]{5}").search

# -- numbers -----------------------------------------------------------------------------------------------------------
_CARD = re.compile(r"(?<![\w.])(?<!\d[ -])\d(?:[ -]?\d){11,18}(?![ -]?\d)(?!\w)")
# ISO/IEC 7812 prefixes in use; a random number passes Luhn one time in ten, so the prefix matters.
_CARD_PREFIX = re.compile(r"4|5[0-8]|6|3[0-9]|2[1-7]|1800")
_SSN = re.compile(r"(?<![\w-])(?!000|666)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_SSN_NAMED = re.compile(r"(?:\bssn|social security)\D{1,24}(\d{9})(?!\w)", re.I)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}", re.I)
# Country and length of its IBANs (SWIFT's IBAN registry).
_IBAN_REGISTRY = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24
FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21
LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22
RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
"""
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        digits = [int(c) for c in match[0] if c.isdigit()]
        doubled = (d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits)))
        if _CARD_PREFIX.match(match[0].replace(" ", "").replace("-", "")) and sum(doubled) % 10 == 0 and any(digits):
            yield match.span()


def _ssns(text: str) -> Spans:
    yield from (match.span() for match in _SSN.finditer(text))
    lowered = text.lower()
    if "ssn" in lowered or "social security" in lowered:
        yield from (match.span(1) for match in _SSN_NAMED.finditer(text))


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        end, seen = match.start(), 0
        while end < match.end() and seen < length:  # the words after it are made of the same characters
            seen += text[end] != " "
            end += 1
        value = text[match.start() : end].replace(" ", "")
        if length and seen == length and not text[end : end + 1].isalnum() and value.isascii():
            rearranged = value[4:] + value[:4]
            if int("".join(str(int(c, 36)) for c in rearranged)) % 97 == 1:
                yield match.start(), end


# -- addresses ---------------------------------------------------------------------------------------------------------
_IPV4 = re.compile(r"(?<![\w.-])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f]{1,4}:(?:[0-9a-f]{1,4}:|:[0-9a-f]{0,4}){1,8}[0-9a-f]{0,4}(?![\w:])", re.I)
_VERSION_BEFORE = re.compile(r"(?:\bv|\bversions?:?|\brelease|\bbuild|[=~<>!]=|\w/)\s{0,2}\Z", re.I)


def _addresses(text: str) -> Spans:
    for match in _IPV4.finditer(text):
        octets = match[0].split(".")
        if all(len(o) == 1 for o in octets) or any(o[0] == "0" and o != "0" for o in octets):
            continue  # rather a version
        if not _VERSION_BEFORE.search(text, max(0, match.start() - 12), match.start()) and _is_public_v4(
            *map(int, octets)
        ):
            yield match.span()
    for match in _IPV6.finditer(text):
        if _is_public_v6(match[0]):
            yield match.span()


def _is_public_v4(a: int, b: int, c: int, _: int) -> bool:
    """Whether an address can belong to somebody (IANA special-purpose registry; ``is_global``, but 20 times faster)."""
    if a in (0, 10, 127) or a >= 224 or (a == 172 and 16 <= b < 32) or (a, b) in ((192, 168), (169, 254)):
        return False
    if (a, b, c) in ((192, 0, 0), (192, 0, 2), (198, 51, 100), (203, 0, 113)):
        return False
    return not ((a == 100 and 64 <= b < 128) or (a == 198 and b in (18, 19)))


def _is_public_v6(value: str) -> bool:
    """As above. ``::`` beside a few digits is also how slices and scopes look: short forms count in 2000::/3 only."""
    groups = value.split(":")
    short = value.count("::")
    if short > 1 or ":::" in value or (not short and len(groups) != 8) or (short and len(groups) > 8):
        return False  # a time, a slice, a MAC address
    first, second = int(groups[0], 16), int(groups[1] or "0", 16)
    if 0x2000 <= first < 0x4000:
        return (first, second) != (0x2001, 0xDB8) and first != 0x3FFF and sum(map(bool, groups)) > 2
    return not short and 0 < first < 0xFC00


_INTERNATIONAL = re.compile(r"(?<![\w+])(?:\+|00 ?(?=[1-9]))\d[\d ().-]{6,22}\d(?: ?(?:x|ext\.? ?)\d{1,5})?(?!\w)")
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.-])(?:(?:00)?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?: ?(?:x|ext\.? ?)\d{1,5})?(?![\w-]|\.\d)"
)
_NATIONAL = re.compile(r"(?<![\w./-])\(?0\d{1,4}\)?[ /-]\d{2,4}(?:[ -]?\d{2,4}){1,3}(?![\w/-]|\.\d)")
_DECIMAL = re.compile(r"\+?\d+\.\d*")
_NAMED_PHONE = re.compile(
    r"\b(?:phone|telephone|tel|mobile|cell|fax|desk|hotline|whatsapp|sms|call(?:ed|ing)? (?:me|us|him|her|them|at|on)"
    r"|reach(?:ed)? (?:me|us|him|her|them|at|on)|answering|dial|text me|messages to)\b"
    r"[^\d\n+(]{0,14}(?:\n[^\d\n+(]{0,4})?(\+?\(?\d[\d ().-]{5,18}\d(?: ?(?:x|ext\.? ?)\d{1,5})?)(?!\w)", re.I,
)  # fmt: skip


# One of these is in every match of the pattern above, which looks at each word of the text.
_PHONE_WORDS = (
    "phone", "tel", "mobile", "cell", "fax", "desk", "hotline", "whatsapp", "sms", "call", "reach", "answering", "dial",
    "text me", "messages to",
)  # fmt: skip


def _phones(text: str) -> Spans:
    patterns = [(_INTERNATIONAL, 8, 20), (_NORTH_AMERICAN, 10, 18), (_NATIONAL, 9, 11)]
    lowered = text.lower()
    if any(word in lowered for word in _PHONE_WORDS):
        patterns.append((_NAMED_PHONE, 7, 20))
    for pattern, least, most in patterns:
        group = pattern.groups
        for match in pattern.finditer(text):
            if least <= sum(c.isdigit() for c in match[group]) <= most and not _DECIMAL.fullmatch(match[group]):
                yield match.span(group)


# -- credentials -------------------------------------------------------------------------------------------------------
_KEYS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[0-9A-Z]{16}(?![0-9A-Za-z])"  # AWS access key ids
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}"  # GitHub
    r"|glpat-[\w-]{20,64}|xox[abeoprs]-[\w-]{10,255}"  # GitLab, Slack
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,64}"  # Stripe, Google, Hugging Face
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}|SG\.[\w-]{16,32}\.[\w-]{16,64}"  # npm, PyPI, SendGrid
    r"|sk-(?=[A-Za-z_-]{0,60}\d)[\w-]{20,255}"  # OpenAI, Anthropic and those that copy them
    r"|eyJ[\w-]{8,4096}\.[\w-]{8,4096}(?:\.[\w-]{0,4096})?"  # JSON web tokens
    r")"
)
_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s\\]{0,20000}+)")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_USERINFO = re.compile(r"://([^\s/@:?#\"'<>]{0,60}:([^\s/@\"'<>]{1,60}))@(?=[\w\[])")
_BEARER = re.compile(r"\b(?:Bearer|Basic) ((?=[A-Za-z+/_=-]{0,40}[0-9])[\w.~+/=-]{16,4096})")
_ASSIGNED = re.compile(
    r"(?:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|api[_-]?key|(?:access|auth|refresh)[_-]?token"
    r"|client[_-]?secret|private[_-]?key|token)[\"']?(?: {0,3}(?::=|=>|[:=]) {0,3}| is )"
    r"(?:([\"'])([^\"'\n]{4,200})\1|([^\s\"'`,;<>()\[\]{}]{6,200}+)(?![(\[]))", re.I,
)  # fmt: skip
_ASSIGNED_WORDS = ("pass", "pwd", "secret", "key", "token")
_LONG_RUN = re.compile(r"[\w-]{15}")  # nothing shorter can be a key
_PLACEHOLDER = re.compile(
    r"(?:your|my|the|some|new|old|user|test|example|sample|dummy|fake|default)?[ _-]?"
    r"(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|key|api[ _-]?key|none|null|true|false|x{3,}|\*{3,}|\.{3,}|hidden|"
    r"redacted|change[ _-]?me|str|string|value|text|here|example)s?(?:[ _-]?(?:here|value|string))?\Z", re.I,
)  # fmt: skip


def _secrets(text: str) -> Spans:
    if "-----BEGIN" in text:
        yield from _private_keys(text)
    if _LONG_RUN.search(text):
        yield from (match.span() for match in _KEYS.finditer(text))
    if "://" in text:
        for match in _USERINFO.finditer(text):
            if not _is_placeholder(match[2]):
                yield match.span(1)
    if "Bearer " in text or "Basic " in text:
        yield from (match.span(1) for match in _BEARER.finditer(text))
    lowered = text.lower()
    for match in _ASSIGNED.finditer(text) if any(word in lowered for word in _ASSIGNED_WORDS) else ():
        quoted, bare = match[2], match[3]
        if quoted and not _is_placeholder(quoted) and " " not in quoted:
            yield match.span(2)
        elif bare and not _is_placeholder(bare) and _looks_random(bare):
            yield match.span(3)


def _private_keys(text: str) -> Spans:
    """From BEGIN to END, or, where the END is missing (a cut, a stream), over all that looks like the key."""
    ends = [match.end() for match in _KEY_END.finditer(text)]
    for match in _KEY_BEGIN.finditer(text):
        place = bisect.bisect_left(ends, match.start())
        end = ends[place] if place < len(ends) and ends[place] - match.start() < 20_000 else match.end()
        yield match.start(), end


def _is_placeholder(value: str) -> bool:
    return bool(_PLACEHOLDER.match(value)) or value[:1] in "$%{<" or len(set(value)) == 1


def _looks_random(value: str) -> bool:
    """An unquoted value is a secret rather than a name in code: letters and digits mixed, not ``obj.attribute1``."""
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return mixed and not re.fullmatch(r"[A-Za-z_]\w{0,40}(?:\.[A-Za-z_]\w{0,40}){1,5}", value)


# In order of trust: where two rules claim the same characters the earlier one has them.
_RULES: tuple[tuple[str, Callable[[str], object], Callable[[str], Spans]], ...] = (
    ("SECRET", lambda text: True, _secrets),
    ("EMAIL", lambda text: "@" in text, _emails),
    ("IBAN", re.compile(r"(?<!\w)[A-Za-z]{2}\d\d").search, _ibans),
    ("CARD", _DIGITS_AND_SEPARATORS, _cards),
    ("SSN", _DIGITS_AND_SEPARATORS, _ssns),
    ("IP", re.compile(r"\d\.\d{1,3}\.|[0-9A-Fa-f]:[0-9A-Fa-f:]").search, _addresses),
    ("PHONE", _DIGITS_AND_SEPARATORS, _phones),
)
