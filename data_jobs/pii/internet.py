"""IP addresses and URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_jobs.pii.form import lower

# -- addresses ---------------------------------------------------------------------------------------------------------
_IPV4 = re.compile(r"\d(?<![\w.-].)\d{0,2}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_HEX_AND_COLONS = re.compile(r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f]{1,4}:(?:[0-9a-f]{1,4}:|:[0-9a-f]{0,4}){1,8}[0-9a-f]{0,4}(?![\w:])", re.I)
# What tells an address from a version or a section number, to the left of it (in lower case) and to the right.
_VERSION_BEFORE = re.compile(
    r"(?:\bv(?:er)?\.?|\b(?:versions?|releases?|builds?|firmware|section|sect?\.|chapter|clause|paragraph|para\.?"
    r"|figure"
    r"|fig\.|tables?|appendix|annex|article|item|step|rule|requirement|abschnitt|kapitel|ziffer|§{1,2}|upgraded?"
    r"|updated?"
    r"|patch|driver|kernel|sdk|api|java|jdk|schema|oid)s?(?: (?:from|to|number|no\.?|is|was|of))?:?"
    r"|[=~<>!]=|\w/|[§#])\s{0,2}[(\"']?\Z"
)  # fmt: skip
_VERSION_CHARS = 28  # The longest of these: "requirements number:  (".
_ADDRESS_BEFORE = re.compile(
    r"\b(?:ip(?:v4)?|ips|addr(?:ess(?:es)?)?|adresses?|hosts?|hostname|remote|gateway|dns|resolvers?|nameservers?"
    r"|proxy|ping(?:ed|ing)?|ssh|telnet|connect(?:ed|ing|ions?)? (?:to|from|with)|logged in from|(?:requests?|traffic"
    r"|packets?|login|visit|attack|call)s? (?:from|to)|server at|subnet|bind|listen(?:s|ing)? on|nslookup|traceroute"
    r"|curl|whois|blocked?|banned|attacker)\b[^\n.;]{0,24}\Z"
)  # fmt: skip
_ADDRESS_BEHIND = re.compile(r":\d{2,5}\b|/(?:8|1\d|2\d|3[0-2])(?![\w.])| - - \[")
_CONTEXT_CHARS = 48


def ips_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of public IPv4 and IPv6 addresses; versions and section numbers that look like one are left alone."""
    lowered = lower(text)
    for match in _IPV4.finditer(text):
        octets = match[0].split(".")
        if any((o[0] == "0" and o != "0") or int(o) > 255 for o in octets):
            continue  # rather a version
        if _is_public_v4(*map(int, octets)) and _is_address(lowered, match.start(), match.end(), octets):
            yield match.span()
    for match in _IPV6.finditer(text) if _HEX_AND_COLONS.search(text) else ():
        if _is_public_v6(match[0]):
            yield match.span()


def _is_address(lowered: str, start: int, end: int, octets: list[str]) -> bool:
    """Whether four numbers with dots are an address: by their surroundings, or longer than versions are."""
    before = lowered[max(0, start - _CONTEXT_CHARS) : start]
    last = before.rstrip("(\"'").rstrip()[-1:]
    if (last.isalpha() or last in ".:=/§#") and _VERSION_BEFORE.search(before[-_VERSION_CHARS:]):
        return False
    if (
        _ADDRESS_BEHIND.match(lowered, end)
        or before.endswith("://")
        or (before[-1:] == "@" and _is_word(before[-2:-1]))
    ):
        return True
    clause = max(before.rfind(mark) for mark in "\n.;") + 1
    if _ADDRESS_BEFORE.search(before, clause):
        return True
    return sum(map(len, octets)) >= 8 and sum(int(o) >= 40 for o in octets) >= 2


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


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
    r"(?:com|org|net|edu|gov|mil|biz|(?:co|ac|org|gov)\.uk|(?:com|net|org)\.(?:au|br|cy|mx|tr|cn)|co\.(?:jp|nz|za|in"
    r"|kr)"
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
