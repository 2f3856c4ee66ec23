"""Keys of well-known services, JSON web tokens, private keys, passwords in assignments, connection strings and URLs.

What has a form of its own counts anywhere. What has none counts where a label says what it is and the value could not
be prose, a type, a name in code or a placeholder (``token: uint64``, ``password=secret``, ``user:password@host``).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator

from data_jobs.pii.form import lower
from data_jobs.pii.keys import keys_in
from data_jobs.pii.logins import logins_in
from data_jobs.pii.phrases import is_phrase, is_said, phrases_in
from data_jobs.pii.values import is_key, is_mixed, is_name, is_password, is_placeholder, is_prose

_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s\\]{0,20000}+)")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_USERINFO = re.compile(r"://([^\s/@:?#\"'<>]{0,60}:([^\s/\"'<>]{1,60}))@(?=[\w\[])")

# -- labelled values ---------------------------------------------------------------------------------------------------
_LABELS_OF_PEOPLE = (
    r"p(?:ass|@ss|a\$\$)(?:w[o0]rd|wd|phrase|code)(?:\(s\))?|pass word|pasword|passowrd|passw(?=:)"
    r"|psw|p/w|pwd|\bpw\b|pass-?wort|/ ?pass|mdp(?<!\wmdp)\b"
    r"|pass(?:(?<!\wpass)(?=[\"']? ?[:=])|(?:(?<=\bmy pass)|(?<=\bour pass)|(?<=\bthe pass))(?= ))"
    r"|(?:db|smtp|mail|ftp|ssh|ldap|mysql|pg|redis|admin|root|user)_pass|passwort|kennwort"
    r"|mot de passe|contraseña|contrasena|clave(?<!\wclave)(?<!palabra clave)\b|senha|palavra-passe|parola(?:s[ıi])?"
    r"|wachtwoord|lösenord(?:et)?|adgangskode(?:n)?|passord(?:et)?|salasana(?:ni)?|hasło|heslo|jelszó|şifre(?:si)?"
    r"|пароль"
    r"|密码|密碼|口令|パスワード|비밀번호|암호"
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
    r"[\"'*]{0,3}(?: (?:for|of|on|del?|du|für|vom|zum|van|voor|till|do|til|от|для)(?: [^\W\d_]{1,10}){1,3}"
    r"| ?\([^()\n]{1,16}\))?"
    r"(?: {0,6}(?::=|=>|-{1,2}>|>>|→|[:=]) {0,6}(?:</?[a-z]{1,6}> ?)?| -{1,2} "
    r"|(?: (?:is|ist|lautet|est|es|è|é|to|war|was|er|är|jest|c['’]est)|['’]s):? (?:now |still |(?:set |changed )?to )?"
    r"| (?:changed|set|reset|updated|used) (?:to be|to|from) | {0,2}(?:は|是|为|는|은) {0,2}"
    r"|\s{0,3}</[a-z]{1,6}>\s{0,3}(?:<[a-z]{1,6}>\s{0,3}){1,2}"  # the next cell of a table in HTML
    # the next cell of a table; a line of its own
    r"| {0,6}\| {0,6}(?=[^\s|]{5,60} {0,60}(?:\||\n|\Z))| {0,2}: {0,2}\n {0,8}(?=\S{5,60} {0,4}(?:\n|\Z)))"
)
_ASSIGNED = re.compile(
    rf"(?:({_LABELS_OF_PEOPLE})|(?<!public)(?<!public[ _-])(?<!publickey)(?:{_KEY_LABEL})){_SEPARATOR}"
    r"(?:[bru]?([\"'])([^\"'\n]{4,200})\2|([^\s\"'`,;<>()\[\]{}]{5,400}+)(?![(\[]))"
)  # looked for in lower-cased text: without a flag for case a search skips what none of its words begins with
_ASSIGNED_WORDS = (
    "pass", "pasw", "psw", "p/w", "p@ss", "pa$$", "pwd", "pw", " pat ", "pin", "seed ", "recovery ", "mnemonic",
    "secret",
    "key", "token", "auth", "kennwort", "contrase", "senha", "parola", "wachtwoord",
    "lösenord", "clave", "mdp",
    "adgangskode", "salasana", "hasło", "heslo", "jelszó", "şifre",
    "пароль", "密", "口令", "パスワード", "비밀번호", "암호",
    "รหัสผ่าน", "mật khẩu", "sandi", "المرور", "סיסמה", "κωδικός", "secrète",
)  # fmt: skip
# Where anything that is said is meant: command lines, connection strings, elements, .netrc. In lower-cased text.
_SAID = re.compile(
    r"--(?<![\w-]--)(?:password|passwd|passphrase|pass|token|api-?key|secret)(?:="
    r"| )([\"']?)([^\s\"'$<{\[-][^\s\"']{3,200})\1"
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
_TRAILING = ".,;:!?…*_|。、，！？)"


def secrets_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of private keys, keys of known services, and passwords: in URLs, headers, command lines, assignments."""
    if "-----BEGIN" in text:
        yield from _private_keys(text)
    yield from keys_in(text)
    if "://" in text:
        for match in _USERINFO.finditer(text):
            if not is_placeholder(match[2]) and match[1] != f"{match[2]}:{match[2]}":
                yield match.span(1)
    lowered = lower(text)
    if any(word in lowered for word in _ASSIGNED_WORDS) or any(word in lowered for word in _COMMANDS):
        yield from _labelled(text, lowered)
    yield from logins_in(text, lowered)


def _labelled(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    for match in _SAID.finditer(lowered):
        start, end = match.span(match.lastindex or 0)
        if match.lastindex == _OF_CURL and not _is_of_curl(lowered, match.start() + 1):
            continue
        value = text[start:end]
        if not is_placeholder(value) and (is_phrase(value) if " " in value else not is_prose(value)):
            yield start, end
    yield from phrases_in(text, lowered)
    for match in _ASSIGNED.finditer(lowered):
        if match[3]:
            start, end = match.span(3)
            value = text[start:end]
            if " " in value and match[1]:
                said = match[1] == "passphrase" and is_said(value.split())
                if said or is_phrase(value, in_quotes=True):
                    yield start, end
            elif not is_placeholder(value) and not is_name(value, match[0]):
                yield start, end
        elif match[4]:
            start, end = match.span(4)
            end = start + len(text[start:end].rstrip(_TRAILING))
            said = match[0].endswith(lowered[match.start(4) - 1 : match.end(4)]) and lowered[start - 1].isspace()
            in_prose = said and not re.search(r"[:=]", match[0][: match.start(4) - match.start()])
            value = text[start:end]
            if not is_placeholder(value) and (
                is_password(value) if match[1] and not in_prose else is_mixed(value) if match[1] else is_key(value)
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
