"""Read modules written in C, which have no source to parse: the only place that imports what it documents.

Only names on ``ALLOWED`` are imported, and only from the interpreter itself or its own extension folder, so that a
file called ``math.py`` in the working directory is never run. Modules with side effects at import (readline writes to
the terminal), tests and examples are not on the list.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_jobs.sources.pydocs.symbols import Binding, Link, ModuleScan, Symbol, clean

_ALLOWED_NAMES = """
    _abc _ast _asyncio _bisect _blake2 _bz2 _codecs _collections _contextvars _crypt _csv _ctypes _curses
    _curses_panel _datetime _dbm _decimal _elementtree _functools _gdbm _hashlib _heapq _io _json _locale _lsprof
    _lzma _md5 _multiprocessing _opcode _operator _pickle _posixshmem _posixsubprocess _queue _random _sha1 _sha2
    _sha256 _sha3 _sha512 _signal _socket _sqlite3 _sre _ssl _stat _statistics _string _struct _symtable _thread
    _tkinter _tokenize _tracemalloc _typing _uuid _warnings _weakref _zoneinfo array atexit audioop binascii builtins
    cmath errno faulthandler fcntl gc grp itertools marshal math mmap nis ossaudiodev posix pwd pyexpat resource
    select spwd sys syslog termios time unicodedata zlib
"""
ALLOWED = frozenset(_ALLOWED_NAMES.split())
# Python modules this very module has loaded, for the few names that only exist at run time: ``Pattern = type(...)``.
LIVE: dict[str, types.ModuleType] = {"hashlib": hashlib, "re": re, "types": types}

_SIGNATURE_LINE = re.compile(r"[A-Za-z_][\w.]*(\([^\n]*?\))(?:\s*(?:->|--|$).*)?\Z")
_NOT_DOCUMENTATION = ("Initialize self.  See help(type(self))", "Create and return a new object.")


def available() -> list[str]:
    """The allowed C modules this interpreter has, sorted."""
    return sorted(name for name in ALLOWED if _is_own(name))


def _is_own(name: str) -> bool:
    if name in sys.builtin_module_names:
        return True
    spec = importlib.util.find_spec(name)
    homes = {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")}
    homes.add(Path(sysconfig.get_config_var("DESTSHARED") or "/nonexistent").resolve())
    return bool(spec and spec.origin and homes & set(Path(spec.origin).resolve().parents))


def scan_compiled(name: str) -> ModuleScan:
    """Import one allowed module and read its docstrings.

    Raises:
        ValueError: the module is not on the allow-list.
        ImportError: it cannot be loaded (a missing shared library, say).
    """
    if name not in ALLOWED:
        raise ValueError(f"{name} is not on the list of modules that may be imported")
    module = importlib.import_module(name)
    scan = ModuleScan(name, name, doc=clean(module.__doc__))
    for attribute in sorted(vars(module)):
        if not attribute.startswith("__") or attribute == "__import__":
            for binding in bindings_of(name, attribute, vars(module)[attribute]):
                scan.bind(attribute, binding)
    return scan


def live_bindings(module: str, name: str) -> list[Binding]:
    """What ``module.name`` is in this process, for the modules in ``LIVE``; else nothing."""
    value = vars(LIVE[module]).get(name) if module in LIVE else None
    return [] if inspect.isfunction(value) else bindings_of(module, name, value)


def bindings_of(module: str, name: str, value: Any) -> list[Binding]:
    """A link for a value another allowed module defines, a symbol for a class or function, nothing for data."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return []
    home = getattr(value, "__module__", None) or module
    own = getattr(value, "__qualname__", name)
    if home == module and own == name:
        return [_symbol(module, name, value)]
    if home in ALLOWED and _attribute(home, own) is value:
        return [Link(home, own)]
    # The type names another home (``_datetime.date`` says ``datetime``): both are kept, the linker joins them.
    return [_symbol(module, name, value), *([Link(home, own)] if isinstance(home, str) else [])]


def _attribute(module: str, qualname: str) -> Any:
    value: Any = sys.modules.get(module)
    for part in qualname.split("."):
        value = getattr(value, part, None)
    return value


def _symbol(module: str, name: str, value: Any) -> Symbol:
    if not inspect.isclass(value):
        return Symbol("function", module, name, *_doc_and_signature(value), source=module, compiled=True)
    symbol = Symbol("class", module, name, *_doc_and_signature(value), source=module, compiled=True)
    symbol.bases = [Link(base.__module__, base.__qualname__) for base in value.__bases__ if base is not object]
    for member, raw in sorted(vars(value).items()):
        if member == "__init__" or (not member.startswith("_") and not isinstance(raw, int | str | float)):
            found = _member(module, f"{name}.{member}", raw)
            if found is not None:
                symbol.members[member] = found
    return symbol


def _member(module: str, qualname: str, raw: Any) -> Symbol | None:
    if inspect.isclass(raw):
        return None  # nested types of C classes are data (``__class__``), not API
    value = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw
    if inspect.isdatadescriptor(value):
        return Symbol("property", module, qualname, clean(value.__doc__), source=module, compiled=True)
    if inspect.isroutine(value):
        return Symbol("function", module, qualname, *_doc_and_signature(value), source=module, compiled=True)
    return None


def _doc_and_signature(value: Callable[..., Any]) -> tuple[str, str]:
    doc = clean(value.__doc__)
    if doc.startswith(_NOT_DOCUMENTATION):
        doc = ""
    given = getattr(value, "__text_signature__", None)
    if given:
        given = re.sub(r"\(\$\w+(?:, /)?(?:, )?", "(", given, count=1).replace("<unrepresentable>", "...")
        return doc, " ".join(given.split())
    first = _SIGNATURE_LINE.match(doc.partition("\n")[0])  # the older convention: the signature opens the docstring
    return doc, first.group(1) if first else ""
