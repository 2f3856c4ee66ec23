"""Equations of Word files (Office MathML) as one line of text: ``(a)/(b)``, ``x^2``, ``√(x)``."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 60


def equation(element: Any, depth: int = 0) -> str:
    """An equation, or a part of one, as text. Parts that are nested too deep are empty."""
    if depth > MAX_DEPTH:
        return ""
    kind = _name(element)
    if kind == "t":
        return element.text or ""
    if kind.endswith("Pr"):
        return ""

    def part(name: str) -> str:
        return "".join(equation(e, depth + 1) for e in element if _name(e) == name)

    def parts() -> str:
        return "".join(equation(e, depth + 1) for e in element if isinstance(e.tag, str))

    def option(name: str, default: str) -> str:
        for child in (e for e in element if _name(e).endswith("Pr")):
            for setting in (e for e in child if _name(e) == name):
                return next((str(v) for k, v in setting.attrib.items() if k.endswith("}val")), "")
        return default

    if kind == "f":
        return f"{_grouped(part('num'))}/{_grouped(part('den'))}"
    if kind in ("sSup", "sSub", "sSubSup", "sPre"):
        low, high = part("sub"), part("sup")
        scripts = (f"_{_grouped(low)}" if low else "") + (f"^{_grouped(high)}" if high else "")
        return f"{scripts}{part('e')}" if kind == "sPre" else f"{part('e')}{scripts}"
    if kind == "rad":
        degree = part("deg")
        return f"√({part('e')})" if not degree else f"root({degree}, {part('e')})"
    if kind == "nary":
        low, high = part("sub"), part("sup")
        scripts = (f"_{_grouped(low)}" if low else "") + (f"^{_grouped(high)}" if high else "")
        return f"{option('chr', '∫')}{scripts} {part('e')}"
    if kind == "d":
        inner = option("sepChr", "|").join(equation(e, depth + 1) for e in element if _name(e) == "e")
        return f"{option('begChr', '(')}{inner}{option('endChr', ')')}"
    if kind == "func":
        return f"{part('fName')} {_grouped(part('e'))}"
    if kind == "m":
        return "; ".join(equation(e, depth + 1) for e in element if _name(e) == "mr")
    if kind == "mr":
        return ", ".join(equation(e, depth + 1) for e in element if _name(e) == "e")
    if kind in ("limLow", "limUpp"):
        return f"{part('e')}{'_' if kind == 'limLow' else '^'}{_grouped(part('lim'))}"
    if kind == "eqArr":
        return "; ".join(equation(e, depth + 1) for e in element if _name(e) == "e")
    return parts()


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _grouped(text: str) -> str:
    return text if len(text) == 1 or text.isalnum() else f"({text})"
