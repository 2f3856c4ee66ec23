"""Numbers that name a person or an account: payment cards, IBANs, social security and other national ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from data_jobs.pii.form import lower
from data_jobs.pii.values import is_random

_CARD = re.compile(r"\d(?<![\w.-].)(?<!\d[ -].)(?:[ .-]?\d){11,18}(?![ .-]?\d)(?!\w)")
# Written in any other way, and where a word says what it is: broken lines, single digits, O for 0 and l for 1.
_CARD_LIKE = re.compile(r"[\dOlI](?<![\w.-].)(?:[ .,\n/_*-]{0,2}[\dOolIZSB]){12,18}(?![ .,\n/_*-]{0,2}\d)(?!\w)")
_CARD_WORDS = (
    "card", "visa", "amex", "maestro", "unionpay", "karte", "carte", "tarjeta", "cartão", "карт", "cc=", "cc ", "cc:",
    "pay with", "paying with", "卡", "カード", "카드", "بطاقة",
)  # fmt: skip
_AS_DIGITS = str.maketrans("OolIZSB", "0011258")
_CARD_REACH = 40  # A word that says what the number is stands so far before it, or right behind it.
_CARD_GROUPS = re.compile(r"\d+|(?:\d{4}[ -]){3,4}\d{1,4}|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{4}(?:\.\d{4}){3}")
_CARD_IN_FOURS = re.compile(r"\d(?<![\w.-].)(?<!\d[ -].)\d{3}([ -])\d{4}\1\d{4}\1\d{4}(?=[ ,;] ?\d{1,2}[/ -]\d)")
# ISO/IEC 7812 prefixes in use; a random number passes Luhn one time in ten, so the prefix matters.
_CARD_PREFIX = re.compile(r"4|5[0-8]|6|3[0-9]|2[1-7]|1800")
_SSN = re.compile(r"\d(?<![\w-].)\d\d(?<!000)(?<!666)([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_SSN_NAMED = re.compile(
    r"(?:\bssn\b|social security|\bsocial(?: number)? is|\bsocial:)[^\d\n]{1,24}"
    r"((?=[\dlIO])[\dlIOo](?:[ ./_-]{0,2}[\dlIOo]){8})(?!\w)",
    re.I,
)
# Found from the digits behind the country: they are rarer than letters. GB82, or G B 8 2.
_IBAN_CHECK = re.compile(
    r"\d\d(?<=[A-Za-z][A-Za-z]\d\d)|\d\d(?<=[A-Za-z][A-Za-z] \d\d)|\d \d(?<=[A-Za-z] [A-Za-z] \d \d)"
)
_IBAN = re.compile(r"(?:(?<!\w)|(?<=\biban)|(?<=iban_))[A-Z] ?[A-Z] ?\d ?\d(?:[ \n\t./_,·-]{0,3}[A-Z0-9]){11,30}", re.I)
_CURRENCY = re.compile(r"(?:EUR|CHF|GBP|USD|PLN|SEK|NOK|DKK|CZK|HUF|BIC)(?!\w)")
_IBAN_BETWEEN = " \n\t./_,·-"
# Country and length of its IBANs (SWIFT's IBAN registry).
_IBAN_REGISTRY = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24
FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21
LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22
RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
"""
# Without a check digit: where it is called so.
_ACCOUNT = re.compile(
    r"\b(?:sort code|routing(?: number| no\.?)?|aba number|blz|bankleitzahl|bsb|kontonummer|konto-?nr\.?"
    r"|numéro de compte"
    r"|número de cuenta|rekeningnummer|(?<!customer )(?<!user )(?:bank )?(?:account|acct?) ?(?:number|no\b\.?"
    r"|nr\b\.?|#))"
    r"(?: is| ist| est| es)?[ :=]{1,3}(\d(?:[ -]?\d){5,17})(?![\w-]|[.,]\d)"
    # What stands beside such a code is the account's own number.
    r"(?:[,;/]? {0,2}(?:and |und )?(?:acc(?:oun)?t?|konto|a/c)\.?[ :]{1,2}(\d(?:[ -]?\d){5,17})(?![\w-]|[.,]\d))?"
)
_ACCOUNT_WORDS = (
    "sort code",
    "routing",
    "aba n",
    "blz",
    "bankleit",
    "bsb",
    "konto",
    "compte",
    "cuenta",
    "rekening",
    "acc",
)
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}


