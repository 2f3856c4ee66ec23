"""E-mail addresses: as they are written, and as people say them to hide them from machines."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_EMAIL_CHARS = 128

# Found from the @: a pattern that started at the local part would try every character of a long word.
_AT = re.compile(r"(?<=[\w%+'-])@((?:[\w-]{1,63}(?:(?<=-)\n[\w-]{1,40})?\.){1,6}([^\W\d_]{2,24}))(?![\w-]|[(\[])")
# Endings of domains: what else stands behind a dot (``W@x.reshape``, ``icon@2x.png``) is code or a file.
_ENDING_WORDS = """
com org net edu gov mil int info biz name pro mobi jobs tel travel coop aero museum cat asia post xxx arpa academy
agency ai app art associates attorney audio auto band bank bar berlin best bet bike bio blog boutique broker build
builders business cafe camera camp capital car care careers cash center chat church city claims cleaning clinic
cloud club codes coffee community company computer consulting contact contractors cool corp credit dance data date
deals delivery dental design dev digital direct directory doctor dog domains earth education email energy engineer
engineering enterprises equipment estate events exchange expert express family farm fashion film finance financial
fit fitness foundation fund fun gallery games garden gmbh gold golf google graphics group guide guru haus health
healthcare help holdings home hospital host hosting house immo industries ink institute insure internal
international intranet investments jewelry koeln lan land law lawyer legal life live llc loan london ltd love luxury
management market marketing mba media medical men microsoft money network news ngo ninja nyc one ong online paris
partners parts party pharmacy photo photography photos physio pics pizza place plus press productions properties
property pub realty red rent rentals repair report restaurant reviews rocks ruhr run sale salon school science
security services sexy shoes shop show site ski soccer social software solar solutions space store stream studio
studios style support surf surgery swiss systems tax taxi team tech technology tennis theater tips today tokyo tools
top tours town toys trade training tv university vegas ventures vet video villas vin vip vision vote voyage watch
webcam website wedding wien wiki win wine work works world wtf xyz yoga zone
accountant accountants actor airforce apartments archi army arts baby bargains beer bible bid bingo boston brussels
bzh cab cards casa cash catering cheap christmas coach codes college cologne condos construction country coupons
courses cricket cruises cymru dating day deals degree democrat dental diamonds diet discount domains durban eco eus
exposed fail faith fans fish fishing flights florist flowers football forsale foundation frl gal gallery gent gift
gifts gives glass global gmx gop gratis green gripe guitars hamburg haus hiphop hockey horse hosting hotel hotels how
icu immo immobilien istanbul joburg kaufen kim kitchen kiwi kyoto lat lease lgbt limited limo link loans lol madrid
maison melbourne memorial menu miami mom moscow mortgage movie nagoya navy nrw okinawa ooo organic osaka paris pictures
pink plumbing porn promo protection quebec racing realestate recipes rehab reise reisen rest rich rio rip rodeo saarland
sarl schule schmidt scot singles sucks supplies supply sydney tattoo tienda tirol tokyo town uno vacations
versicherung viajes villas vlaanderen voting voto wales watch whoswho zuerich bayern barcelona capetown amsterdam
ac ad ae af ag al am an ao aq ar as at
au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx
cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw
gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls
lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om
pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx
sy sz tc td tf tg th tj tk tl tm tn to tr tt tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw
"""
_ENDINGS = frozenset(_ENDING_WORDS.split())
_RESERVED_DOMAIN = re.compile(
    r"(?:^|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost|local"
    r"|(?:contoso|fabrikam|northwindtraders|adventure-works)\.com)$",
    re.I,
)


# Written to hide it from machines: ``ines (at) fjellheim.no``, ``ines at fjellheim dot no``, ``ines @ fjellheim.no``.
_IN_BRACKETS = r"[\[({<] ?(?:at|AT|At|ät|ÄT|@|arroba|chiocciola) ?[\])}>]"
_SIGNS = re.compile(rf"(?: ?{_IN_BRACKETS} ?| @ |@ {{1,2}}|@\n|@@| @|(?<=[.\w]\w)\(a\)| ?\n@)(?=[^\W_])")
# "anna@firma .de", "anna@firma. de": where the sentence ends behind it.
_SPACED = re.compile(
    r"@((?=[\w-]{0,62}[^\W\d_])[\w-]{2,63}(?: \.|\. |\.\.| dot | DOT |\.\n|\n\.)([a-z]{2,4}))(?= ?(?:[\n,;:!?)]|\Z)"
    r"| is (?:my|the|our|his|her)\b)"
)
_NO_ENDINGS = frozenset(
    ("am", "as", "at", "be", "by", "do", "go", "in", "is", "it", "me", "my", "no", "so", "to", "us")
)
_WORDS = re.compile(r"(?: (?:at|AT) |_(?:at|AT)_)(?=[^\W_])")
_DOT_WORD = r"(?: (?:dot|DOT|punkt|point|punto) |_(?:dot|DOT)_)"
_LABEL = r"[^\W_](?:[A-Za-z0-9-]{0,62}[^\W_])?(?: dash [A-Za-z0-9]{1,30}){0,2}"
_SAID_DOMAIN = re.compile(
    rf"{_LABEL}(?:(?:\.|{_DOT_WORD}){_LABEL}){{0,3}}(\.|{_DOT_WORD})([^\W\d_]{{2,24}})(?![\w-]|\.\w|[(\[])"
)
_SAID_LOCAL = re.compile(r"(?:[\w.%+'-]{1,24} (?:dot|DOT) ){0,2}[\w.%+'-]{1,64}\Z")
_OF_MAIL = re.compile(r"(?i)\be-?mails?\b|\bmail|write (?:to|me)|\breach\b|contact|address|kontakt|correo|\bschreib")
_CLAUSE_ENDS = re.compile(r"\s*(?:\Z|\n|[.,;:!?)]+(?:\s|\Z)|is (?:my|our|his|her|the) )")
# Endings that are attributes as well: "query @ key.mt".
_ATTRIBUTES = frozenset(("to", "at", "mt", "is", "it"))
_HAS_SIGN = ("@", "(a)", "at)", "at]", "at}", "at>", "AT)", "AT]", "At)", "ät)", "ät]", "ÄT)", "arroba", "chiocciola")
_HAS_WORD, _HAS_DOT = (
    (" at ", " AT ", "_at_", "_AT_"),
    ("dot", "DOT", "punkt", "punto", "point", "mail", "contact", " AT "),
)


def may_hold_emails(text: str) -> bool:
    """Whether ``emails_in`` could find any: a quick look."""
    return any(sign in text for sign in _HAS_SIGN) or _has_words(text)


def _has_words(text: str) -> bool:
    return any(word in text for word in _HAS_WORD) and any(word in text for word in _HAS_DOT)


def emails_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of e-mail addresses; those of domains reserved for examples are nobody's."""
    if "@" in text:
        yield from _written(text)
    if any(sign in text for sign in _HAS_SIGN):
        yield from _said(text, _SIGNS)
    if _has_words(text):
        yield from _said(text, _WORDS)
    for match in _SPACED.finditer(text) if "@" in text else ():
        local = _SAID_LOCAL.search(text, max(0, match.start() - 64), match.start())
        if local and match[2] in _ENDINGS and not (match[2] in _NO_ENDINGS and " " in match[1].replace(" dot ", "")):
            yield local.start(), min(match.end(), local.start() + MAX_EMAIL_CHARS)


