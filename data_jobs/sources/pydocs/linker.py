"""Work out what public names mean across modules: the linking step after every module was scanned on its own.

A *thing* is what one public name denotes: usually one symbol, sometimes several that stand for the same (a Python
definition and the C one that replaces it). It has direct names (``asyncio.gather``, ``asyncio.tasks.gather``) and
inherited ones (``pathlib.Path.with_suffix`` for ``PurePath.with_suffix``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from data_jobs.sources.pydocs.cmodules import live_bindings
from data_jobs.sources.pydocs.symbols import Instance, Link, ModuleScan, Symbol


@dataclass(frozen=True)
class ModuleRef:
    """A name that denotes a module."""

    name: str


@dataclass(frozen=True)
class InstanceRef:
    """A name that denotes an instance of a class."""

    of: Symbol


Ref = ModuleRef | InstanceRef | Symbol


@dataclass(eq=False)
class Thing:
    """What a public name denotes. ``own`` is the last part of the names its symbols were defined under."""

    symbols: list[Symbol]
    names: set[str] = field(default_factory=set)
    inherited: set[str] = field(default_factory=set)

    @property
    def documented(self) -> bool:
        """Whether any of its symbols has a docstring."""
        return any(s.doc for s in self.symbols)


def is_public(dotted: str) -> bool:
    """Whether no part of a dotted name starts with an underscore."""
    return not any(part.startswith("_") for part in dotted.split("."))


class Linker:
    """Resolves names over a set of scans."""

    def __init__(self, scans: Iterable[ModuleScan]) -> None:
        self.scans: dict[str, ModuleScan] = {scan.name: scan for scan in scans}
        self._found: dict[tuple[str, str], list[Ref]] = {}
        self._active: set[tuple[str, str]] = set()
        self._exports: dict[tuple[str, bool], set[str]] = {}
        self._live: dict[tuple[str, str], list[Ref]] = {}
        self._take_docs()

    def _take_docs(self) -> None:
        for scan in self.scans.values():
            if not scan.doc and scan.doc_from in self.scans:
                scan.doc = self.scans[scan.doc_from].doc
            tops = [b for bindings in scan.bindings.values() for b in bindings if isinstance(b, Symbol)]
            for symbol in (*tops, *(m for top in tops for m in top.members.values() if isinstance(m, Symbol))):
                if symbol.doc_from and not symbol.doc:
                    found = (r.doc for r in self.resolve(symbol.doc_from) if isinstance(r, Symbol))
                    symbol.doc = max(found, key=len, default="")

    # -- names to refs ------------------------------------------------------------------------------------------------
    def lookup(self, module: str, name: str) -> list[Ref]:
        """What ``name`` means in the scope of ``module``: every definition that may stand behind it."""
        key = (module, name)
        if key in self._found:
            return self._found[key]
        if key in self._active or module not in self.scans:
            return []
        self._active.add(key)
        try:
            refs = _unique(self._lookup(self.scans[module], name))
        finally:
            self._active.discard(key)
        if not self._active:  # inside a cycle of re-exports a result may be partial: keep complete ones only
            self._found[key] = refs
        return refs

    def _lookup(self, scan: ModuleScan, name: str) -> Iterator[Ref]:
        found = False
        for binding in scan.bindings.get(name, ()):
            for ref in self._refs(binding):
                found = True
                yield ref
        for star in scan.stars:
            if name in self.exports(star, star=True):
                for ref in self.lookup(star, name):
                    found = True
                    yield ref
        if not found and f"{scan.name}.{name}" in self.scans:
            yield ModuleRef(f"{scan.name}.{name}")
        elif not found:
            yield from self._late(scan, name)

    def _late(self, scan: ModuleScan, name: str) -> Iterator[Ref]:
        """Names only made at run time: attributes of a value that ``__all__`` lists, types taken from a value."""
        for part in scan.exports or ():
            if part.how == "dir" and part.link:
                yield from self._attribute(self.resolve(part.link), name)
        key = (scan.name, name)
        if key not in self._live:
            self._live[key] = [r for b in live_bindings(*key) if not isinstance(b, Instance) for r in self._refs(b)]
        yield from self._live[key]

    def _refs(self, binding: Symbol | Link | Instance) -> Iterator[Ref]:
        if isinstance(binding, Symbol):
            yield binding
        elif isinstance(binding, Link):
            yield from self.resolve(binding)
        else:
            yield from (
                InstanceRef(s) for s in self.resolve(binding.cls) if isinstance(s, Symbol) and s.kind == "class"
            )

    def resolve(self, link: Link) -> list[Ref]:
        """What a link leads to; several things where a name is bound in branches, none where it leads out of the
        scans.
        """
        if not link.module:
            return [ModuleRef(link.name)] if link.name in self.scans else []
        first, *rest = link.name.split(".")
        refs = self.lookup(link.module, first) or self.lookup("builtins", first)
        for part in rest:
            refs = self._attribute(refs, part)
        return refs

    def _attribute(self, refs: list[Ref], name: str) -> list[Ref]:
        found: list[Ref] = []
        for ref in refs:
            if isinstance(ref, ModuleRef):
                found += self.lookup(ref.name, name)
            else:
                found += self.member(ref.of if isinstance(ref, InstanceRef) else ref, name)
        return _unique(found)

    def member(self, symbol: Symbol, name: str) -> list[Ref]:
        """What an attribute of a class (or of a function) is, inherited ones included."""
        for cls in (symbol, *self.ancestors([symbol])):
            if name in cls.members:
                return self.own_member(cls, name)
        return []

    def own_member(self, cls: Symbol, name: str) -> list[Ref]:
        """What a name in the body of a class itself denotes, its bases left aside."""
        member = cls.members[name]
        if isinstance(member, Symbol):
            return [member]
        first = member.name.partition(".")[0]
        if member.name in cls.members and member.name != name:
            return self.own_member(cls, member.name)
        return [] if first in cls.members and first != name else self.resolve(member)

    def ancestors(self, classes: list[Symbol]) -> list[Symbol]:
        """Base classes, nearest first (breadth first; close enough to the MRO for finding documentation)."""
        queue, seen = list(classes), list(classes)
        for cls in queue:
            for base in cls.bases:
                for ref in self.resolve(base):
                    if isinstance(ref, Symbol) and ref.kind == "class" and ref not in seen:
                        seen.append(ref)
                        queue.append(ref)
        return seen[len(classes) :]

    # -- what a module exports ----------------------------------------------------------------------------------------
    def exports(self, module: str, star: bool = False) -> set[str]:
        """Public names of a module: its ``__all__``, and what it defines itself or takes from private modules.

        ``star`` asks instead for what ``from module import *`` would bind. ``__all__`` decides about imported names
        only: the library forgets documented functions in it (asyncio.TaskGroup in 3.11, pkgutil.resolve_name).
        """
        key = (module, star)
        scan = self.scans.get(module)
        if scan is None:
            return set()
        if key not in self._exports:
            self._exports[key] = set()  # what a cycle of modules sees
            listed = self._listed(scan) if scan.exports is not None else set()
            self._exports[key] = listed if star and scan.exports is not None else listed | self._open(scan, star)
        return self._exports[key]

    def _listed(self, scan: ModuleScan) -> set[str]:
        names: set[str] = set()
        for part in scan.exports or ():
            names.update(part.names)
            for ref in self.resolve(part.link) if part.link else ():
                if isinstance(ref, ModuleRef):
                    names |= self.exports(ref.name)
                elif isinstance(ref, InstanceRef) and part.how == "dir":
                    names.update(n for c in (ref.of, *self.ancestors([ref.of])) for n in c.members)
        return names

    def _open(self, scan: ModuleScan, star: bool) -> set[str]:
        stars = [s for s in scan.stars if scan.exports is None or s.startswith(f"{scan.name}.")]
        names = {name for other in stars for name in self.exports(other, star=True)}
        for name, bindings in scan.bindings.items():
            if star or any(self._re_exported(scan, b) for b in bindings):
                names.add(name)
        return {n for n in names - scan.deleted if not n.startswith("_") or n == "__import__"}

    @staticmethod
    def _re_exported(scan: ModuleScan, binding: Symbol | Link | Instance) -> bool:
        if isinstance(binding, Symbol):
            return True
        if scan.exports is not None:
            return False
        if isinstance(binding, Instance):
            return True
        if not binding.module:
            return False
        if binding.module == scan.name or scan.source == scan.name:
            return True  # ``name = other`` in a Python module; anything in a compiled one
        inside = scan.package and binding.module.startswith(f"{scan.name}.")
        return inside or not is_public(binding.module)


def _unique(refs: Iterable[Ref]) -> list[Ref]:
    return list(dict.fromkeys(refs))
