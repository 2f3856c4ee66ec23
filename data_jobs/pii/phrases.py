"""Passwords that are words: what somebody says behind "the wifi password is", told from prose about passwords.

A phrase is a secret where it runs to the end of its clause, holds no word that only grammar needs, and does not begin
with what is said of passwords (required, stored, too short). One word alone is one where it is said of a network, a
device or an account, or to be somebody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_jobs.pii.values import ALGORITHM

_LABELS = (
    "pass",
    "kennwort",
    "contrase",
    "senha",
    "wachtwoord",
    "lösenord",
    "palavra",
    "pwd",
    "pw ",
    "pw:",
    "clave",
    "hasło",
)
_OWNER = re.compile(
    r"\b(?:wi-?fi|wlan|wireless|network|hotspot|guest|router|alarm|door|gate|netflix|vpn|e-?mail|bank|laptop|computer"
    r"|phone|account|server|root|admin|my|our|his|her|their|mein|unser|mon|mi|mia|minha|mijn"
    r"|moje)(?:['’]s)?[ -](?:[a-z-]{2,12} )?\Z"
)
_SAID = re.compile(
    r"(?:pass ?(?:word|wort|phrase|code)|mot de passe|kennwort|contraseña|senha|wachtwoord|lösenord|palavra-passe"
    r"|hasło|pwd"
    # In Spanish it is a key of any kind.
    r"|pw(?<!\wpw)|clave(?= (?:del?|de la) (?:wi-?fi|correo|cuenta|router|red|puerta|banco|alarma)))"
    r"(?P<of> (?:for|of|on|del?|du|für|vom|van)(?: [^\W\d_][\w-]{0,11}){1,3})?"
    r"(?P<sign> ?[:=] {0,2}| (?:is|lautet|ist|est|es|è|é|to|jest|(?:used|changed|set) to(?: be)?|is now) {1,2})"
    r"(?P<phrase>[^\W_][\w'!#$%&*+?-]{0,23}"
    r"(?: [\w!#$%&*+?-]{1,24}){0,7}?)"
    r"(?=[.,;!?)]{0,3}(?:\s{2}|\n|\s?\Z| (?:if|and|please|thanks)\b)|[.,;!?)\"](?:\s|\Z))"
)
_SEED = re.compile(
    r"(?:seed|recovery|mnemonic)(?: phrase| words?)?(?: is|:| =)\s{1,2}([a-z]{3,8}(?:[ ,]{1,2}[a-z]{3,8}){11,23})(?!\w)"
)
_BEHIND = re.compile(
    r" (?:is|was|<-{1,2}|=) (?:that'?s )?(?:the|my|our|your|his|her) (?:[\w-]{1,12} ){0,2}"
    r"(?:password|pwd|passwort|pin)\b"
)
_OF_NETWORKS = re.compile(r"\b(?:wi-?fi|wlan|hotspot|netflix|guest network)\b")
# Chosen more often than any others, and what fingers walk over on a keyboard.
_WALKS = re.compile(
    r"(?:qwert|qwerz|azert|asdf|yxcv|zxcv|1q2w|q1w2|letmein|iloveyou|trustno1|sunshine|princess|football|baseball"
    r"|superman"
    r"|starwars|whatever|monkey|dragon|shadow)\w{0,8}\Z"
)
_MIXED = re.compile(r"(?=[^\W\d_]*\d)(?=\d*[^\W\d_])[^\W_]+\Z")
_TOKEN = re.compile(r"[^\s\"'`<>()]{6,48}\Z")
# Grammar, in the languages of the labels.
_FUNCTION_WORDS = """
a an the this that these those it its you your we our they their he she his her i my is are was were be been being has
have had do does did can could may might must shall should will would not no never always only also too very so as at
by for from in into of on onto off out over under up with without within than then and or but nor if when where while
which who how what why because after before during until since about between both each every all any some same other
such there here me us them him himself themselves must again yet already still just more most less least
der die das den dem des ein eine einen einem einer ist sind war wird werden nicht kein keine auf unter in im am an zu
zum zur von vom mit ohne und oder aber wenn als wie bei beim nach vor zu sehr nur auch noch schon immer nie muss kann
le la les un une du de des est sont pas ne plus trop sur sous dans avec sans et ou mais si que qui au aux pour par
el los las una unos es son no muy con sin y o pero si en del al por para que
"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
# What is said of passwords and stands where one would stand.
_OF_PASSWORDS_WORDS = """
required optional stored hashed encrypted salted wrong right correct incorrect invalid valid expired empty blank missing
secret safe secure insecure weak strong short long random unique private public visible hidden shown known unknown
forgotten lost changed reset set saved sent given asked asking needed used accepted refused rejected checked case
plain plaintext text string none null true false default temporary permanent generated created printed written entered
typed protected mandatory obligatory minimum maximum exactly twelve eight ten six four digits characters letters numbers
words password passwords username user users login value values key keys field fields account name database hash
abgelaufen falsch richtig ungültig gültig leer sicher unsicher geheim bekannt anders vergessen erforderlich optional
mindestens geändert zurückgesetzt gespeichert verschlüsselt obligatoire facultatif incorrect expiré vide oublié trop
requerida obligatoria incorrecta correcta vacía caducada segura case-sensitive compromised leaked exposed good bad fine
important easy hard difficult impossible different ready working broken available unavailable confidential complicated
verlopen fout onjuist kwijt vergeten verkeerd gewijzigd geldig sbagliata scaduta errata dimenticata errada expirada
fraca incorreta bloqueada bloqueado perdida perdido nieprawidłowe złe zapomniane za bloccata vuota cambiata username
mine yours
great awful new old simple complex enough better worse too longer shorter
"""
# What is to be done to know it: "password: see the letter".
# What places, parts and states begin with: "behind the counter", "part of the handbook", "stuck in the old state".
_POINTS_WORDS = """
behind above below near next inside outside around beside beneath underneath along against across among part property
subject nothing something anything everything nowhere somewhere anywhere everywhere nobody somebody one two made built
kept held taken known written found hung stuck gone due up down out back due still now today tomorrow yesterday stays
what whatever whichever how where when different part name steht liegt gilt seit
"""
_POINTS = frozenset(_POINTS_WORDS.split())
_VERBS = frozenset(
    ("is", "are", "was", "were", "be", "been", "has", "have", "had", "can", "could", "will", "would", "must", "should",
     "may", "might", "does", "do", "did", "ist", "sind", "war", "wird", "est", "sont", "es", "son")
)  # fmt: skip
_ASKS_WORDS = "see ask use check contact refer consult look try enter type choose pick please siehe voir ver"
_ASKS = frozenset(_ASKS_WORDS.split())
_OF_PASSWORDS = frozenset(_OF_PASSWORDS_WORDS.split())
_ADJECTIVE = re.compile(
    r".{2,}(?:ed|able|ible|ful|less|ive|ous|ent|ant|(?:al|nt|us|b|ed|ing|ve|ful|r|[^f\W]e|t|d|k|s|ri|si|di)ly|ing|ic"
    r"|ory|ary|iert|bar|lich|ig|isch|é|ée|ido|ida|ado|ada)\Z"
)


