"""Which source files a result depends on: part of the keys of runs and caches, so that new code does its work again.

The files are found by following imports. A list kept by hand forgets the module somebody adds tomorrow, and then
yesterday's outcome is taken for today's.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What decides a result: the nouns and the folders with domain logic. The rest of `cluster` brings work to machines.
RESULTS = ("cluster.core.records", "actors", "data_jobs", "train_jobs", "serve_apps")
# What a running process consists of: all of the project that it imports.
PROCESS = ("cluster", "actors", "data_jobs", "train_jobs", "serve_apps")


def source_hash(*modules: str, within: tuple[str, ...] = RESULTS, root: Path = ROOT) -> str:
    """Hash (16 hex digits) of the source behind ``modules``: dotted names, usually a module's own ``__name__``."""
    digest = hashlib.sha256()
    for path in files_behind(*modules, within=within, root=root):
        digest.update(f"{path}\0".encode() + (root / path).read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def files_behind(*modules: str, within: tuple[str, ...] = RESULTS, root: Path = ROOT) -> tuple[str, ...]:
    """The files of ``modules``, of every module they import, directly or not, and the data files beside those.

    Args:
        within: packages or modules that count; imports of anything else are not followed.

    Returns:
        Paths relative to the project root, sorted. Imports inside functions count, as do the packages' own
        ``__init__``; imports for type checkers only do not.

    Raises:
        ValueError: a name that is no module of the project.
    """
    if missing := [name for name in modules if not _is_module(name, root)]:
        raise ValueError(f"no module of this project: {', '.join(missing)}")
    queue = [path for name in modules for path in _files(name, root)]
    seen: set[str] = set()
    data: set[str] = set()
    followed: set[str] = set()  # most names are imported again and again, and looking for their files takes longest
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        names, files = _read(path, root)
        data |= files
        queue += [found for name in names - followed if _counts(name, within) for found in _files(name, root)]
        followed |= names
    return tuple(sorted(seen | data))


def _read(path: str, root: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Dotted names imported in a file, and the data files beside it that it names."""
    names, strings = _parsed((root / path).read_text())
    return names, frozenset(_data_files(root, path, strings))


@functools.cache
def _parsed(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Dotted names that a source imports, and its strings where it looks for files beside itself."""
    tree = ast.parse(source)
    names: set[str] = set()
    strings: set[str] = set()
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            queue += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
        queue += ast.iter_child_nodes(node)
    looks_beside_itself = any(isinstance(node, ast.Name) and node.id == "__file__" for node in ast.walk(tree))
    return frozenset(names), frozenset(strings if looks_beside_itself else ())


def _data_files(root: Path, module: str, names: frozenset[str]) -> set[str]:
    """Files, and whole folders without code, that stand beside a module under one of ``names``."""
    folder = (root / module).parent
    found: set[str] = set()
    for name in names:
        if not name or "/" in name or "\0" in name or len(name) > 100 or name.startswith("."):
            continue
        path = folder / name
        if path.is_file() and path.suffix != ".py":
            found.add(str(path.relative_to(root)))
        elif path.is_dir() and not (path / "__init__.py").exists():
            found |= {str(file.relative_to(root)) for file in path.rglob("*") if file.is_file()}
    return found


def _counts(name: str, within: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in within)


def _files(name: str, root: Path) -> list[str]:
    """A dotted name's file, if it is a module, and the ``__init__`` of each package around it."""
    parts = name.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        base = "/".join(parts[:end])
        found += [path for path in (f"{base}.py", f"{base}/__init__.py") if (root / path).is_file()]
    return found


def _is_module(name: str, root: Path) -> bool:
    base = root / name.replace(".", "/")
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def code_commit() -> str:
    """Commit of the checkout this code runs from, read from .git without running git; empty outside a checkout."""
    git = ROOT / ".git"
    try:
        if git.is_file():  # a worktree: the file says where its own folder is
            git = Path(git.read_text().removeprefix("gitdir:").strip())
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:12]
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        return (common / head[5:]).read_text().strip()[:12]
    except OSError:
        return ""
