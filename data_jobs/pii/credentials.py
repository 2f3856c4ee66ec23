"""Keys of well-known services, JSON web tokens, private keys, passwords in assignments, connection strings and URLs.

What has a form of its own counts anywhere. What has none counts where a label says what it is and the value could not
be prose, a type, a name in code or a placeholder (``token: uint64``, ``password=secret``, ``user:password@host``).
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator

from data_jobs.pii.form import lower
from data_jobs.pii.phrases import is_phrase, phrases_in

_KEYS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[0-9A-Z]{16}(?![0-9A-Za-z])"  # AWS access key ids
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}"  # GitHub
    r"|gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|ffct)-[\w.-]{20,128}"  # GitLab
    r"|xox[abceoprs]-[\w-]{10,255}|xapp-\d-[\w-]{20,255}"  # Slack
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/=]{24,128}"  # Stripe
    r"|AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{20,512}|hf_[A-Za-z0-9]{30,64}"  # Google, Hugging Face
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}|SG\.[\w-]{16,32}\.[\w-]{16,64}|rubygems_[0-9a-f]{48}"
    r"|sk-(?=[A-Za-z_-]{0,60}\d)[\w-]{20,255}"  # OpenAI, Anthropic and those that copy them
    r"|AGE-SECRET-KEY-1[0-9A-Z]{58}|hv[sbr]\.[\w-]{20,255}|s\.(?=[A-Za-z]{0,22}\d)[A-Za-z0-9]{24}(?![\w.(])|dop_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|dckr_[po]at_[\w-]{20,64}"
    r"|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|sq0(?:atp|csp|idp)-[\w-]{22,64}|gl(?:sa|c)_[\w+/=]{32,255}"
    r"|PMAK-[0-9a-f-]{30,64}|plinth_[0-9a-f]{10}_[\w-]{43}"  # the last one: keys of this very service
    r"|NRAK-[0-9A-Z]{27}|sntry[su]_[\w+/=-]{40,255}|lin_api_[A-Za-z0-9]{40}|secret_[A-Za-z0-9]{43}"
    r"|ntn_[A-Za-z0-9]{40,64}"
    r"|ATATT3[\w=-]{40,255}|EAACEdEose0cBA[0-9A-Za-z]+|(?:AC|SK)[0-9a-f]{32}(?![0-9A-Za-z])|key-[0-9a-f]{32}"
    r"|xai-[A-Za-z0-9]{40,128}|nvapi-[\w-]{40,128}|sb_secret_[\w-]{20,64}|sbp_[0-9a-f]{40}|tskey-[a-z]{3,12}-[\w-]{20,80}"
    r"|vercel_blob_rw_[A-Za-z0-9]{8,32}_[A-Za-z0-9]{20,64}|fig[du]_[\w-]{36,64}|ops_eyJ[\w-]{20,4096}|fo1_[\w-]{40,64}"
    r"|dp\.(?:st|pt|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}|do[or]_v1_[0-9a-f]{64}|pul-[0-9a-f]{40}"
    r"|tk_(?=[A-Za-z]{0,28}\d)[A-Za-z0-9]{29}(?![A-Za-z0-9])|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}|phx_[A-Za-z0-9]{40,64}"
    r"|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}|CFPAT-[\w-]{43}|LTAI[A-Za-z0-9]{16,24}(?![A-Za-z0-9])|sha256~[\w-]{43}"
    r"|[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}"
    r"|[MNO](?=[A-Za-z_-]{0,26}\d)[\w-]{22,27}\.[\w-]{6}\.[\w-]{27,45}"  # Discord
    r"|[\w~.-]{3}[78]Q~[\w~.-]{31,34}"  # Azure
    r"|\d{8,10}:AA[\w-]{33}|tfp_[\w-]{40,64}|r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{40,64}|pplx-[A-Za-z0-9]{40,64}"
    r"|eyJ[\w-]{8,4096}(?:\n[\w-]{8,4096})?\.[\w-]{8,4096}(?:\.[\w-]{0,4096})?"  # JSON web tokens
    r")"
)
_WEBHOOK = re.compile(
    r"hooks\.slack\.com/(?:services|workflows|triggers)/([\w/-]{20,200})"
    r"|(?:discord|discordapp)\.com/api/webhooks/\d{5,20}/([\w-]{30,128})"
    r"|api\.telegram\.org/(?:file/)?bot(\d{6,12}:[\w-]{30,64})"
    r"|\.webhook\.office\.com/webhookb2/([\w@/-]{40,300})|hooks\.zapier\.com/hooks/catch/([\w/]{8,64})"
)
_TWILIO = re.compile(r"AC[0-9a-f]{32}(?:[\"'],? ?[\"']|:)([0-9a-f]{32})(?![0-9A-Za-z])")  # an account and its token
_SIGNATURE = re.compile(r"[?&](?:sig|X-Amz-Signature|X-Goog-Signature|access_token)=([\w%+/.~-]{16,1024}={0,2})")
_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s\\]{0,20000}+)")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_USERINFO = re.compile(r"://([^\s/@:?#\"'<>]{0,60}:([^\s/\"'<>]{1,60}))@(?=[\w\[])")
_BEARER = re.compile(r"\b(?:Bearer|Basic|Token) ((?=[A-Za-z+/_=-]{0,40}[0-9])[\w.~+/=-]{16,4096})")

# -- labelled values ---------------------------------------------------------------------------------------------------
_LABELS_OF_PEOPLE = (
    r"p(?:ass|@ss|a\$\$)(?:w[o0]rd|wd|phrase|code)|pwd|\bpw\b|pass-?wort|/ ?pass"
    r"|(?:db|smtp|mail|ftp|ssh|ldap|mysql|pg|redis|admin|root|user)_pass|passwort|kennwort"
    r"|mot de passe|contraseña|contrasena|senha|palavra-passe|parola"
    r"|wachtwoord|lösenord|adgangskode|passord|salasana|hasło|heslo|jelszó|şifre|пароль|密码|密碼|口令|パスワード|비밀번호|암호"
    r"|รหัสผ่าน|mật khẩu|kata sandi|كلمة المرور|סיסמה|κωδικός"
)
_KEY_LABEL = (
    r"secret(?:[ _-]?(?:access[ _-]?)?key)?|api[ _-]?(?:key|secret|token)|(?:access|auth|refresh|bearer"
    r"|session|bot|deploy)"
    r"[ _-]?(?:token|key)|(?:client|app|consumer|shared|webhook)[ _-]?secret|(?:private|account|signing|encryption"
    r"|sharedaccess|storage|master|license|subscription)[_-]?key|clé secrète|token|auth|apikey|\bpat\b"
)
# "the password for the guest wifi is", "secret (base64):", "password -> ", "<b>Password:</b>"
_SEPARATOR = (
    r"[\"'*]{0,3}(?: (?:for|of|on|del?|du|für|vom|zum|van|voor|till)(?: [^\W\d_]{1,10}){1,2}| \([^()\n]{1,16}\))?"
    r"(?: {0,6}(?::=|=>|-{1,2}>|→|[:=]) {0,6}(?:</?[a-z]{1,6}> ?)?"
    r"| (?:is|ist|lautet|est|es|è|é|to|war|was):? (?:now |set to )?| {0,2}(?:は|是|为) {0,2}"
    # the next cell of a table; a line of its own
    r"| {0,6}\| {0,6}(?=[^\s|]{5,60} {0,60}(?:\||\n|\Z))| {0,2}: {0,2}\n {0,8}(?=\S{5,60} {0,4}(?:\n|\Z)))"
)
_ASSIGNED = re.compile(
    rf"(?:({_LABELS_OF_PEOPLE})|(?<!public)(?<!public[ _-])(?<!publickey)(?:{_KEY_LABEL})){_SEPARATOR}"
    r"(?:[bru]?([\"'])([^\"'\n]{4,200})\2|([^\s\"'`,;<>()\[\]{}]{5,400}+)(?![(\[]))"
)  # looked for in lower-cased text: without a flag for case a search skips what none of its words begins with
_ASSIGNED_WORDS = (
    "pass", "p@ss", "pa$$", "pwd", "pw", " pat ", "pin", "seed ", "recovery ", "mnemonic", "secret",
    "key", "token", "auth", "kennwort", "contrase", "senha", "parola", "wachtwoord",
    "lösenord",
    "adgangskode", "salasana", "hasło", "heslo", "jelszó", "şifre",
    "пароль", "密", "口令", "パスワード", "비밀번호", "암호",
    "รหัสผ่าน", "mật khẩu", "sandi", "المرور", "סיסמה", "κωδικός", "secrète",
)  # fmt: skip
# Where anything that is said is meant: command lines, connection strings, elements, .netrc. In lower-cased text.
_SAID = re.compile(
    r"--(?<![\w-]--)(?:password|passwd|pass|token|api-?key|secret)(?:=| )([\"']?)([^\s\"'$<{\[-][^\s\"']{3,200})\1"
    r"|[;\"']\s?(?:password|pwd)\s?=\s?()([^;\"'\s$<{(][^;\"'\n]{2,100})(?=[;\"'])"
    r"|<(?:password|passwd|secret|token|apikey|api_key|privatekey)>()([^<>\s$]{4,200})</"
    r"|machine (?<!\wmachine )\S{1,100}\s{1,100}login \S{1,100}\s{1,100}password ()(\S{3,100})"
    r"|sshpass -p ?([\"']?)([^\s\"'$<{]{4,100})"
    r"|(?:docker|podman|registry|oras|skopeo|az|helm) login (?:\S{1,60} ){0,6}-p"
    r" ([\"']?)([^\s\"'$<{-][^\s\"'$<{]{3,100})"
    r"|mysql(?:dump|admin)? (?:\S{1,60} ){0,6}-p([\"']?)(?!\d+\b)([^\s\"'$<{]{4,100})"
    r"|(?:key|name)=[\"'][\w.:-]{0,40}(?:password|passwd|secret|api-?key|token)[\"'] value=([\"'])([^\s\"'$<{]{4,200})"
    r"|secret_?access_?key[\"']?\s{0,3}[:=]\s{0,3}([\"']?)([a-z0-9/+]{40})(?![a-z0-9/+=])"
    r"|\s(?:-u|--user) ([\"']?)[\w.@-]{1,60}:([^\s\"'$<{]{4,100})"
)
_COMMANDS = ("curl ", "mysql", " login ")
_OF_CURL = 20  # the last group above: of an option that other commands have too
_CURL, _CURL_CHARS = re.compile(r"curl (?<!\wcurl )"), 206  # before its option, on the same line
_LONG_RUN = re.compile(r"[\w-]{15}")  # No key is shorter than this.
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
    r"|client|server|token|key|secret|config|file|data|value|line|row|col|page|chapter|section|char|bit|byte|size|len"
    r"|min|max|day|week|month|year|hour|sec|ms|mb|kb|gb|pt|px|em|bits?|bytes?"
    r"|chars?)\d{1,5}[a-z]{0,2}\Z|\d{1,5}[a-z]{0,5}\Z", re.I,
)  # fmt: skip
_CODE_OR_PATH = re.compile(r"[A-Za-z_]\w{0,40}(?:\.[A-Za-z_]\w{0,40}){1,5}|\d+(?:st|nd|rd|th)|[~./].*|\w+://.*")
_WORD = re.compile(r"[^\W\d_]+\Z")
_PARTS = re.compile(r"[\W_]+")
_TRAILING = ".,;:!?…*_|。、，！？)"


def secrets_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of private keys, keys of known services, and passwords: in URLs, headers, command lines, assignments."""
    if "-----BEGIN" in text:
        yield from _private_keys(text)
    if _LONG_RUN.search(text):
        yield from (match.span() for match in _KEYS.finditer(text))
    if "://" in text:
        for match in _USERINFO.finditer(text):
            if not _is_placeholder(match[2]) and match[1] != f"{match[2]}:{match[2]}":
                yield match.span(1)
    if "hook" in text or "api.telegram" in text:
        yield from (match.span(match.lastindex or 0) for match in _WEBHOOK.finditer(text))
    if "AC" in text:
        yield from (match.span(1) for match in _TWILIO.finditer(text))
    if "=" in text and ("?" in text or "&" in text):
        yield from (match.span(1) for match in _SIGNATURE.finditer(text) if _is_random(match[1]))
    if "Bearer " in text or "Basic " in text or "Token " in text:
        yield from (match.span(1) for match in _BEARER.finditer(text))
    lowered = lower(text)
    if any(word in lowered for word in _ASSIGNED_WORDS) or any(word in lowered for word in _COMMANDS):
        yield from _labelled(text, lowered)