def cards_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of payment card numbers: a known prefix, usual groups, and a Luhn checksum that holds."""
    for match in _CARD_IN_FOURS.finditer(text):  # whatever number stands behind it
        digits = [int(c) for c in match[0] if c.isdigit()]
        if _CARD_PREFIX.match(match[0]) and luhn(digits) and any(digits):
            yield match.span()
    for match in _CARD.finditer(text):
        if not _CARD_GROUPS.fullmatch(match[0]):
            continue
        digits = [int(c) for c in match[0] if c.isdigit()]
        if (
            len(match[0]) > 16
            and match[0].isdigit()
            and not _is_card_said(text[max(0, match.start() - _CARD_REACH) : match.start()].lower())
        ):
            continue  # rather an id: one in ten has the checksum of a card
        if _CARD_PREFIX.match("".join(map(str, digits))) and luhn(digits) and any(digits):
            yield match.span()
    if _is_card_said(text.lower()):
        yield from _cards_said(text)


def _is_card_said(lowered: str) -> bool:
    told = lowered.replace("<card_", "<")  # what was hidden before says nothing of the numbers beside it
    return any(word in told for word in _CARD_WORDS)


def _cards_said(text: str) -> Iterator[tuple[int, int]]:
    """Card numbers in any groups where a word near them says what they are, or a line breaks between usual groups."""
    for match in _CARD_LIKE.finditer(text):
        if not any(map(str.isdigit, match[0])):
            continue
        digits = [int(c) for c in match[0].translate(_AS_DIGITS) if c.isdigit()]
        if _CARD_PREFIX.match("".join(map(str, digits))) and luhn(digits) and any(digits):
            near = (
                text[max(0, match.start() - _CARD_REACH) : match.start()] + "\n" + text[match.end() : match.end() + 24]
            )
            if _is_card_said(near.lower()):
                yield match.span()


def ssns_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of US social security numbers: in their usual form, or called so."""
    yield from (match.span() for match in _SSN.finditer(text))
    lowered = text.lower()
    if "ssn" in lowered or "social" in lowered:
        yield from (m.span(1) for m in _SSN_NAMED.finditer(text) if sum(map(str.isdigit, m[1])) >= 5)


def ibans_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of international bank account numbers: the country's length, and a checksum that holds."""
    done = 0
    for check in _IBAN_CHECK.finditer(text):
        begin = check.start() - (4 if len(check[0]) > 2 else 3 if text[check.start() - 1] == " " else 2)
        length = _IBAN_LENGTHS.get(text[begin : check.start()].replace(" ", "").upper(), 0)
        match = _IBAN.match(text, begin) if length and begin >= done else None
        if not match:
            continue
        end, seen = match.start(), 0
        while end < match.end() and seen < length:  # the words after it are made of the same characters
            seen += text[end] not in _IBAN_BETWEEN
            end += 1
        value = "".join(c for c in text[match.start() : end] if c not in _IBAN_BETWEEN)
        glued = text[end : end + 1].isalnum() and not _CURRENCY.match(text, end)
        if seen != length or glued or not value.isascii():
            continue
        # Letters for digits are tried where the number as it stands is none.
        if _is_iban(value) or _is_iban(value[:4] + value[4:].translate(_LETTERS_AS_DIGITS)):
            yield match.start(), end
            done = end
    lowered = lower(text)
    if any(word in lowered for word in _ACCOUNT_WORDS):
        for match in _ACCOUNT.finditer(lowered):
            for group in range(1, (match.lastindex or 0) + 1):
                if not _is_counted(match[group]):
                    yield match.span(group)


