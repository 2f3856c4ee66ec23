"""The standard library on this machine: which modules it has, reading them one by one, and the files they are in.

Python modules are read with ``ast``, C modules through an allow-list (``cmodules``). Nothing is imported for its
effects. What the modules' symbols are called in public is not decided here (``documents``).
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.core.errors import BadInputError
from cluster.core.records import Document, Quarantined, stable_hash
from data_jobs.sources.pydocs import cmodules
from data_jobs.sources.pydocs.asked import questions_version
from data_jobs.sources.pydocs.pysource import scan_python
from data_jobs.sources.pydocs.symbols import ModuleScan

# Not part of the library people use: tests, demos, easter eggs, vendored or frozen things, tools kept for themselves.
_EXCLUDED_NAMES = """
    antigravity this idlelib turtledemo test tests lib2to3 distutils pydoc_data site-packages dist-packages lib-dynload
    encodings.* ensurepip._bundled ensurepip._uninstall ctypes.macholib msilib xxlimited xxsubtype
"""
EXCLUDED = frozenset(_EXCLUDED_NAMES.split())


def stdlib_root() -> Path:
    """The folder that the standard library's source files are in."""
    return Path(sysconfig.get_path("stdlib")).resolve()


def module_files() -> dict[str, Path]:
    """Every Python module of the standard library that is read, private ones included: name to file, sorted.

    Raises:
        BadInputError: the standard library is not there as source files.
    """
    root = stdlib_root()
    found = dict(sorted(_walk(root, "")))
    if "json" not in found:
        raise BadInputError(f"the standard library's source files are not in {root}; install Python with its library")
    return found


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        name = prefix + path.stem
        if path.name.startswith("__") and path.name != "__init__.py":
            continue
        if name in EXCLUDED or path.stem in ("test", "tests") or (prefix and f"{prefix}*" in EXCLUDED):
            continue
        if path.suffix == ".py":
            if path.name != "__init__.py" and path.stem.isidentifier():
                yield name, path
        elif (path / "__init__.py").is_file() and path.name.isidentifier():
            yield prefix + path.name, path / "__init__.py"
            yield from _walk(path, f"{prefix}{path.name}.")


def module_names() -> list[str]:
    """Everything ``scan_modules`` can be asked for."""
    return sorted({*module_files(), *cmodules.available()})


def library_version() -> str:
    """Hash of what the documents are made from: Python's build, sources and C modules, and the shipped questions."""
    root = stdlib_root()
    files = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in module_files().values()
    }
    compiled = cmodules.available()
    return stable_hash({"python": sys.version, "files": files, "compiled": compiled, "questions": questions_version()})


def scan_modules(names: Sequence[str]) -> tuple[list[ModuleScan], list[Quarantined]]:
    """Scan modules by name; and those that cannot be read (bad syntax, a missing shared library), with the reason."""
    files, root = module_files(), stdlib_root()
    scans: list[ModuleScan] = []
    refused: list[Quarantined] = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecation of modules that are documented all the same
                scans.append(scan_python(name, files[name], root) if name in files else cmodules.scan_compiled(name))
        except (SyntaxError, UnicodeDecodeError, ImportError, OSError) as error:
            refused.append(Quarantined(name, "", "unreadable_module", str(error)[:200]))
    return scans, refused


def with_files(documents: Iterable[Document]) -> list[Document]:
    """The documents with the hash and the bytes of the file each is in; compiled modules have none."""
    root = stdlib_root()
    known: dict[str, tuple[str, tuple[int, ...]]] = {}

    def of(name: str) -> tuple[str, tuple[int, ...]]:
        path = root / name
        if not name.endswith(".py") or not path.is_file():
            return "", ()
        data = path.read_bytes()
        return hashlib.sha256(data).hexdigest(), (0, len(data))

    found = []
    for document in documents:
        name = document.source.rpartition(":")[0] or document.source
        if name not in known:
            known[name] = of(name)
        digest, span = known[name]
        found.append(replace(document, file_sha256=digest, span=span))
    return found
