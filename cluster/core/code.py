"""Which source files a result depends on: part of a run_key and of a cache's key, so that new code does its work again.

A list kept by hand forgets the module somebody adds tomorrow, and then yesterday's outcome is taken for today's.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def modules_behind(module: str, within: str) -> tuple[str, ...]:
    """The file ``module`` and every file below the folder ``within`` that it imports, directly or not, sorted.

    Paths are relative to the project root. Imports inside functions count, as do the packages' own ``__init__``.
    """
    seen: set[str] = set()
    queue = [module]
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        queue += [found for name in _imports(path) for found in _files(name, within)]
    return tuple(sorted(seen))


@functools.cache
def _imports(path: str) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _files(name: str, within: str) -> list[str]:
    """A dotted name's file and those of the packages around it, as far as they are below ``within``."""
    parts = name.split(".")
    if parts[0] != within:
        return []
    found = []
    for end in range(1, len(parts) + 1):
        base = "/".join(parts[:end])
        found += [path for path in (f"{base}.py", f"{base}/__init__.py") if (ROOT / path).is_file()]
    return found