def _is_counted(value: str) -> bool:
    """Whether digits are those of an example: ``123456789012``, ``111122223333``."""
    digits = "".join(c for c in value if c.isdigit())
    return digits in "12345678901234567890" or all(
        digits[i : i + 4] == digits[i] * 4 for i in range(0, len(digits) - 3, 4)
    )


_LETTERS_AS_DIGITS = str.maketrans("OolI", "0011")


def _is_iban(value: str) -> bool:
    """ISO 7064, mod 97-10."""
    return int("".join(str(int(c, 36)) for c in value[4:] + value[:4])) % 97 == 1


# -- national ids ------------------------------------------------------------------------------------------------------
# Each alternative is a group; its number picks the check. The first character decides quickly where none can start.
_NATIONAL_ID = re.compile(
    r"(?<![\w.+-])(?:(?=\d\d[\d.]|[12] \d\d )(?:"
    r"(\d{8}-?[A-Z]|\d{2}\.\d{3}\.\d{3}-?[A-Z])"  # 1 Spain, DNI
    r"|(\d{3}\.\d{3}\.\d{3}-\d{2})"  # 2 Brazil, CPF
    r"|([2-9]\d{3}([ -])\d{4}\4\d{4})"  # 3 India, Aadhaar
    r"|(756\.\d{4}\.\d{4}\.\d{2})"  # 5 Switzerland, AHV
    r"|(\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2})"  # 6 Belgium, national register
    r"|([12] \d{2} \d{2} \d{2} \d{3} \d{3} \d{2}|[12]\d{14})"  # 7 France, NIR
    r"|((?:19|20)?\d{6}[-+]\d{4})"  # 8 Sweden, personnummer
    r"|(\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y])"  # 9 Finland, henkilötunnus
    r"|([1-6]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[0-9Xx])"  # 10 China, resident identity card
    r"|(\d{2}[01]\d[0-3]\d-[1-4]\d{6})"  # 11 Korea, resident registration number
    r"|(\d{1,2}\.\d{3}\.\d{3}-[0-9Kk])"  # 12 Chile, RUT
    r")|(?=[A-Z])(?:"
    r"([A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} \d{2} \d{2} ?[A-D])"  # 13 United Kingdom, National Insurance
    r"|([XYZ]\d{7}-?[A-Z])"  # 14 Spain, NIE
    r"|([A-Z]{3} ?[A-Z]{3} ?\d{2}[A-EHLMPR-T]\d{2} ?[A-Z]\d{3}[A-Z])"  # 15 Italy, codice fiscale
    r"))(?![\w-]|\.\d)"
)
_NAMED_ID_WORDS = (
    "passport", "passeport", "reisepass", "pasaporte", "passaporto", "paspoort", "paszport", "паспорт", "licen",
    "führerschein", "permis", "insurance", "national i", "identity card", "id card", "ausweis", "identité", "tax id",
    "taxpayer", "pesel", "bsn", "burgerservice", "steuer", "idnr", "tax file", "tfn", "personnummer", "fodselsnummer",
    "fødselsnummer", "cpr", "cpf", "nhs", "medicare", "aadhaar", "sécu", "insee", "registre", "rijksregister", "dni ",
    "dni:", "nie ", "nie:", "nif ", "nif:", "fiscal", "c.f.", "ni no", "ni number", "nino", "versicherungsn", "svnr",
    "ahv", "cédula", "curp", "rut ", "rut:", "rodné", "pps", "hetu", "henkilötunnus", "green card", "dl#", "dl no",
    "rg ", "pass-nr", "versicherten", "identifikationsnummer", "ein/", "ein:", "ein ", "tin:", "tin ", "инн", "снилс",
    "soc sec", "sin ", "護照", "护照", "身份证", "身分證", "旅券", "マイナンバー", "여권", "주민등록번호",
)  # fmt: skip
# In lower-cased text: without a flag for case a search skips what none of its words begins with.
_NAMED_ID = re.compile(
    r"(?:\b(?:passport|passeport|reisepass|pasaporte|passaporto|paspoort|paszport|паспорт|(?:driv(?:er'?s?"
    r"|ing) )?licen[cs]e(?<=[rsg] licen[cs]e)|licen[cs]e(?= (?:number|no\b\.?):? [a-z]{5}\d)"
    r"|führerschein|permis de conduire|social insurance|national (?:id|identity|insurance)(?: card)?|personalausweis"
    r"|ausweis|carte d'identité|(?:identity|id|green) card|tax id|taxpayer id(?:entification)?|pesel|bsn"
    r"|burgerservicenummer|steuer[- ]?id(?:entifikations)?|steuerliche identifikationsnummer|pass-?nr\b\.?"
    r"|steueridentifikationsnummer|steuernummer|(?:steuer-?)?idnr\b\.?"
    r"|tax file|tfn|personnummer|f[oø]dselsnummer(?:et)?|cpr|cpf|nhs|medicare|aadhaar|(?:sécurité sociale|sécu)|insee"
    r"|registre national|rijksregisternummer|ahv|dni|ni[ef]|(?:codice|código) fiscal[e]?|c\.f\.|ni(?= n)|nino"
    r"|(?:sozial|renten|kranken)versicherungsn(?:umme)?r\b\.?|(?:kranken)?versichertennummer"
    r"|rg(?= \d{1,2}\.\d{3}\.\d{3})|svnr|cédula|curp|rut|rodné číslo|ppsn?|hetu|henkilötunnus|dl(?= ?#| no)|ein/tin"
    r"|soc sec"
    r"|sin(?= \d{3}[ -]\d{3}[ -]\d{3}\b)"
    r"|(?:ein|tin)(?=:| number| no\b| \d\d-\d{7}\b)|инн|снилс)(?:nummer|nr)?(?:\b|(?<=\.))"
    r"|護照|护照|身份证|身分證|旅券|マイナンバー|여권|주민등록번호)(?:号码?|號碼?|번호)?"
    r"(?:-?(?: |(?<=-))(?:number|numéro|nummer|número|numero|numer|no\b\.?|nr\b\.?|n[°º]|card|code|id))?"
    r"(?: (?:mitt|mio))?"
    r"(?:[ :#=*-]{1,4}(?:is|was|of|to|es|é|è|er|est|ist|lautet)?\b[ :*\"]{0,4}|[は是为：:] ?){0,1}"
    r"((?:(?!of |to |in |is |at |by |on |no |as |or )[a-z]{1,2} |[a-z]{0,8}-?)\d"
    r"(?:[./-]?[0-9a-z]| (?=\d|[a-z](?![a-z])|[a-z]{1,4}\d)[0-9a-z]){5,18})(?!\w)"
)  # fmt: skip
_NO_ID = re.compile(
    r"\d{1,2}([./-])\d{1,2}\1(?:19|20)?\d\d|(?:19|20)\d\d([./-])\d{1,2}(?:\2\d{1,2})?|(?:19|20)\d\d/\d\d\d?"
)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_LETTERS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_VERHOEFF_TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432", "7659821043",
    "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_TURN = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
