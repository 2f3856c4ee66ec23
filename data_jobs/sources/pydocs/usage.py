"""Which public names a module's code uses: what a library itself relies on is what people ask about most.

The count of using modules becomes ``Document.references``, a static rank for search, as links are for web pages.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from collections.abc import Iterable

_BUILTINS = frozenset(dir(builtins))


def used_names(tree: ast.Module) -> frozenset[str]:
    """Qualified names imported or used anywhere in a module, as far as its absolute imports tell; bare names of
    builtins as they are (``len``)."""
    origin: dict[str, str] = {}
    used: set[str] = set()
    seen: list[ast.Name | ast.Attribute] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                used.add(alias.name)
                top = alias.name.partition(".")[0]
                origin[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            used.add(node.module)
            for alias in node.names:
                origin[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                used.add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Name | ast.Attribute):
            seen.append(node)
    for name in seen:
        parts: list[str] = []
        value: ast.expr = name
        while isinstance(value, ast.Attribute):
            parts.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name) and (value.id in origin or (not parts and value.id in _BUILTINS)):
            used.add(".".join([origin.get(value.id, value.id), *reversed(parts)]))
    return frozenset(used)


def count_uses(uses: Iterable[tuple[str, frozenset[str]]]) -> Counter[str]:
    """In how many modules each name is used, a module's use of its own names left out: ``(module, names)`` pairs."""
    counted: Counter[str] = Counter()
    for module, names in uses:
        counted.update(name for name in names if not name.startswith(f"{module}."))
    return counted
