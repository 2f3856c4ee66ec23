"""What a scan of one module yields: symbols with their docstrings, and links to names defined elsewhere.

A scan knows one module only and is plain picklable data, so that scans can be made anywhere and in any order; what a
name means across modules is worked out afterwards by ``linker``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Literal

SymbolKind = Literal["function", "class", "property"]


@dataclass(frozen=True)
class Link:
    """A name to be looked up later: ``name`` (dotted) in the scope of ``module``; ``module == ""`` names a module."""

    module: str
    name: str


@dataclass(frozen=True)
class Instance:
    """A value made by calling something: attributes are looked up in what ``cls`` resolves to."""

    cls: Link


@dataclass(eq=False)
class Symbol:
    """A function, class or property with its docstring (cleaned) as one module defines it.

    Two symbols are never equal: the linker tells them apart by identity. ``doc_from`` names what the docstring is
    taken from where the module assigns ``f.__doc__ = g.__doc__``.
    """

    kind: SymbolKind
    module: str
    name: str
    doc: str = ""
    signature: str = ""
    source: str = ""
    compiled: bool = False
    doc_from: Link | None = None
    members: dict[str, Symbol | Link] = field(default_factory=dict)
    bases: list[Link] = field(default_factory=list)


Binding = Symbol | Link | Instance


@dataclass(frozen=True)
class Export:
    """One part of an ``__all__``: ``names`` given literally, or those of another scope.

    ``how``: ``names``; ``all`` (the ``__all__`` of the module ``link``); ``public`` (its public names); ``dir`` (the
    public attributes of the value ``link``).
    """

    how: Literal["names", "all", "public", "dir"]
    names: tuple[str, ...] = ()
    link: Link | None = None


@dataclass
class ModuleScan:
    """One module: its docstring (or the module ``doc_from`` it takes it from) and bindings.

    ``uses`` are the names its code uses (``usage``).
    ``exports`` is None where there is no readable ``__all__``. ``deleted`` names are not public, but what was
    bound through them lives on.
    """

    name: str
    source: str
    package: bool = False
    doc: str = ""
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    exports: list[Export] | None = None
    doc_from: str = ""
    uses: frozenset[str] = frozenset()

    def bind(self, name: str, binding: Binding) -> None:
        """Note that the module binds this name, beside what it bound it to before."""
        self.bindings.setdefault(name, []).append(binding)


def clean(doc: object) -> str:
    """A docstring without its indentation; empty for anything that is not text."""
    return inspect.cleandoc(doc).strip() if isinstance(doc, str) else ""
