"""Credentials where no sign stands between a label and its value: said in a sentence, a login, a command, as a code.

"log in as shop with password ...", "creds: shop / ...", ``redis-cli -a ...``, "the door code is ...". A value must look
like a password or a key by itself here, since prose stands in the same places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_jobs.pii.phrases import is_phrase
from data_jobs.pii.values import is_key, is_mixed, is_placeholder, is_prose, is_strong, is_worded

# -- behind a label and a blank ----------------------------------------------------------------------------------------
_LABEL = (
    r"(?:password|passwort|passwd|pasword|pass word|psw|p/w|passcode|passphrase|kennwort|pwd|pw|pass|mot de passe"
    r"|contraseña|senha|clave"
    r"|wachtwoord|lösenord|adgangskode|passord|hasło|parolas[ıi]|şifresi|parola|пароль)"
)
_SAID = re.compile(
    # "my password? it was ..."
    rf"(?<!\w){_LABEL}[?.!,;]{{0,2}} (?:it|that|which) (?:is|was) ([^\s\"'`,;<>()]{{6,64}})"
    # "changed from this to that"
    rf"|(?<!\w){_LABEL} (?:\w{{1,10}} ){{0,2}}from \S{{4,40}} to ([^\s\"'`,;<>()]{{6,64}})"
    rf"|(?<!\w){_LABEL}(?:[:=]? ?[\"'(`]{{0,2}}(?<=[ \"'(`])"
    rf"|:?[ \t]{{0,3}}\n[ \t]{{0,4}})([^\s\"'`,;<>()\[\]{{}}]{{6,64}})"
    # "X is my password", "use X as the password", "is X a good password?"
    r"|(?<!\S)[\"'`]?([^\s\"'`<>(),;]{6,48})[\"'`]? (?:(?:is|was|as|=|<-{1,2})(?: that'?s)?"
    rf" (?:the|my|our|your|his|her) (?:[\w-]{{1,12}} ){{0,2}}{_LABEL}\b"
    r"|a (?:good|strong|safe|secure|bad|weak|valid|decent|better) password)"
)
# Logins: user and password beside each other.
_LOGIN = re.compile(
    r"(?<!\w)(?:log-?ins?|sign-?in|creds?|credentials|account|zugangsdaten|anmeldedaten|identifiants?|credenciales"
    r"|credenziali|inlog(?:gegevens)?|dostęp|доступ|user(?:name)? ?/ ?pass(?:word|wd)?)"
    r"(?: (?:for|to|of) (?:[^\W\d_]{1,12} ){0,2}[^\W\d_]{1,12})?(?: (?:is|are|sind|lauten|son|sono|sont))?[ :=]{1,3}"
    r"[\w.@+-]{1,40} ?[/:|] ?([^\s\"'`,;<>]{6,64})"
    r"|(?<!\S)[\w.@+-]{1,40} ?[/:] ?([^\s\"'`,;<>/:]{6,64}) (?:is|are|as|was) (?:the|my|our|your) (?:log-?in|creds"
    r"|credentials)"
    r"|log(?:ged|ging)?[ -]?(?:in|on) (?:with|as|using) \S{1,40} (?:and|/|with) ([^\s\"'`,;<>]{6,64})"
)
# A phrase in quotation marks right behind the label.
_QUOTED = re.compile(rf"(?<!\w){_LABEL} ([\"'])([^\"'\n<]{{6,64}})\1")
_WIFI = re.compile(
    r"(?<!\w)(?:ssid|wlan|wi-?fi|wpa[23]?|hotspot)[^\n.=]{0,32}?(?:key|schlüssel|clé|chiave"
    r"|llave|sleutel)"
    r"(?:\b|(?<=l))(?: is| ist| est| es| è)?[ :=]{1,3}([^\s\"'`,;<>()]{8,64})"
)
# Calls and statements that take a user and a password.
_CALLED = re.compile(
    r"(?:BasicAuth|auth ?= ?|\.login|\.authenticate|\.connect)"
    r"\([\"'][^\"'\n]{1,60}[\"'], ?[\"']([^\"'\s$<{]{4,64})[\"']"
    r"|(?:(?i:password|passwd|pwd|secret|_pass|api_?key|token))[\"'], ?[\"']([^\"'\s$<{]{4,64})[\"']"
    r"|(?i:identified by|with password|(?:and|with) pass(?:word)?) [\"']([^\"'\s$<{]{4,64})[\"']"
)
# Keys: longer, and without an order.
_KEY = re.compile(
    r"(?<!public )(?:api[ _-]?(?:key|secret|token)|(?:access|auth|refresh|bearer|session|bot|deploy|registration|app"
    r"|private|api|user|live) ?(?:token|key|password)|(?:signing|client|webhook|shared|totp|2fa|app) secret"
    r"|(?:aws )?secret(?: access)? key|verification token"
    r"|instrumentationkey|secret_?id"
    r"|(?:encryption|signing|master|preshared|account|license) ?key|my (?:key|token|secret)|unseal(?: key(?: \d)?)?"
    r"|authtoken|appid(?==)"
    r"|(?:primary|secondary|storage|account|access) key|(?<=the )(?:key|token|secret)|twilio token)[\"'*]{0,2}"
    r"(?: (?:for|of|to) (?:\w{1,12} ){0,4}\w{1,12}(?=:| is| was))?(?: {0,3}[:=] {0,3}| (?:is|was) "
    r"| )[\"'`(]{0,2}([\w+/.=~-]{16,512})(?![\w(])"
)
# -- command lines and connection strings ------------------------------------------------------------------------------
_V = r"([\"']?)([^\s\"'$<{%-][^\s\"'$<{|]{3,64})"
_COMMANDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (word, re.compile(pattern))
    for word, pattern in (
        ("redis-cli", rf"redis-cli (?:\S{{1,60}}+ ){{0,6}}-a {_V}"),
        ("sqlcmd", rf"sqlcmd (?:\S{{1,60}}+ ){{0,6}}-P ?{_V}"),
        ("sqlplus", r"sqlplus (?:-\w{1,6} ){0,3}()\w{1,30}/([^\s@/\"'$<{]{4,64})"),
        (":thin:", r"jdbc:oracle:thin:()\w{1,30}/([^\s@/\"'$<{]{4,64})@"),
        ("zip ", rf"\bzip (?:\S{{1,60}}+ ){{0,4}}-P ?{_V}"),
        ("7z", rf"\b7za? [a-z] (?:\S{{1,60}}+ ){{0,4}}-p{_V}"),
        ("ldap", rf"ldap[a-z]{{3,8}} (?:\S{{1,60}}+ ){{0,8}}-w {_V}"),
        ("openssl ", rf"openssl (?:\S{{1,60}}+ ){{0,8}}-(?:k {_V}|pass(?:in|out)? pass:{_V})"),
        ("smbclient ", r"smbclient (?:\S{1,60}+ ){0,4}-U ()[\w.\\-]{1,40}%([^\s\"'$<{]{4,64})"),
        ("net use ", rf"(?i:net use \S{{1,4}} \S{{1,60}} {_V} /user:)"),
        ("http", rf"\bhttps? (?:\S{{1,60}}+ ){{0,3}}(?:-a|--auth)[ =][\w.@-]{{1,40}}:{_V}"),
        ("curl ", rf"curl (?:\S{{1,60}}+ ){{0,6}}-u[\w.@-]{{1,40}}:(?=\S{{6}}){_V}"),
        (":5432:", r":5432:()[\w*]{1,32}:[\w.*-]{1,32}:([^\s\"'$<{]{4,64})"),
        ("password", r"type=[\"']?password[\"']?()[^<>\n]{0,80}? value=[\"']([^\"'\s$<{]{4,64})"),
        ("rabbitmqctl", rf"rabbitmqctl (?:add_user|change_password) [\w.@-]{{1,40}} {_V}"),
        ("htpasswd", rf"htpasswd (?:-\w{{1,8}} ){{0,3}}-?\w{{0,8}}b\w{{0,4}} (?:\S{{1,60}}+ )?[\w.@-]{{1,40}} {_V}"),
        ("chpasswd", r"echo [\"']?()[\w.@-]{1,40}:([^\s\"'$<{|]{4,48})[\"']? ?\| ?(?:sudo )?chpasswd"),
        (
            "login ",
            r"\b(?:wandb|heroku|vercel|netlify|railway|fly|npm|hf"
            r"|huggingface-cli) login (?:--token )?()([\w-]{20,128})",
        ),
        ("-stdin", r"echo (?:-n )?([\"']?)([^\s\"'$<{`-][^\s\"'$<{`|]{3,48})\1 ?\| ?[^\n|]{1,60}--password-stdin"),
        ("password=", r"\buser(?:name|id)?=\S{1,40} ()password=([^\s\"'$<{;&]{4,64})(?= \w{2,12}=| ?(?:\n|\Z))"),
    )
)
# -- codes -------------------------------------------------------------------------------------------------------------
_OF = r"(?: (?:of|for|to|von|vom|der|für|zum|zur|de|del|du|di|van) (?:[^\W\d_]{1,12} ){0,2}[^\W\d_]{1,12})?"
_IS = r"(?: is| was| lautet| ist| est| es| è|:| =|=){1,2} ?"
_CODE = re.compile(
    r"(?<!\w)(?:(?:pin|code pin|código pin)(?: code| number| nummer|-code|code)?"
    r"|(?:door|gate|alarm|entry|access|unlock|lock|safe|security|verification|confirmation|login|one-time|sms"
    r"|2fa) ?code"
    r"|(?:tür|zugangs|bestätigungs|alarm|sicherheits)code|code (?:de vérification|d'accès|de la porte)|passcode|otp"
    r"|código de (?:verificación|acceso))"
    rf"{_OF}{_IS}(\d{{4,8}})(?![\w%-]|[.,]\d)"
    r"|(?<!\w)code (?:for|to|of) (?:the |my |our )?(?:[a-z]{1,10} ){0,2}(?:door|gate|safe|lock|alarm|house|garage"
    r"|building|office"
    rf"|flat|entrance|card|phone|sim|bike|locker){_IS}(\d{{4,8}})(?![\w%-]|[.,]\d)"
    rf"|(?<![\w-]){_LABEL}(?: is|:| =|=) ?[\"']?(\d{{4,12}})(?=[\"']?(?:[.,;!?)](?!\d)|\s*(?:\n|\Z)))"
    rf"|(?<!\w)(?:(?:your|my|our) code|puk(?: code)?){_IS}(\d{{4,8}})(?![\w%-]|[.,]\d)"
    r"|(?<!\w)(?:passcode|(?:door|gate|alarm) ?code|(?:tür|alarm)code|(?:my|meine|mon|mi|il mio) (?:pin"
    r"|code pin)) (\d{4,8})(?![\w%-]|[.,]\d)"
    r"|(?<![\w.,-])(\d{4,8}) (?:is|as|ist|als|est) (?:(?:my|the|our|his|her|a|meine|mon) )?(?:[a-z]{1,8} )?(?:pin"
    r"|passcode)\b"
)  # fmt: skip
_CODES = re.compile(
    r"(?:backup|recovery|scratch|rescue|emergency|2fa) codes?(?: are| is)?[: \n]{1,3}"
    r"((?=[a-z-]{0,10}\d)[0-9a-z]{4,10}(?:-[0-9a-z]{4,10}){0,3}"
    r"(?:[ ,\n]{1,2}(?=[a-z-]{0,10}\d)[0-9a-z]{4,10}(?:-[0-9a-z]{4,10}){0,3}){0,15})(?![\w-])"
)
_COMBINATION = re.compile(
    r"combination(?: (?:of|to|for|on) (?:the |my |our )?(?:[a-z]{1,10} ){0,1}[a-z]{1,10})?"
    r"(?: is|:) ?(\d{1,2}(?:[ -]{1,3}\d{1,2}){2,3})(?![\w-])"
)
# Tables of Markdown: a head with such a word, the line below it, and rows.
_HEAD = re.compile(
    rf"(?m:^)\|?(?:[^|\n]{{0,60}}\|){{0,8}}? {{0,4}}[*`]{{0,2}}(?P<label>{_LABEL})[*`]{{0,2}}"
    r" {0,20}(?:\|[^\n]{0,400})?\n"
    r"[ :|-]{3,400}\n"
)
_ROW = re.compile(r"[^\n]{0,400}\|[^\n]{0,400}(?:\n|\Z)")
_CELL = re.compile(r"\|?([^|\n]{0,200})(?=\||\n|\Z)")
_MAX_ROWS = 64
_TRAILING = ".,;:!?…*_|。、，！？)`\"'"
_SAYS = ("pass", "pwd", "pw", "kennwort", "contraseña", "senha", "clave", "wachtwoord", "lösenord", "adgangskode",
         "hasło", "parola", "şifre", "пароль")  # fmt: skip
_STATEMENT = 3  # the group of _CALLED behind "identified by": whatever stands there is meant
_LOGS = ("log", "sign", "cred", "account", "daten", "identifiant", "gegevens", "dostęp", "доступ", "/")


def logins_in(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    """Spans of passwords, keys and codes in such places.

    Args:
        lowered: the text in lower case, as long as the text.
    """
    if any(word in lowered for word in _SAYS):
        yield from _values(text, _SAID.finditer(lowered))
        for match in _QUOTED.finditer(lowered):
            value = text[match.start(2) : match.end(2)]
            if (
                is_phrase(value, in_quotes=True) and len(value.split()) > 2
                if " " in value
                else is_mixed(value) and len(value) > 7
            ):
                yield match.span(2)
    if any(word in lowered for word in ("ssid", "wlan", "fi", "wpa", "hotspot")):
        for match in _WIFI.finditer(lowered):
            value = text[match.start(1) : match.end(1)].rstrip(_TRAILING)
            if (is_mixed(value) or value.isdigit()) and not is_placeholder(value):
                yield match.start(1), match.start(1) + len(value)
    for match in _CALLED.finditer(text) if "'" in text or '"' in text else ():
        value = match[match.lastindex or 0]
        if not is_placeholder(value) and (is_mixed(value) or is_worded(value) or match.lastindex == _STATEMENT):
            yield match.span(match.lastindex or 0)
    if any(word in lowered for word in _LOGS):
        yield from _values(text, _LOGIN.finditer(lowered))
    for match in (
        _KEY.finditer(lowered)
        if any(w in lowered for w in ("key", "token", "secret", "unseal", "password", "appid"))
        else ()
    ):
        end = len(text[: match.end(1)].rstrip(".:")) if text[match.end(1) - 1] in ".:" else match.end(1)
        if is_key(text[match.start(1) : end]):
            yield match.start(1), end
    for word, pattern in _COMMANDS:
        for match in pattern.finditer(text) if word in text else ():
            value = match[match.lastindex or 0]
            if not is_placeholder(value) and not is_prose(value):
                yield match.span(match.lastindex or 0)
    if "code" in lowered or "pin" in lowered or "otp" in lowered or "puk" in lowered or "pass" in lowered:
        yield from (match.span(match.lastindex or 0) for match in _CODE.finditer(lowered))
        yield from (match.span(1) for match in _CODES.finditer(lowered) if sum(map(str.isdigit, match[1])) >= 3)
    if "|" in text and any(word in lowered for word in _SAYS):
        yield from _in_tables(text, lowered)
    if "combination" in lowered:
        yield from (match.span(1) for match in _COMBINATION.finditer(lowered))


def _in_tables(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    """Cells below a head that says password, in tables of Markdown."""
    read = 0
    for head in _HEAD.finditer(lowered):
        if head.start() < read:
            continue  # of a table that was read
        column, at = lowered.count("|", head.start(), head.start("label")), head.end()
        for _ in range(_MAX_ROWS):
            row = _ROW.match(text, at)
            if not row:
                break
            at = read = row.end()
            cells = list(_CELL.finditer(text, row.start() + (row[0][0] != "|"), row.end()))
            if len(cells) > column - (lowered[head.start()] == "|"):
                cell = cells[column - (lowered[head.start()] == "|")]
                value = cell[1].strip()
                if (is_strong(value) or is_worded(value)) and not is_placeholder(value):
                    start = cell.start(1) + cell[1].index(value)
                    yield start, start + len(value)


def _values(text: str, matches: Iterator[re.Match[str]]) -> Iterator[tuple[int, int]]:
    for match in matches:
        start, end = match.span(match.lastindex or 0)
        value = text[start:end].rstrip(_TRAILING)
        if is_strong(value) and not is_placeholder(value):
            yield start, start + len(value)