def phrases_in(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    """Spans of passwords of words and of seed phrases."""
    for match in _SAID.finditer(lowered) if any(label in lowered for label in _LABELS) else ():
        start, end = match.span("phrase")
        said = text[start:end]
        words = said.split()
        if len(words) == 1:
            owned, assigned = _is_owned(lowered, match), match["sign"].strip() in (":", "=")
            if assigned:  # of accounts it is rather told what it must be
                near = lowered[max(0, match.start() - 20) : match.start("phrase")]
                owned = owned and len(said) > 5 and _OF_NETWORKS.search(near) is not None
            if (owned and _is_word(said) and not ALGORITHM.search(said)) or (assigned and _WALKS.match(said.lower())):
                yield start, end
        elif (match["sign"].strip() == "=" and match[0][:10] != "passphrase") or _MIXED.match(words[0]):
            continue  # "password=hunter2 next": one word is the password
        elif (match["sign"].strip() != "to" and _is_owned(lowered, match) and is_said(words)) or (
            is_phrase(said) and (len(words) > 2 or any(c.isdigit() or c.isupper() for c in said[1:]))
        ):
            yield start, end
    if "seed" in lowered or "recovery" in lowered or "mnemonic" in lowered:
        yield from (match.span(1) for match in _SEED.finditer(lowered))
    for match in _BEHIND.finditer(lowered) if "pass" in lowered or "pwd" in lowered else ():
        token = _TOKEN.search(text, max(0, match.start() - 64), match.start())
        if (
            token
            and not ALGORITHM.search(token[0])
            and any(map(str.isdigit, token[0]))
            and any(map(str.isalpha, token[0]))
            and not token[0][0].isdigit()
        ):
            yield token.span()


def _is_owned(lowered: str, match: re.Match[str]) -> bool:
    """Whether it is said of a network, a device or an account, or to be somebody's."""
    before = _OWNER.search(lowered, max(0, match.start() - 28), match.start())
    return bool(before or (match["of"] and _OWNER.search(match["of"] + " ")))


def is_said(words: list[str]) -> bool:
    """Whether three words or more, small ones of grammar among them, are no sentence about a password."""
    low = [word.strip(".,;:!?\"'").lower() for word in words]
    few = sum(word in _FUNCTION for word in low) * 2 < len(low)
    told = low[0] in _FUNCTION or low[0] in _ASKS or low[0] in _POINTS or _ADJECTIVE.match(low[0])
    return len(low) > 2 and few and not told and _OF_PASSWORDS.isdisjoint(low) and _VERBS.isdisjoint(low)


def is_phrase(said: str, in_quotes: bool = False) -> bool:
    """Whether two words or more are no sentence and no description."""
    words = [word.strip(".,;:!?\"'").lower() for word in said.split()]
    if in_quotes and any(map(str.isdigit, said)) and not words[0].isdigit():
        return _FUNCTION.isdisjoint({*words} - {"my", "our"})
    first, others = words[0], words[1:]
    if first.endswith("ed") or first in _FUNCTION or first in _ASKS or (first in _OF_PASSWORDS and len(words) < 4):
        return False
    return _FUNCTION.isdisjoint(others) and _OF_PASSWORDS.isdisjoint(others)


def _is_word(said: str) -> bool:
    """Whether one word could be a password rather than what is said of one."""
    low = said.lower()
    # With a capital within a sentence it is rather a noun, whatever it ends in.
    ordinary = low in _FUNCTION or low in _OF_PASSWORDS or (said.islower() and _ADJECTIVE.match(low))
    return len(said) > 3 and said.isalpha() and not ordinary
