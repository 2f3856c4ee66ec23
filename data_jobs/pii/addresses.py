"""Postal addresses by how streets are written: a number and a street word, in the order and language of the country.

What stands behind a street (flat, city, state, postal code, country) belongs to it as far as its shape tells. Places
without a street word (``Ombù 9091``) need a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_ADDRESS_CHARS = 128
_EXTENT = 80  # The rest of an address may reach so far behind its street.
_NAME = r"[^\W\d_a-z][\w'’.-]{0,24}"  # a word with a capital
_STREETS = (
    "Street", "St", "Avenue", "Ave", "Road", "Rd", "Boulevard", "Blvd", "Lane", "Ln", "Drive", "Dr", "Court", "Ct",
    "Terrace", "Parkway", "Pkwy", "Highway", "Hwy", "Crescent", "Cres", "Circle", "Close", "Square", "Plaza", "Way",
    "Grove", "Mews", "Gardens", "Esplanade", "Place", "Trail", "Creek", "Crossroad", "Expressway", "Turnpike",
)  # fmt: skip
# 12 Main Street, 370 3911 Fourth Avenue, 8-10 N. King's Rd.
_NUMBER_FIRST = re.compile(
    rf"\d(?<![\w.,:/-].)\d{{0,5}}(?: \d{{1,6}})?[A-Za-z]?(?:[-/]\d{{1,4}})?,?"
    rf" (?:(?:{_NAME}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?"
    rf"(?:{'|'.join(_STREETS)})(?![\w-])\.?"
)
_WORDS_FIRST = (
    "rue", "avenue", "boulevard", "chemin", "allée", "quai", "impasse", "viale", "piazza", "corso", "vicolo",
    "calle", "avenida", "avda", "paseo", "rua", "rúa", "travessa", "ulica", "улица", "проспект", "οδός", "λεωφόρος",
)  # fmt: skip
_SMALL_WORDS = (
    "street", "avenue", "road", "lane", "drive", "boulevard", "court", "terrace", "crescent", "close", "square",
    "grove", "gardens", "st", "ave", "rd", "ln", "blvd", "view", "rise", "hill", "walk", "row", "quay", "wharf",
    "green", "mews", "parade", "vale", "heights", "way",
)  # fmt: skip
# The street word may stand on a line of its own; where somebody says that it is an address, all may be small.
_BROKEN = re.compile(
    rf"\d(?<![\w.,:/-].)\d{{0,5}}[A-Za-z]? (?:{_NAME}[ \n]){{1,3}}?(?:{'|'.join(_STREETS)})\.?(?=[ \t]*(?:[\n,.]|\Z))"
)
_SMALL_STREET = rf"(\d{{1,5}}[a-z]? (?:[^\W\d_][\w'’.-]{{0,24}} ){{1,3}}?(?:{'|'.join(_SMALL_WORDS)})"
_SMALL = re.compile(
    r"(?:\blives? (?:at|in|on)|\baddress(?: is|:)?"
    r"|\b(?:deliver|ship|send|post|come|move|moved|mail)(?: (?:it|them|this|that|(?:the|my|a) [a-z]{3,10}))? to"
    r"|\bat home(?: in|:)?|\blocated at|\b(?:home|house|flat|place) is(?: at)?|\bstay(?:ing)? at|"
    r"\bpick (?:me|us|it) up (?:at|from))"
    rf" {_SMALL_STREET}(?!\w))"
    rf"|(?<![\w.,-]){_SMALL_STREET}(?: [^\W\d_]{{3,20}})?)"
    r"(?= is (?:my|our|his|her|their) (?:[a-z]{1,8} )?address)",
    re.I,
)
# rue de la Paix 12, Calle Mayor 5, ul. Miła 53, C/ Señores Curas 88, 35 rue des Lilas
_STREET_FIRST = re.compile(
    rf"(?<![\w./-])(?:(?:\d{{1,6}} )?\d{{1,5}},? )?(?:(?:{'|'.join(_WORDS_FIRST)}|av)\b\.?|(?:ul|ул)\.|C/|(?-i:Via)"
    rf"|(?<=abito in )via|(?<=vivo in )via)"
    r" (?:(?!the\b|an?\b)[^\W\d_][\w'’.-]{0,24},? ){1,5}(?:n[º°o]\.? ?)?\d{1,5}[A-Za-z]?(?!\w)", re.I,
)  # fmt: skip
_NUMBER_THEN_STREET = re.compile(
    rf"\d(?<![\w.,:/-].)\d{{0,5}}(?: \d{{1,5}})?(?:,? (?:bis|ter|quater)\b)?,? (?:(?i:{'|'.join(_WORDS_FIRST[:13])}"
    rf"|av|bd|bld)\b\.?"
    r"|(?:place|cours|passage|square|route|sentier|faubourg)(?= d))"
    rf" (?:(?:des?|du|d'|de la|del|la|les?|l'|of|y|da|do|dos) ?){{0,3}}{_NAME}(?: (?:{_NAME}|de|des|du)){{0,2}}"
)
# Plaza España 3, Lange Straße 14, Karl Johans gate 22: words of their own, between capitals.
_BETWEEN_CAPITALS = re.compile(
    rf"\b(?:Plaza|Plaça|Praça|Carrer|Passeig) (?:(?:del?|las?|los|d[ao]s?) ){{0,2}}{_NAME}(?: {_NAME})?,? \d{{1,3}}"
    r"(?![\w-]|\.\d| stars?\b| nights?\b)"
    rf"|\b(?!(?:Der|Die|Das|Den|Dem|Ein|Eine|Kein|Unser|Mein|Jeder|Dieser|The)\b){_NAME}(?: {_NAME})?"
    r" (?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|gate|gata|vei|plass) \d{1,3} ?[a-zA-Z]?(?![\w-]|\.\d)"
)
# Where somebody says that it is an address: "ich wohne Am Waldrand 7", "wohne lindenstraße 14".
_GERMAN = re.compile(
    r"(?:\b[Ww]ohn\w{0,4}|\b[Aa](?:dresse|nschrift)|\b[Ll]ieferung (?:an|nach)|\b(?:ziehe"
    r"|umgezogen))[^\n.\d]{0,16}?[ :]"
    r"((?:(?:Am|Im|Zum|Zur|Auf de[rm]|An de[rn]|In de[rn]|Unter den|Hinter de[rm]|Bei der"
    r"|Vor dem) [^\W\d_a-z][^\W\d_]{2,24}"
    r"|[^\W\d_]{3,20}(?:straße|strasse|str\.|weg|platz|gasse|allee)) \d{1,4} ?[a-z]?)(?![\w-]|\.\d)"
)
_POSTCODE = re.compile(
    r"\b(?:post ?code|postal code|zip(?: code)?|postcode)(?: is|:)? ?((?:[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
    r"|[A-Z]\d[A-Z] ?\d[A-Z]\d"
    r"|\d{4} ?[A-Z]{2})(?!\w))"
)
# Hauptstraße 12, Storgatan 5, Sludevej 13, Hämeenkatu 4: found from the ending, the word before it is walked back.
_ENDINGS = (
    "straße", "strasse", "str.", "weg", "platz", "gasse", "allee", "gatan", "vägen", "gata", "veien", "vegen", "vei",
    "vej", "gade", "katu", "tie", "straat", "laan", "plein", "gracht", "kade", " utca", " u.", " tér", " út", " tee",
    " tänav", "torget", "stien", "stræde", "-Straße", "-Strasse", "-Str.", "-Allee", "-Platz", "-Weg", "-Damm",
    "-Ufer", "damm", "ufer", "chaussee",
)  # fmt: skip
_COMPOUND = re.compile(rf"(?<=[\w])(?:{'|'.join(map(re.escape, _ENDINGS))}) \d{{1,4}}(?: ?[a-zA-Z])?(?![\w]|\.\d)")
_BOXES = re.compile(
    r"\b(?:(?:\d{1,6} )?P\.? ?O\.? ?Box|Postbox|Postboks|Postfach|Apartado|Casella Postale) \d{1,6}(?!\w)"
    r"|\b(?:PSC|Unit) \d{1,6},? Box \d{1,6}(?:\s{1,2}[AFD]PO A[AEP] \d{5})?"
    r"|\b[AFD]PO A[AEP] \d{5}(?!\w)"
    r"|\b(?:Apt|Apartment|Suite|Ste)\.? #?\d{1,5}[A-Z]?(?!\w)"
    , re.I,
)  # fmt: skip
# 中关村大街 27 号, 千代田区丸の内 1-9-1: the form of a text has blanks where digits meet other scripts.
_HAN = "\u3400-\u9fff"
_EAST = re.compile(
    rf"[{_HAN}]{{2,24}}(?:路|街|道|巷|弄|胡同) ?\d{{1,5}} ?(?:号|號)(?!线|線|楼梯)(?:院|楼|樓)?"
    r"(?: ?\d{1,4} ?(?:室|楼|樓|栋|单元|單元|层)){0,3}"
    rf"|(?:東京都|北海道|大阪府|京都府|[{_HAN}]{{2,3}}県)[{_HAN}\u3040-\u30ff]{{1,12}}[市区町村郡][{_HAN}\u3040-\u30ff]{{0,16}}"
    r" ?\d{1,4}"
    r"(?: ?丁目 ?\d{1,4} ?番(?:地)?(?: ?\d{1,4} ?号)?|(?:-\d{1,4}){1,3})(?!\d)"
)
_FLAT = re.compile(
    r"[,\s]{1,3}(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room|#)\.? ?#?\w{1,5}|m\. ?\d{1,4}|кв\. ?\d{1,4}"
    r"|\d{1,2}(?:[ºª°o]\.?|\.) ?(?:[A-F]|izq\w{0,8}|dcha|derecha|t\.?[vh]|mf|sal|OG|Stock|Etage)\.?)(?!\w)", re.I,
)  # fmt: skip
_FLAT_BEFORE = re.compile(r"\b(?:Flat|Apt\.?|Apartment|Unit|Suite) #?\d{1,4}[A-Za-z]?, ?\Z", re.I)
_HOUSE = re.compile(r"[-/](?:\d{1,4}[A-Za-z]?|[A-Za-z]\d?)(?![\w-]|[.,/]\d)")  # 8-A, 5/7
_PLACE = re.compile(r"[,\s]{1,4}([^\W\d_][^\W\d_.'’()/-]{0,24}[.'’)/-]?)(?![\w@])")
_CODE = re.compile(
    r"[,\s]{1,4}(?:[A-Z]{1,2}-)?(?:\d{4,6}(?:-\d{3,4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2})(?![\w@-]|[.,]\d)"
)
_ENDS_IN_CODE = re.compile(r", \d{5}\Z")
_TOWN = re.compile(r"(?<=\d) [^\W\d_a-z][^\W\d_]{1,24}(?:-[^\W\d_]{1,24}){0,4}(?![\w@])")

# Words stand between these; seen as spaces, a look for " word " tells quickly whether a rule can find anything.
_AS_SPACES = str.maketrans("\n\t(\"',:;", " " * 8)
_FRENCH_PLACES = tuple(f"{word} d" for word in ("place", "cours", "passage", "square", "route", "sentier", "faubourg"))
_STREET_WORDS = tuple(
    f" {word}"
    for word in (
        *(f"{w}{end}" for w in _WORDS_FIRST for end in " ."),
        *_FRENCH_PLACES,
        "bd ",
        "bd. ",
        "bld ",
        "av ",
        "av. ",
        "via ",
        "ul.",
        "ул.",
        "c/",
    )
)
_BOX_WORDS = (
    "box ", " postboks ", " postfach ", " apartado ", " casella ", " apo a", " fpo a", " dpo a", " apt", " apartment ",
    " suite ", " ste ", " ste. ",
)  # fmt: skip

_SMALL_STREETS = tuple(
    f" {word} "
    for word in _SMALL_WORDS
)  # fmt: skip


_CAPITAL_WORDS = (
    "Plaza ", "Plaça ", "Praça ", "Carrer ", "Passeig ", " Straße ", " Strasse ", " Str. ", " Weg ", " Platz ",
    " Allee ", " Gasse ", " gate ", " gata ", " vei ", " plass ",
)  # fmt: skip


def addresses_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of postal addresses, at most MAX_ADDRESS_CHARS each; they may overlap."""
    spaced = " " + text.lower().translate(_AS_SPACES) + " "
    if any(word in text for word in _STREETS):
        yield from (_whole(text, *match.span()) for match in _NUMBER_FIRST.finditer(text))
        yield from (_whole(text, *match.span()) for match in _BROKEN.finditer(text) if "\n" in match[0])
    if any(word in spaced for word in _SMALL_STREETS):
        yield from (_whole(text, *match.span(match.lastindex or 0)) for match in _SMALL.finditer(text))
    if any(word in spaced for word in _STREET_WORDS):
        for pattern in (_STREET_FIRST, _NUMBER_THEN_STREET):
            yield from (_whole(text, *match.span()) for match in pattern.finditer(text))
    if any(ending in text for ending in _ENDINGS):
        for match in _COMPOUND.finditer(text):
            start = _word_start(text, match.start())
            if text[start].isupper():
                before = _OF_STREETS.search(text, max(0, start - 12), start)
                yield _whole(text, before.start() if before else _numbers_before(text, start), match.end())
    if any(word in text for word in _CAPITAL_WORDS):
        yield from (_whole(text, *match.span()) for match in _BETWEEN_CAPITALS.finditer(text))
    if any(word in text for word in ("ohn", "dresse", "nschrift", "ieferung", "ziehe", "umgezogen")):
        yield from (_whole(text, *match.span(1)) for match in _GERMAN.finditer(text))
    if "ost" in text or "zip" in text:
        yield from (match.span(1) for match in _POSTCODE.finditer(text))
    if any(mark in text for mark in "号號都府県") or "北海道" in text:
        yield from (match.span() for match in _EAST.finditer(text))
    if any(word in spaced for word in _BOX_WORDS):
        yield from (_whole(text, *match.span()) for match in _BOXES.finditer(text))