def _labelled(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    for match in _SAID.finditer(lowered):
        start, end = match.span(match.lastindex or 0)
        if match.lastindex == _OF_CURL and not _is_of_curl(lowered, match.start() + 1):
            continue
        value = text[start:end]
        if not _is_placeholder(value) and (is_phrase(value) if " " in value else not _is_prose(value)):
            yield start, end
    yield from phrases_in(text, lowered)
    for match in _ASSIGNED.finditer(lowered):
        if match[3]:
            start, end = match.span(3)
            value = text[start:end]
            if " " in value and match[1]:
                if is_phrase(value, in_quotes=True):
                    yield start, end
            elif not _is_placeholder(value) and not _is_name(value, match[0]):
                yield start, end
        elif match[4]:
            start, end = match.span(4)
            end = start + len(text[start:end].rstrip(_TRAILING))
            said = match[0].endswith(lowered[match.start(4) - 1 : match.end(4)]) and lowered[start - 1].isspace()
            in_prose = said and not re.search(r"[:=]", match[0][: match.start(4) - match.start()])
            value = text[start:end]
            if not _is_placeholder(value) and (
                _is_password(value) if match[1] and not in_prose else _is_mixed(value) if match[1] else _is_key(value)
            ):
                yield start, end


def _is_of_curl(lowered: str, start: int) -> bool:
    low = max(0, start - _CURL_CHARS)
    return _CURL.search(lowered, max(low, lowered.rfind("\n", low, start)), start) is not None


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    """From BEGIN to END, or, where the END is missing (a cut, a stream), over all that looks like the key."""
    ends = [match.end() for match in _KEY_END.finditer(text)]
    for match in _KEY_BEGIN.finditer(text):
        place = bisect.bisect_left(ends, match.start())
        end = ends[place] if place < len(ends) and ends[place] - match.start() < 20_000 else match.end()
        yield match.start(), end


def _is_placeholder(value: str) -> bool:
    return bool(_PLACEHOLDER.match(value)) or value[:1] in "$%{<[(@&#" or len(set(value)) <= 2 or "..." in value


def _is_prose(value: str) -> bool:
    """Whether a value is made of words, types and standards only: ``base64-encoded``, ``oauth2_token``, ``uint64``."""
    parts = [part for part in _PARTS.split(value) if part]
    return len(parts) != 1 and all(_WORD.match(p) or _TECHNICAL.match(p) for p in parts) and not _unusual(value)


def _unusual(value: str) -> bool:
    """Signs that stand in passwords and hardly in prose or names."""
    return bool(re.search(r"[!$%&^+~#?*=\\|](?=.)|@(?=\w{1,8}\Z)", value))


def _is_name(value: str, label: str) -> bool:
    """Whether a quoted value is a phrase, a name, a path or a type rather than a secret."""
    if " " in value or re.match(r"[~/.]|\w+://|[A-Z][A-Z_]+\Z|[a-z]+(?:[A-Z][a-z]+)+\Z", value):
        return True
    if _TECHNICAL.match(value) or _is_prose(value):
        return True
    # One word: a name in most code, where a label of a few letters stands before it; else a password.
    return bool(_WORD.match(value)) and (len(value) < 8 or value[:1].isupper() or value.lower() in label[: -len(value)])


def _is_mixed(value: str) -> bool:
    return (
        any(c.isdigit() for c in value)
        and any(c.isalpha() for c in value)
        and not _TECHNICAL.match(value)
        and not _is_prose(value)
        and not re.fullmatch(
            r"[A-Za-z_]\w{0,40}(?:\.[A-Za-z_]\w{0,40}){1,5}|\d+(?:st|nd|rd|th)|[~./].*|\w+://.*", value
        )
    )


def _is_password(value: str) -> bool:
    """After ``password:``: letters and digits mixed, or signs that only a password has."""
    if re.match(r"[~./]|\w+://|![a-z]+\Z", value) or re.search(r"::|->|\.\w+\.|[/\\]\w+[/\\]", value):
        return False
    return _is_mixed(value) or (len(value) >= 6 and _unusual(value) and not re.search(r"\W{3}|==|\|\|", value))


def _is_key(value: str) -> bool:
    """After ``token:`` and the like, where a bare value is mostly a name: a long one without an order."""
    if len(value) < 6 or not _is_mixed(value):
        return False
    return _is_random(value)


def _is_random(value: str) -> bool:
    """Letters and digits take turns at least three times: ``a8f5f167``, not ``model_v2`` or ``token1``."""
    turns = sum(a.isdigit() != b.isdigit() for a, b in itertools.pairwise(value) if a.isalnum() and b.isalnum())
    return turns >= 3