# Codice fiscale: what a character at an odd place (counted from 1) is worth.
_FISCAL_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
         10, 22, 25, 24, 23],
        strict=True,
    )
)  # fmt: skip


def national_ids_in(text: str) -> Iterator[tuple[int, int]]:
    """Spans of national ids whose check digits are right, and of ids that are named (``passport number ...``)."""
    for match in _NATIONAL_ID.finditer(text):
        if match.lastindex and _CHECKS[match.lastindex](match[0]):
            yield match.span()
    lowered = lower(text)
    if any(word in lowered for word in _NAMED_ID_WORDS):
        yield from (match.span(1) for match in _NAMED_ID.finditer(lowered) if _is_named_id(match[1]))


def _is_named_id(value: str) -> bool:
    """Whether what stands behind the name of an id is one, and no date."""
    enough = sum(map(str.isdigit, value)) >= 5 or (len(value) >= 8 and is_random(value))
    return enough and not _NO_ID.fullmatch(value)


def _digits(value: str) -> list[int]:
    return [int(c) for c in value if c.isdigit()]


def luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    return sum(d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))) % 10 == 0


def _dni(value: str) -> bool:
    number = value[:-1].rstrip("-").replace(".", "").translate(str.maketrans("XYZ", "012"))
    return _DNI_LETTERS[int(number) % 23] == value[-1]