def _said(text: str, signs: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Addresses with the @ in brackets, as a word, or with blanks around it."""
    for match in signs.finditer(text):
        domain = _SAID_DOMAIN.match(text, match.end(), match.end() + MAX_EMAIL_CHARS - 32)
        local = _SAID_LOCAL.search(text, max(0, match.start() - 64), match.start())
        if not domain or not local:
            continue
        start, end = local.start() + len(local[0]) - len(local[0].lstrip("'.-")), domain.end()
        name, ending, sign = re.sub(_DOT_WORD, ".", domain[0]), domain[2].lower(), match[0].strip(" \n_").lower()
        if ending not in _ENDINGS or _RESERVED_DOMAIN.search(name) or not start < match.start():
            continue
        if sign == "at":
            # "I work at fjellheim.no" is no address, "she works at fjellheim dot no's rival" neither.
            named = "." in local[0][1:-1] and ("AT" in match[0] or _OF_MAIL.search(text, max(0, start - 40), start))
            if named if domain[1] == "." else _is_mail(text, start, end):
                yield start, min(end, start + MAX_EMAIL_CHARS)
        elif "\n@" in match[0]:
            if "." in local[0][1:-1]:  # else rather a decorator
                yield start, min(end, start + MAX_EMAIL_CHARS)
        elif sign != "@" or (
            ending not in _ATTRIBUTES and len(name) > 5 and "=" not in text[max(0, start - 24) : start]
        ):
            yield start, min(end, start + MAX_EMAIL_CHARS)


def _is_mail(text: str, start: int, end: int) -> bool:
    """Whether a clause ends behind what sounds like an address, or mail is spoken of before it."""
    return bool(_CLAUSE_ENDS.match(text, end, end + 10) or _OF_MAIL.search(text, max(0, start - 40), start))


def _written(text: str) -> Iterator[tuple[int, int]]:
    for match in _AT.finditer(text):
        start = match.start()
        while start > 0 and match.start() - start < 64 and (text[start - 1].isalnum() or text[start - 1] in "_.%+'-"):
            start -= 1
        while text[start] in ".'-":
            start += 1
        local, domain = text[start : match.start()], match[1]
        if not local or local == "git" or _RESERVED_DOMAIN.search(domain):
            continue
        product = len(local) == 1 and domain.find(".") == 1  # A@B.to: of matrices
        if not product and (match[2].lower() in _ENDINGS or not match[2].isascii()):
            yield start, min(match.end(), start + MAX_EMAIL_CHARS)
