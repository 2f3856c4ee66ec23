"""What could be a password or a key, and what is rather prose, a type, a name in code, a path or a placeholder."""

from __future__ import annotations

import itertools
import re

_PLACEHOLDER = re.compile(
    r"(?:your|my|the|some|a|new|old|user|test|example|sample|dummy|fake|default|root|admin|db)?[ _-]?"
    r"(?:pass(?:word|wd|phrase|code)?|pwd|pw|secret|token|key|api[ _-]?key|none|null|nil|undefined"
    r"|true|false|x{3,}|\*{3,}"
    r"|\.{3,}|…|hidden|redacted|masked|change[ _-]?(?:me|it)|replace[ _-]?me|str|string|bytes|value"
    r"|text|here|example|foo|bar"
    r"|foobar|todo|tbd|required|optional|empty|passwort|unknown|invalid|missing|bearer|basic|oauth\d?|enabled|disabled"
    r"|forgotten|encrypted|plain(?:text)?|hash(?:ed)?|hex|base64|boolean|integer|number|object|array|anonymous|yes|no)"
    r"s?\d{0,3}(?:[ _-]?(?:here|value|string|name|id|key))?[.!]?\Z", re.I,
)  # fmt: skip
# Words with digits that are types, algorithms and standards.
_TECHNICAL = re.compile(
    r"(?:u?int|float|bf|fp|utf|ucs|base|b|sha|md|blake|aes|des|rsa|dsa|ecdsa|ed|curve|x|oauth|openid"
    r"|hs|rs|es|ps|ipv|http"
    r"|h|v|ver|version|vp|mp|s|ec|k|tls|ssl|ssh|rfc|iso|pkcs|p|win|mac|amd|arm|i|id|py|python|php|es|web|bcrypt|scrypt"
    r"|pbkdf|argon|crc|hmac|md5|level|tier|type|test|example|var|arg|param|field|item|part|step|stage"
    r"|log|node|host|user"
    r"|client|server|token|key|secret|config|file|data|value|line|row|col|page|chapter|section|(?:n?var)?char|bit"
    r"|byte|size|len"
    r"|min|max|day|week|month|year|hour|sec|ms|mb|kb|gb|pt|px|em|bits?|bytes?"
    r"|chars?)\d{1,5}[a-z]{0,2}\Z|\d{1,5}[a-z]{0,5}\Z", re.I,
)  # fmt: skip
_CODE_OR_PATH = re.compile(r"[A-Za-z_]\w{0,40}(?:\.[A-Za-z_]\w{0,40}){1,5}|\d+(?:st|nd|rd|th)|[~./].*|\w+://.*")
ALGORITHM = re.compile(r"sha|hmac|pbkdf|bcrypt|argon|aes|rsa|oauth|utf|base64|ecdsa|ed25519|http", re.I)
_WORD = re.compile(r"[^\W\d_]+\Z")
_WORDED = re.compile(r"[A-Za-z]{3,12}(?:-[A-Za-z]{3,12}){1,4}-?\d{2,4}")
_PARTS = re.compile(r"[\W_]+")


def is_placeholder(value: str) -> bool:
    """Whether it stands for a value: `<password>`, `$TOKEN`, `xxxx`."""
    return bool(_PLACEHOLDER.match(value)) or value[:1] in "$%{<[(@&#" or len(set(value)) <= 2 or "..." in value


def is_prose(value: str) -> bool:
    """Whether a value is made of words, types and standards only: ``base64-encoded``, ``oauth2_token``, ``uint64``."""
    parts = [part for part in _PARTS.split(value) if part]
    return len(parts) != 1 and all(_WORD.match(p) or _TECHNICAL.match(p) for p in parts) and not is_unusual(value)


def is_unusual(value: str) -> bool:
    """Signs that stand in passwords and hardly in prose or names."""
    return bool(re.search(r"[!$%&^+~#?*=\\|](?=.)|@(?=\w{1,8}\Z)", value))


def is_name(value: str, label: str) -> bool:
    """Whether a quoted value is a phrase, a name, a path or a type rather than a secret."""
    if " " in value or re.match(r"[~/.]|\w+://|[A-Z][A-Z_]+\Z|[a-z]+(?:[A-Z][a-z]+)+\Z", value):
        return True
    if _TECHNICAL.match(value) or (is_prose(value) and not is_worded(value)):
        return True
    # One word: a name in most code, where a label of a few letters stands before it; else a password.
    return bool(_WORD.match(value)) and (len(value) < 8 or value[:1].isupper() or value.lower() in label[: -len(value)])


def is_mixed(value: str) -> bool:
    """Whether it has digits and letters and is no technical name."""
    return (
        any(c.isdigit() for c in value)
        and any(c.isalpha() for c in value)
        and not _TECHNICAL.match(value)
        and not is_prose(value)
        and not _CODE_OR_PATH.fullmatch(value)
    )


def is_worded(value: str) -> bool:
    """Words and a number, with hyphens: ``kite-hill-36``; of no algorithm."""
    return _WORDED.fullmatch(value) is not None and not ALGORITHM.search(value)


def is_password(value: str) -> bool:
    """After ``password:``: letters and digits mixed, or signs that only a password has."""
    if re.match(r"[~./]|\w+://|![a-z]+\Z", value) or re.search(r"::|->|\.\w+\.|[/\\]\w+[/\\]", value):
        return False
    return (
        is_mixed(value)
        or is_worded(value)
        or (len(value) >= 6 and is_unusual(value) and not re.search(r"\W{3}|==|\|\|", value))
    )


def is_key(value: str) -> bool:
    """After ``token:`` and the like, where a bare value is mostly a name: a long one without an order."""
    if len(value) < 6 or not is_mixed(value):
        return False
    return is_random(value)


def is_random(value: str) -> bool:
    """Letters and digits take turns at least three times: ``a8f5f167``, not ``model_v2`` or ``token1``."""
    turns = sum(a.isdigit() != b.isdigit() for a, b in itertools.pairwise(value) if a.isalnum() and b.isalnum())
    return turns >= 3


def is_strong(value: str) -> bool:
    """A password by its looks, wherever it stands: capitals, small letters and two digits, or digits and a sign, and
    neither an algorithm's name nor code."""
    if not is_mixed(value) or ALGORITHM.search(value) or re.search(r"[./\\:]\w+[./\\:]|::|->|==|\w+=\w", value):
        return False
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    cased = any(map(str.isupper, value)) and any(map(str.islower, value)) and "_" not in value and "." not in value
    signed = re.search(r"[!$%&*#?^+~@](?=.|\Z)", value) is not None and not re.match(r"[@#$%&*]|\w+\?\w+=", value)
    return letters >= 3 and ((digits >= 2 and cased) or (digits >= 2 and signed))