def _cpf(value: str) -> bool:
    digits = _digits(value)

    def check(size: int) -> int:
        rest = sum(d * (size + 1 - i) for i, d in enumerate(digits[:size])) * 10 % 11
        return rest % 10

    return len(set(digits)) > 1 and check(9) == digits[9] and check(10) == digits[10]


def _aadhaar(value: str) -> bool:
    state = 0
    for place, digit in enumerate(reversed(_digits(value))):
        state = int(_VERHOEFF_TIMES[state][int(_VERHOEFF_TURN[place % 8][digit])])
    return state == 0


def _ahv(value: str) -> bool:
    return sum(d * (3 if i % 2 else 1) for i, d in enumerate(_digits(value))) % 10 == 0


def _belgian(value: str) -> bool:
    digits = "".join(c for c in value if c.isdigit())
    return int(digits[9:]) in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def _nir(value: str) -> bool:
    digits = value.replace(" ", "")
    return int(digits[13:]) == 97 - int(digits[:13]) % 97


def _is_date(month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31


def _personnummer(value: str) -> bool:
    digits = _digits(value)[-10:]
    return _is_date(digits[2] * 10 + digits[3], digits[4] * 10 + digits[5]) and luhn(digits)


def _hetu(value: str) -> bool:
    right = _HETU_LETTERS[int(value[:6] + value[7:10]) % 31] == value[10]
    return right and _is_date(int(value[2:4]), int(value[:2]))


def _chinese(value: str) -> bool:
    """GB 11643: ISO 7064, mod 11-2."""
    if not _is_date(int(value[10:12]), int(value[12:14])):
        return False
    rest = sum(int(c) * (pow(2, 17 - i, 11)) for i, c in enumerate(value[:17])) % 11
    return "10X98765432"[rest] == value[17].upper()


def _korean(value: str) -> bool:
    digits = _digits(value)
    check = (11 - sum(d * (2 + i % 8) for i, d in enumerate(digits[:12])) % 11) % 10
    return _is_date(int(value[2:4]), int(value[4:6])) and check == digits[12]


def _rut(value: str) -> bool:
    digits = _digits(value[:-2])
    rest = 11 - sum(d * (2 + i % 6) for i, d in enumerate(reversed(digits))) % 11
    return ("K" if rest == 10 else str(rest % 11)) == value[-1].upper()


def _nino(value: str) -> bool:
    return value[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _fiscal(value: str) -> bool:
    value = value.replace(" ", "")
    even = sum(int(c) if c.isdigit() else ord(c) - 65 for c in value[1:15:2])
    return chr(65 + (even + sum(_FISCAL_ODD[c] for c in value[0:15:2])) % 26) == value[15]


_CHECKS: dict[int, Callable[[str], bool]] = {
    1: _dni, 2: _cpf, 3: _aadhaar, 5: _ahv, 6: _belgian, 7: _nir, 8: _personnummer, 9: _hetu, 10: _chinese, 11: _korean,
    12: _rut, 13: _nino, 14: _dni, 15: _fiscal,
}  # fmt: skip
