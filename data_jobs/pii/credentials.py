"""Keys of well-known services, JSON web tokens, private keys, passwords in assignments and in URLs.

A placeholder (``password=secret``, ``user:password@host``) is no credential, nor is a name in code.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator

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
    r"(?:([\"'])([^\"'\n]{4,200})\1|([^\s\"'`,;<>()\[\]{}]{6,200}+)(?![(\[]))"
)  # looked for in lower-cased text: without a flag for case a search skips what none of its words begins with
_ASSIGNED_WORDS = ("pass", "pwd", "secret", "key", "token")
_LONG_RUN = re.compile(r"[\w-]{15}")  # No key is shorter than this.
_PLACEHOLDER = re.compile(
    r"(?:your|my|the|some|new|old|user|test|example|sample|dummy|fake|default)?[ _-]?"
    r"(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|key|api[ _-]?key|none|null|true|false|x{3,}|\*{3,}|\.{3,}|hidden|"
    r"redacted|change[ _-]?me|str|string|value|text|here|example)s?(?:[ _-]?(?:here|value|string))?\Z", re.I,
)  # fmt: skip


def secrets_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of private keys, keys of known services, and passwords: in URLs, headers and assignments."""
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
    if len(lowered) != len(text):
        lowered = "".join(low if len(low := c.lower()) == 1 else c for c in text)
    for match in _ASSIGNED.finditer(lowered) if any(word in lowered for word in _ASSIGNED_WORDS) else ():
        quoted, bare = (text[slice(*match.span(group))] if match[group] else "" for group in (2, 3))
        if quoted and not _is_placeholder(quoted) and " " not in quoted:
            yield match.span(2)
        elif bare and not _is_placeholder(bare) and _looks_random(bare):
            yield match.span(3)


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
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
