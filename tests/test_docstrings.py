"""What is public says what it is for: every function, class and method with a name for others has a docstring."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A new top-level folder joins here.
FOLDERS = ("cluster/core", "cluster", "actors", "data_jobs", "train_jobs", "serve_apps")


def folder_of(path: Path) -> str:
    return max((folder for folder in FOLDERS if path.as_posix().startswith(f"{folder}/")), key=len)


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A module; all of them take seconds."""
    return ast.parse((ROOT / path).read_text())


def modules() -> list[Path]:
    """Every module of the project."""
    found = {path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    return sorted(found)


def members(cls: ast.ClassDef) -> dict[str, ast.stmt]:
    """What the body of a class names: methods and attributes."""
    found: dict[str, ast.stmt] = {}
    for node in cls.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return found


def protocols(trees: Iterable[ast.Module]) -> list[dict[str, bool]]:
    """Of every Protocol class: its members, and whether it documents each."""
    found = []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).startswith("Protocol") for base in node.bases):
                named = members(node).items()
                functions = ast.FunctionDef | ast.AsyncFunctionDef
                found.append({name: isinstance(m, functions) and bool(ast.get_docstring(m)) for name, m in named})
    return [protocol for protocol in found if protocol]


def undocumented(tree: ast.Module, known: list[dict[str, bool]]) -> Iterator[str]:
    """Public names without a docstring. A method that a Protocol describes needs none in a class that fulfils it."""

    def look(body: list[ast.stmt], prefix: str, described: frozenset[str]) -> Iterator[str]:
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and node.name not in described and not overloaded(node):
                yield f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                own = members(node)
                fulfilled = [protocol for protocol in known if protocol.keys() <= own.keys()]
                names = frozenset(name for protocol in fulfilled for name, told in protocol.items() if told)
                yield from look(node.body, f"{prefix}{node.name}.", names if not is_protocol(node) else frozenset())

    yield from look(tree.body, "", frozenset())


def is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def overloaded(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Setters and overloads belong to a definition that has the docstring."""
    return any(ast.unparse(one).endswith((".setter", "overload")) for one in node.decorator_list)


@pytest.fixture(scope="module")
def known() -> list[dict[str, bool]]:
    return protocols(parsed(path) for path in modules() if "Protocol" in (ROOT / path).read_text())


@pytest.mark.parametrize("folder", sorted(FOLDERS))
def test_public_names_have_docstrings(folder: str, known: list[dict[str, bool]]) -> None:
    paths = [path for path in modules() if folder_of(path) == folder]
    assert paths
    names = [f"{path}: {name}" for path in paths for name in undocumented(parsed(path), known)]
    assert names == [], "these have no docstring:\n" + "\n".join(names)


def test_what_counts() -> None:
    text = '''
class Reader(Protocol):
    def read(self) -> str:
        """All of it."""
    def close(self) -> None: ...
class File:
    """A file."""
    def __init__(self): ...
    def read(self): ...
    def close(self): ...
class Half:
    def read(self): ...
def _private(): ...
def told():
    """Says so."""
'''
    tree = ast.parse(text)
    assert list(undocumented(tree, protocols([tree]))) == [
        "Reader", "Reader.close", "File.close", "Half", "Half.read",
    ]  # fmt: skip