def _word_start(text: str, at: int) -> int:
    low = max(0, at - 24)
    while at > low and (text[at - 1].isalpha() or text[at - 1] in "-."):
        at -= 1
    return at


_BEFORE = re.compile(r"(?<![\w.,:/-])\d{1,6} (?:\d{1,6} )?\Z")


_OF_STREETS = re.compile(r"\b(?:Alte|Neue|Große|Kleine|Obere|Untere|Hintere|Vordere|Lange|Hohe)[rs]? \Z")


def _numbers_before(text: str, start: int) -> int:
    found = _BEFORE.search(text, max(0, start - 14), start)
    return found.start() if found else start


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    """The street with its flat, and with places and a postal code as far as a code follows within a few words."""
    flat = _FLAT_BEFORE.search(text, max(0, start - 18), start)
    start = flat.start() if flat else start
    limit = min(start + MAX_ADDRESS_CHARS, end + _EXTENT)
    house = _HOUSE.match(text, end, limit) if text[end - 1].isdigit() else None
    end = house.end() if house else end
    flat = _FLAT.match(text, end, limit)
    end = at = flat.end() if flat else end
    if _ENDS_IN_CODE.search(text, max(start, end - 8), end) and (town := _TOWN.match(text, end, limit)):
        return start, town.end()
    for placed in range(8):
        code = _CODE.match(text, at, limit)
        if code:
            town = _TOWN.match(text, code.end(), limit) if not placed else None  # in much of Europe it stands behind
            return start, town.end() if town else code.end()
        place = _PLACE.match(text, at, limit)
        if not place or not (place[1][0].isupper() or "\n" in place[0] or place[1] in ("de", "of", "la", "sur", "am")):
            break
        at = place.end()
    return start, min(end, limit)
