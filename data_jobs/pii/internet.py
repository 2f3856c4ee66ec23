"""E-mail addresses, IP addresses and URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_EMAIL_CHARS = 128

# -- e-mail ------------------------------------------------------------------------------------------------------------
# Found from the @: a pattern that started at the local part would try every character of a long word.
_AT = re.compile(r"(?<=[\w%+'-])@((?:[\w-]{1,63}\.){1,6}[^\W\d_]{2,24})(?![\w-])")
_LOCAL_END = re.compile(r"[\w.%+'-]*\Z")
_RESERVED_DOMAIN = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|local)$", re.I)


def emails_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of e-mail addresses; those of domains reserved for examples are nobody's."""
    for match in _AT.finditer(text):
        start = match.start()
        while start > 0 and match.start() - start < 64 and (text[start - 1].isalnum() or text[start - 1] in "_.%+'-"):
            start -= 1
        while text[start] in ".'-":
            start += 1
        if start < match.start() and text[start : match.start()] != "git" and not _RESERVED_DOMAIN.search(match[1]):
            yield start, min(match.end(), start + MAX_EMAIL_CHARS)


# -- addresses ---------------------------------------------------------------------------------------------------------
_IPV4 = re.compile(r"\d(?<![\w.-].)\d{0,2}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_HEX_AND_COLONS = re.compile(r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f]{1,4}:(?:[0-9a-f]{1,4}:|:[0-9a-f]{0,4}){1,8}[0-9a-f]{0,4}(?![\w:])", re.I)
_VERSION_BEFORE = re.compile(r"(?:\bv|\bversions?:?|\brelease|\bbuild|[=~<>!]=|\w/)\s{0,2}\Z", re.I)


def ips_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of public IPv4 and IPv6 addresses; versions that look like one are left alone."""
    for match in _IPV4.finditer(text):
        octets = match[0].split(".")
        if all(len(o) == 1 for o in octets) or any((o[0] == "0" and o != "0") or int(o) > 255 for o in octets):
            continue  # rather a version
        if not _VERSION_BEFORE.search(text, max(0, match.start() - 12), match.start()) and _is_public_v4(
            *map(int, octets)
        ):
            yield match.span()
    for match in _IPV6.finditer(text) if _HEX_AND_COLONS.search(text) else ():
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


# -- URLs --------------------------------------------------------------------------------------------------------------
_URL = re.compile(r"(?<![A-Za-z0-9_])(?:[A-Za-z][A-Za-z0-9+.-]{1,11}://|www\.)[^\s<>\"'`{}|\\^\[\]\x00-\x1f]{2,2000}")
_URL_SCHEMES = re.compile(r"(?:https?|ftps?|sftp|wss?|ssh|git|svn|s3|gs|ldaps?|rtsp|smb)://|www\.", re.I)
# A domain without a scheme: where the ending is no usual name of an attribute or a file (``os.name``, ``setup.py``).
_DOMAIN = re.compile(
    r"(?<![\w@./-])(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,4}"
    r"(?:com|org|net|edu|gov|mil|biz|(?:co|ac|org|gov)\.uk|(?:com|net|org)\.(?:au|br|cy|mx|tr|cn)|co\.(?:jp|nz|za|in|kr)"
    r"|de|fr|nl|eu|ch|at|be|se|dk|fi|cz|hu|gr|pt|ru|jp)(?![\w-]|\.\w|\()(?:/[^\s<>\"'`{}|\\^\[\]]{0,2000})?"
)


def urls_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of URLs of the usual schemes and of bare domains; punctuation behind them is not part of them."""
    if "://" in text or "www." in text or "WWW." in text:
        for match in _URL.finditer(text):
            if _URL_SCHEMES.match(match[0]):
                yield match.start(), match.start() + len(_trimmed(match[0]))
    for match in _DOMAIN.finditer(text):
        yield match.start(), match.start() + len(_trimmed(match[0]))


def _trimmed(url: str) -> str:
    url = url.rstrip(".,;:!?*_")
    return url if "(" in url else url.rstrip(").,;:!?")
