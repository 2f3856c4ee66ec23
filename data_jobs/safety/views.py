"""A text as somebody may have meant it: words in plain letters, once for each disguise that was undone.

Disguises undone: compatibility forms and accents (NFKD), look-alikes of other scripts (the idea of UTS #39's skeleton),
invisible and tag characters, letters apart, words run together, leetspeak, words backwards, rot13, base64, hexadecimal,
percent signs, entities, braille. Everything here takes time linear in the length of the text.

The table of look-alikes is made from the names of the characters in Python's own ``unicodedata`` and a list by hand
of letters of other scripts that look like ASCII; no file of the Unicode consortium is copied.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Collection, Iterator
from functools import cache

from data_jobs.text.normalise import strip_invisible

DEEPEST = 2  # disguises inside one another: base64 of rot13 is undone, three layers are not
LONGEST_WORD = 64  # characters of a word that are looked at as one; a longer run is cut up
APART = 4  # this many single letters in a row are a word written apart
RUN_TOGETHER = 14  # letters of what may be several words run together; few English words are longer
KNOWN, FEWEST = 0.8, 3  # the share of its letters that are known words, and how many those are at least

_WORD = re.compile(r"[a-z0-9]+")
_LEET_WORD = re.compile(r"[a-z0-9@$!|+€]+")
_APOSTROPHE = re.compile("['’‘`´ʼ]")
_INSIDE = re.compile(r"(?<=[a-z])[-_.*~^+=|/\\]{1,3}(?=[a-z])")
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_FORMAT = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff]"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}(?:[\r\n]{1,2}[A-Za-z0-9+/_-]{4,})*")
_HEX = re.compile(r"(?:(?:\\x|0x|)[0-9A-Fa-f]{2}[ ,:]?){10,}")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_LEET = str.maketrans("0134578@$!|+€", "oieastbasiite")
_LEET_L = str.maketrans("0134578@$!|+€", "oleastbaslite")
_ROT13 = str.maketrans("abcdefghijklmnopqrstuvwxyz", codecs.encode("abcdefghijklmnopqrstuvwxyz", "rot13"))
_UPRIGHT = str.maketrans("ɐqɔpǝɟƃɓɥᴉıɾʞןɯuodbɹsʇnʌʍxʎz", "abcdefgghiijklmnopqrstuvwxyz")
_BRAILLE = "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵"

# Letters that look like ASCII ones: Cyrillic, Greek, Armenian, Cherokee, and a few whose names do not say so.
_LOOK_ALIKE = {
    "a": "аɑαᎪ⍺ΑАꭺ", "b": "ЬьВΒᏴƄᖯβ", "c": "сϲСϹᏟᴄⅽ", "d": "ԁᏧᎠⅾժ", "e": "еєЕΕᎬҽ℮ε", "f": "ϝғſẝ",
    "g": "ɡցԌᏀց", "h": "һНΗᎻհн", "i": "іІΙıɩιӏᎥⅰӀ", "j": "јЈϳᎫյ", "k": "кκКΚᏦ", "l": "ⅼℓᏞⳑ",
    "m": "мМΜᎷⅿ", "n": "ոռΝηп", "o": "оοοОΟօσᴏ０௦", "p": "рρРΡᏢթ", "q": "ԛզգ", "r": "гᎡᏒᴦг",
    "s": "ѕЅᏚꜱՏ", "t": "тτТΤᎢ", "u": "υսцμᴜ", "v": "νѵᏙⅴѴ", "w": "ԝωшѡᏔԜ", "x": "хχХΧⅹ", "y": "уүУΥγҮყ",
    "z": "ᴢΖᏃ",
}  # fmt: skip
_LETTER = re.compile(
    r"(?:NEGATIVE )?(?:LATIN|MODIFIER|SQUARED|CIRCLED|REGIONAL INDICATOR|PARENTHESIZED)\b.*"
    r"\bLETTER (?:SMALL CAPITAL |SMALL |CAPITAL )?([A-Z])(?: WITH .*)?$"
)


def views(text: str, vocabulary: Collection[str]) -> Iterator[list[str]]:
    """Lower-case words in plain letters and digits of each way to read ``text``: as it is first, every reading once.

    Args:
        vocabulary: words by which those that were run together are told apart.
    """
    seen: set[tuple[str, ...]] = set()
    for words in _readings(text, _lengths(frozenset(vocabulary)), frozenset(vocabulary), DEEPEST):
        key = tuple(words)
        if words and key not in seen:
            seen.add(key)
            yield words


def folded(text: str) -> str:
    """Lower case, plain letters: compatibility forms, accents and look-alikes undone, nothing invisible in it."""
    if text.isascii():
        return text.lower()
    shown = unicodedata.normalize("NFKD", _FORMAT.sub("", strip_invisible(text)).translate(_table()))
    plain = "".join(char for char in shown if not unicodedata.combining(char))
    return plain.translate(_table()).lower()


def words_of(text: str) -> list[str]:
    """The words of a text that was folded; what stands on both sides of an apostrophe is one."""
    return [
        word[start : start + LONGEST_WORD]
        for word in _WORD.findall(_APOSTROPHE.sub("", text))
        for start in range(0, len(word), LONGEST_WORD)
    ]


def _readings(
    text: str, lengths: dict[str, tuple[int, ...]], vocabulary: frozenset[str], deeper: int
) -> Iterator[list[str]]:
    plain = folded(text)
    words = words_of(plain)
    yield words
    yield from _respelt(words, lengths, vocabulary)
    if _INSIDE.search(plain):
        yield from _respelt(words_of(_INSIDE.sub("", plain)), lengths, vocabulary, itself=True)
    for table in (_LEET, _LEET_L):
        unleet = [w.translate(table) if _mixed(w := one.rstrip("!|+")) else w for one in _LEET_WORD.findall(plain)]
        if unleet != words:
            yield from _respelt(words_of(" ".join(unleet)), lengths, vocabulary, itself=True)
    yield [word[::-1] for word in reversed(words)]
    yield [word[::-1] for word in words]
    yield [word.translate(_ROT13) for word in words]
    if not text.isascii():
        yield words_of(folded(text[::-1].translate(_UPRIGHT)))
    if deeper:
        for hidden in _decoded(text):
            yield from _readings(hidden, lengths, vocabulary, deeper - 1)


def _mixed(word: str) -> bool:
    """Whether letters and what stands for letters are mixed in a word."""
    return not word.isalpha() and any(char.isalpha() for char in word)


def _respelt(
    words: list[str], lengths: dict[str, tuple[int, ...]], vocabulary: frozenset[str], itself: bool = False
) -> Iterator[list[str]]:
    """The words with those written apart put together and those run together taken apart."""
    if itself:
        yield words
    joined: list[str] = []
    changed, at = False, 0
    while at < len(words):
        end = at
        while end < len(words) and len(words[end]) == 1:
            end += 1
        if end - at >= APART:
            joined += _split("".join(words[at:end]), lengths, vocabulary, share=0.0)
            changed, at = True, end
        elif len(words[at]) >= RUN_TOGETHER and (parts := _split(words[at], lengths, vocabulary)) != [words[at]]:
            joined += parts
            changed, at = True, at + 1
        else:
            joined.append(words[at])
            at += 1
    if changed:
        yield joined


def _split(
    run: str, lengths: dict[str, tuple[int, ...]], vocabulary: frozenset[str], share: float = KNOWN
) -> list[str]:
    """A run of letters as known words, the fewest that leave the fewest letters over; what is between them stays
    together. The run itself where it hardly consists of them (``share`` of its letters): parts of a word are no words.
    """
    # Of what begins at each place: letters left over, words, and how long the first of these is (0: a letter).
    best: list[tuple[int, int, int]] = [(0, 0, 0)] * (len(run) + 1)
    for at in range(len(run) - 1, -1, -1):
        left, words, _ = best[at + 1]
        choice = (left + 1, words, 0)
        for length in lengths.get(run[at : at + 2], ()):
            if at + length <= len(run) and run[at : at + length] in vocabulary:
                choice = min(choice, (best[at + length][0], best[at + length][1] + 1, length))
        best[at] = choice
    if share and (best[0][1] < FEWEST or best[0][0] > (1 - share) * len(run)):
        return [run]
    found: list[str] = []
    at = unknown = 0
    while at < len(run):
        if length := best[at][2]:
            found += [run[unknown:at]] if at > unknown else []
            found.append(run[at : at + length])
            unknown = at + length
        at += length or 1
    return found + ([run[unknown:]] if unknown < len(run) else [])


@cache
def _lengths(vocabulary: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """The lengths of the known words by their first two letters, the longest first."""
    found: dict[str, set[int]] = {}
    for word in vocabulary:
        if len(word) > 1:
            found.setdefault(word[:2], set()).add(len(word))
    return {start: tuple(sorted(own, reverse=True)) for start, own in found.items()}


def _decoded(text: str) -> Iterator[str]:
    """What is packed inside a text, each kind of packing by itself."""
    if tags := "".join(_TAGS.findall(text)):
        yield "".join(chr(ord(char) - 0xE0000) for char in tags)
    if "&" in text and (unescaped := html.unescape(text)) != text:
        yield unescaped
    if _PERCENT.search(text):
        yield urllib.parse.unquote(text, errors="ignore")
    if any("\u2800" <= char <= "\u28ff" for char in text):
        yield text.translate(str.maketrans(_BRAILLE + "\u2800", "abcdefghijklmnopqrstuvwxyz "))
    packed = [one for match in _BASE64.finditer(text) if (one := _from_base64(match[0]))]
    packed += [one for match in _HEX.finditer(text) if (one := _from_hex(match[0]))]
    if packed:
        yield "\n".join(packed)


def _from_base64(run: str) -> str:
    plain = re.sub(r"\s", "", run).translate(str.maketrans("-_", "+/"))
    plain = plain[: len(plain) // 4 * 4 + (len(plain) % 4 if len(plain) % 4 > 1 else 0)]
    try:
        return _readable(base64.b64decode(plain + "=" * (-len(plain) % 4)))
    except (binascii.Error, ValueError):
        return ""


def _from_hex(run: str) -> str:
    digits = re.sub(r"\\x|0x|[^0-9A-Fa-f]", "", run)
    return _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _readable(data: bytes) -> str:
    """The text in some bytes; empty where they are none."""
    text = data.decode("utf-8", errors="ignore")
    shown = sum(char.isprintable() or char.isspace() for char in text)
    return text if len(text) >= 8 and shown >= 0.9 * len(data.decode("utf-8", errors="replace")) else ""


@cache
def _table() -> dict[int, str]:
    """Character -> the ASCII letter that it looks like or is a form of."""
    table = {ord(char): letter for letter, chars in _LOOK_ALIKE.items() for char in chars}
    for code in (*range(0x80, 0x2C80), *range(0xA720, 0xAB70), *range(0x1F100, 0x1F200)):
        name = unicodedata.name(chr(code), "")
        if match := _LETTER.match(name):
            table.setdefault(code, match[1].lower())
    return table
