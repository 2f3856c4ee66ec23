"""Normalise text without changing what it says: encodings repaired, invisible characters out, layout kept.

What runs on documents also runs on requests, so that a word looks the same on both sides. Nothing is lower-cased, no
quotation mark is straightened, no indentation or code block is touched; ``normalise(normalise(x)) == normalise(x)``.
"""

from __future__ import annotations

import re
import unicodedata

# ftfy is asked for mojibake only: its other repairs (quotes, ligatures, width, HTML entities) would rewrite code.
_FTFY_OFF = {
    "unescape_html": False, "remove_terminal_escapes": False, "fix_latin_ligatures": False,
    "fix_character_width": False, "uncurl_quotes": False, "fix_line_breaks": False, "fix_surrogates": False,
    "remove_control_chars": False, "normalization": None, "explain": False,
}  # fmt: skip
# Two characters of mojibake at least: a Latin-1 letter followed by one that UTF-8 continuation bytes turn into.
_MOJIBAKE = re.compile("[Â-ßà-ôĂăĎ×Đđג][\u0080-\u00bf–—‘-”†‡•…‰‹›€™ŒœŠšŽžŸˆ˜ƒ‚„]")
_TERMINAL = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f]")
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Zero-width and soft characters, bidirectional controls, interlinear marks, variation selectors, tag characters (an
# invisible copy of ASCII, used to smuggle instructions), the byte order mark. A whole flag is found first.
_FLAG = "(?<=\U0001f3f4)[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
_INVISIBLE = re.compile(
    f"{_FLAG}|[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
# Variation selectors that choose a form people see: of an ideograph, and text instead of emoji.
_SELECTORS = re.compile("[\ufe00-\ufe0e\U000e0100-\U000e01ef]")
_IDEOGRAPH = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_KEYCAP_BASES = "0123456789#*©®‼⁉™ℹ"
_JOINERS = re.compile("[\u200c\u200d]")
# Scripts in which the joiner and non-joiner change the shape, and so the meaning, of a word.
_JOINING = re.compile(
    "[\u0600-\u06ff\u0700-\u07ff\u0840-\u08ff\u0900-\u0dff\u1000-\u109f\u1700-\u18af\u1900-\u1cff\ua840-\ua87f\ua880-\ua8ff"
    "\ua930-\ua9ff\uaa00-\uaa7f\uaae0-\uaaff\uabc0-\uabff\ufb50-\ufdff\ufe70-\ufefc\U00010a00-\U00010fff\U00011000-\U00011fff"
    "\U0001e900-\U0001e95f]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t\u00a0]+(?=\n|\Z)")
_BLANKS = re.compile(r"\n{4,}")


def normalise(text: str) -> str:
    """NFC, mojibake repaired, one kind of line end, no invisible or control characters, no trailing blanks.

    More than two blank lines become two; leading and trailing blank lines go. Lone surrogates become U+FFFD.
    """
    if text.isascii() and text.isprintable():  # one plain line, the most common case: nothing below applies
        return text.rstrip(" ")
    before = None
    while before != text:  # twice for most: taking an invisible character out can bring two others together
        before, text = text, _once(text)
    return text


def _once(text: str) -> str:
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
        if _MOJIBAKE.search(text):
            text = _repaired(text)
    text = strip_invisible(_BREAKS.sub("\n", text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = _TRAILING.sub("", text)
    return _BLANKS.sub("\n\n\n", text).strip("\n")


def strip_invisible(text: str) -> str:
    """Remove characters that show nothing: C0 and C1 controls (but tab and newline), terminal colours, zero-width, bidi
    and tag characters.

    The zero-width joiner and non-joiner stay between letters of scripts that need them (Arabic, Persian, Indic, ...)
    and in emoji sequences; one variation selector stays after an ideograph or a symbol, tags in the flag of a region.
    """
    text = _CONTROL.sub("", _TERMINAL.sub("", text))
    if text.isascii():
        return text
    text = _INVISIBLE.sub(_kept_selector, text)
    return _JOINERS.sub(_kept_joiner, text) if _JOINERS.search(text) else text


def has_invisible(text: str) -> bool:
    """Whether ``strip_invisible`` would change the text."""
    return strip_invisible(text) != text


def _kept_selector(match: re.Match[str]) -> str:
    if len(match[0]) > 1:  # a flag
        return match[0]
    before = match.string[match.start() - 1 : match.start()]
    if not before or not _SELECTORS.match(match[0]):
        return ""
    if match[0] > "\uffff" or (match[0] < "\ufe0e" and _IDEOGRAPH.match(before)):
        return match[0] if _IDEOGRAPH.match(before) else ""
    symbol = before in _KEYCAP_BASES or unicodedata.category(before) in ("So", "Sm")
    return match[0] if symbol and match[0] in "\ufe00\ufe0e" else ""


def _kept_joiner(match: re.Match[str]) -> str:
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    if _JOINING.match(before) and (not after or _JOINING.match(after) or after.isspace()):
        return match[0]
    emoji = match[0] == "\u200d" and _is_pictograph(before) and _is_pictograph(after)
    return match[0] if emoji else ""


def _is_pictograph(char: str) -> bool:
    return bool(char) and (unicodedata.category(char) in ("So", "Sk", "Sm") or char == "\ufe0f")


def _repaired(text: str) -> str:
    import ftfy

    return ftfy.fix_text(text, ftfy.TextFixerConfig(**_FTFY_OFF))  # type: ignore[arg-type]
