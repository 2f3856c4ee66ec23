"""Text of others where a terminal may show it."""

from __future__ import annotations

LINES = "\n\t"


def printable(text: str, keep: str = LINES) -> str:
    """Text with what would steer the terminal, or the direction of writing, as escapes (as JSON has them); line ends
    and tabs stay, or whatever is to be kept."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
