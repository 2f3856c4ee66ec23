"""Characters of symbol fonts in Word files, as the characters that they show (Adobe's Symbol encoding, Wingdings)."""

from __future__ import annotations

import re

_GREEK = dict(zip("abcdefghijklmnopqrstuvwxyz", "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)) | dict(
    zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)
)
_SIGNS = {'"': "∀", "$": "∃", "'": "∋", "*": "∗", "-": "−", "@": "≅", "\\": "∴", "^": "⊥", "~": "∼"}
# From 0xA0 on; a blank where the sign is a part of a larger one.
_UPPER = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|―↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑"
_SYMBOL = (
    {chr(code): chr(code) for code in range(0x20, 0x7F)} | _GREEK | _SIGNS
    | {chr(code): sign for code, sign in enumerate(_UPPER, start=0xA0)} | {"\xf1": "〉", "\xf2": "∫"}
)  # fmt: skip
_DINGBATS = {
    "\xfc": "✓", "\xfb": "✗", "\xfe": "☑", "\xfd": "☒", "\xa8": "☐", "\x6f": "☐", "\xe0": "→", "\xf0": "⇨",
    "\xdf": "←", "\xe1": "↑", "\xe2": "↓", "J": "☺", "K": "😐", "L": "☹", "\x28": "☎", "\x2a": "✉",
}  # fmt: skip
_PRIVATE = re.compile("[\uf020-\uf0ff]")


def symbol_of(font: str, code: str) -> str:
    """The character at a place (hexadecimal) of a font; empty where nobody knows what it shows."""
    if not code or len(code) > 6 or not all(c in "0123456789abcdefABCDEF" for c in code):
        return ""
    place = int(code, 16)
    # Symbol fonts keep their 256 places in a private area of Unicode.
    private = 0xF000 <= place <= 0xF0FF
    byte = chr(place & 0xFF) if private or place < 0x100 else ""
    name = font.lower()
    if name == "symbol" and byte:
        return _SYMBOL.get(byte, "")
    if ("wingdings" in name or "webdings" in name) and byte:
        return _DINGBATS.get(byte, "") if name == "wingdings" else ""
    known = not private and place < 0x110000 and not 0xD800 <= place <= 0xDFFF and not 0xE000 <= place <= 0xF8FF
    return chr(place) if known and place >= 0x20 else ""


def without_private_use(text: str, font: str) -> str:
    """Text of a run in a symbol font with the characters that it shows, where they are known."""
    if not _PRIVATE.search(text):
        return text
    return _PRIVATE.sub(lambda found: symbol_of(font, f"{ord(found[0]):x}") or found[0], text)
