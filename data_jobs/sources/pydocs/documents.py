"""From scans of all modules to documents: one for every documented public thing, under its shortest public name.

Names are re-exported across modules, so ``link`` has to see all scans at once; reading the modules, which is most of
the work, is done one by one before (``stdlib``). The questions shipped for the documents (``asked``) join last.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from cluster.core.records import Document
from data_jobs.sources.pydocs.asked import with_questions
from data_jobs.sources.pydocs.linker import Linker, ModuleRef, Thing, is_public
from data_jobs.sources.pydocs.stdlib import module_names, scan_modules
from data_jobs.sources.pydocs.symbols import Link, ModuleScan, Symbol
from data_jobs.sources.pydocs.usage import count_uses

NAME = "pydocs"  # What every document says it is from.
# Public by spelling, but only the implementation of another module: their names are used where there is no other.
IMPLEMENTATION = frozenset(
    ("genericpath", "ntpath", "posixpath", "posix", "nturl2path", "sre_compile", "sre_constants", "sre_parse")
)
MAX_ALIASES = 24
MAX_TITLE_CHARS = 88


def read_pydocs(modules: Sequence[str] | None = None) -> Iterator[Document]:
    """Documents of the standard library, sorted by id; ``modules`` limits them to some top-level modules.

    Everything is scanned either way, since names are re-exported across modules.
    """
    for document in with_questions(link(scan_modules(module_names())[0]))[0]:
        if modules is None or _top_module(document) in modules:
            yield document


def _top_module(document: Document) -> str:
    top = _top(document.id)
    return top if document.kind == "module" or ("." in document.id and top in sys.stdlib_module_names) else "builtins"


def link(scans: Iterable[ModuleScan]) -> list[Document]:
    """One document per documented public thing, sorted by id. Pure: the order of ``scans`` does not matter."""
    linker = Linker(sorted(scans, key=lambda s: s.name))
    uses = count_uses((scan.name, scan.uses) for scan in linker.scans.values())
    names = _PublicNames(linker)
    documents = [*names.module_documents(), *names.symbol_documents()]
    unique = {document.id: document for document in sorted(documents, key=lambda d: (d.id, d.kind != "module"))[::-1]}
    return [_linked(document, unique, uses) for _, document in sorted(unique.items())]


class _PublicNames:
    """Collects the public names of every module and thing."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self.modules: dict[str, set[str]] = {name: {name} for name in linker.scans if is_public(name)}
        self.things: dict[Symbol, Thing] = {}
        self._name_modules()
        for module, names in sorted(self.modules.items()):
            for exported in sorted(linker.exports(module)):
                symbols = [r for r in linker.lookup(module, exported) if isinstance(r, Symbol)]
                if symbols and (is_public(exported) or exported == "__import__"):
                    self._thing(symbols).names |= {_join(name, exported) for name in names}
        self._name_orphans()
        pending = [t for t in self._all() if t.symbols[0].kind == "class" or any(s.members for s in t.symbols)]
        seen: set[int] = set()
        for thing in pending:  # grows while it is walked: nested classes
            if id(thing) not in seen:
                seen.add(id(thing))
                pending += self._name_members(thing)
        for thing in list(self._all()):
            self._name_inherited(thing)

    def _name_orphans(self) -> None:
        """What a public module imports from a private one without listing it in ``__all__`` (hashlib.scrypt), where
        nothing else gives it a public name."""
        for module in sorted(self.modules):
            for name, bindings in sorted(self.linker.scans[module].bindings.items()):
                if is_public(name) and any(isinstance(b, Link) and b.module.startswith("_") for b in bindings):
                    symbols = [r for r in self.linker.lookup(module, name) if isinstance(r, Symbol)]
                    if symbols and not any(self.things[s].names for s in symbols if s in self.things):
                        self._thing(symbols).names |= {_join(m, name) for m in self.modules[module]}

    def _name_modules(self) -> None:
        """A module listed in another's ``__all__`` has a second name: posixpath is os.path."""
        for module in sorted(self.modules):
            scan = self.linker.scans[module]
            for exported in self.linker.exports(module) if scan.exports is not None else ():
                for ref in self.linker.lookup(module, exported):
                    if isinstance(ref, ModuleRef) and ref.name in self.modules:
                        self.modules[ref.name].add(f"{module}.{exported}")

    def _all(self) -> Iterator[Thing]:
        return iter(dict.fromkeys(self.things.values()))

    def _thing(self, symbols: Sequence[Symbol]) -> Thing:
        """The thing these symbols stand for, joined with what is known of each."""
        joined = Thing([])
        for known in dict.fromkeys(self.things.get(s) or Thing([s]) for s in symbols):
            joined.symbols += [s for s in known.symbols if s not in joined.symbols]
            joined.names |= known.names
            joined.inherited |= known.inherited
        for symbol in joined.symbols:
            self.things[symbol] = joined
        return joined

    def _name_members(self, thing: Thing) -> list[Thing]:
        made = []
        # Members go by the names that keep the owner's own name: date.strftime is not also sqlite3.Date.strftime.
        own = {s.name.rpartition(".")[2] for s in thing.symbols}
        owners = {n for n in thing.names if n.rpartition(".")[2] in own} or thing.names
        for name in sorted({n for s in thing.symbols for n in s.members if not n.startswith("_")}):
            refs = [(s, r) for s in thing.symbols if name in s.members for r in self.linker.own_member(s, name)]
            # A class attribute that is a class from elsewhere (``charbuffertype = str``) is a setting, not a member.
            symbols = [r for s, r in refs if isinstance(r, Symbol) and (r.kind != "class" or r.module == s.module)]
            if symbols:
                member = self._thing(symbols)
                member.names |= {f"{n}.{name}" for n in owners}
                if any(s.members for s in symbols):
                    made.append(member)
        return made

    def _name_inherited(self, thing: Thing) -> None:
        """Name documented things of the bases by the subclass too, as ``inspect.getdoc`` would find them.

        Builtins pass nothing on: that every exception inherits ``add_note`` would only be noise.
        """
        classes = [s for s in thing.symbols if s.kind == "class"]
        if not classes or not thing.names:
            return
        name = min(thing.names, key=_rank(thing.symbols[0]))
        taken = {m for s in classes for m in s.members if self._has_doc(s, m)}
        for base in self.linker.ancestors(classes):
            parent = self.things.get(base)
            if base.module == "builtins":
                continue
            if not thing.documented and parent and parent.documented and "" not in taken:
                taken.add("")
                parent.inherited.add(name)
            for member in sorted(m for m in base.members if not m.startswith("_") and m not in taken):
                symbols = [r for r in self.linker.own_member(base, member) if isinstance(r, Symbol)]
                if symbols and any(s.doc for s in symbols):
                    taken.add(member)
                    self._thing(symbols).inherited.add(f"{name}.{member}")

    def _has_doc(self, cls: Symbol, member: str) -> bool:
        refs = self.linker.own_member(cls, member)
        return any(isinstance(r, Symbol) and self.things.get(r, Thing([r])).documented for r in refs)

    # -- documents ----------------------------------------------------------------------------------------------------
    def module_documents(self) -> Iterator[Document]:
        for module, names in sorted(self.modules.items()):
            scan = self.linker.scans[module]
            if scan.doc:
                best, *others = sorted(names, key=_rank())
                yield Document(
                    id=best, title=f"module {best}", text=scan.doc, source=scan.source, source_name=NAME,
                    kind="module", aliases=tuple(sorted(others)),
                )  # fmt: skip

    def symbol_documents(self) -> Iterator[Document]:
        for thing in self._all():
            names = thing.names or thing.inherited
            text, best = _text(thing)
            if not names or not text:
                continue
            ranked = sorted(names, key=_rank(best))
            others = sorted((thing.names | thing.inherited) - {ranked[0]}, key=_rank(best))[:MAX_ALIASES]
            signature = best.signature or next((s.signature for s in thing.symbols if s.signature), "")
            if not signature and best.kind == "class":
                made = (s for base in self.linker.ancestors([best]) for s in self.linker.member(base, "__init__"))
                signature = next((s.signature for s in made if isinstance(s, Symbol) and not s.compiled), "")
            yield Document(
                id=ranked[0], title=_title(ranked[0], signature, best), text=text, source=best.source,
                source_name=NAME, kind=_kind(ranked[0], best), signature=signature,
                aliases=tuple(sorted(others)),
            )  # fmt: skip


def _text(thing: Thing) -> tuple[str, Symbol]:
    """The fullest docstring among the symbols, the Python one where they are alike, and whose it is."""
    best = max(thing.symbols, key=lambda s: (len(s.doc), not s.compiled, s.module, s.name))
    text = best.doc
    made = best.members.get("__init__")
    if best.kind == "class" and isinstance(made, Symbol) and made.doc and made.doc not in text:
        text = f"{text}\n\n{made.doc}".strip()
    if not text and best.kind == "class":  # the docstring may be on the other definition's __init__
        found = (m.doc for s in thing.symbols if isinstance(m := s.members.get("__init__"), Symbol))
        text = max(found, key=len, default="")
    return text, best


def _kind(name: str, symbol: Symbol) -> str:
    if symbol.kind == "class":
        return "class"
    if symbol.kind == "property" or "." in symbol.name:
        # A method bound at module level (random.shuffle) is a function to whoever calls it.
        return "function" if name.count(".") == 1 and name.partition(".")[0] in sys.stdlib_module_names else "method"
    return "function" if "." in name else "builtin"


def _title(name: str, signature: str, symbol: Symbol) -> str:
    if symbol.kind == "property":
        return name
    room = max(16, MAX_TITLE_CHARS - len(name))
    short = signature if len(signature) <= room else f"{signature[: room - 4].rpartition(',')[0] or '('}, ...)"
    return f"{name}{short or '()'}"


def _rank(symbol: Symbol | None = None) -> Callable[[str], tuple[bool, int, bool, int, bool, str]]:
    """Sort key of public names: documented module, fewest parts, where it was defined, shortest, as it was defined.

    ``_datetime`` and ``_pydatetime`` count as ``datetime``.
    """
    home = _top(symbol.module).removeprefix("_").removeprefix("py") if symbol else ""
    own = symbol.name.rpartition(".")[2] if symbol else ""

    def key(name: str) -> tuple[bool, int, bool, int, bool, str]:
        top = _top(name)
        away = bool(home) and top.removeprefix("py") != home
        return top in IMPLEMENTATION, name.count("."), away, len(name), name.rpartition(".")[2] != own, name

    return key


def _join(module: str, name: str) -> str:
    return name if module == "builtins" else f"{module}.{name}"


def _top(name: str) -> str:
    return name.partition(".")[0]


def _linked(document: Document, documents: dict[str, Document], uses: Counter[str]) -> Document:
    """Fill ``part_of`` with the nearest enclosing document, and ``references``."""
    parent = document.id.rpartition(".")[0]
    while parent and parent not in documents:
        parent = parent.rpartition(".")[0]
    if not parent and document.kind != "module" and "." not in document.id:
        parent = "builtins"
    references = max(uses[name] for name in (document.id, *document.aliases))
    return replace(document, part_of=parent, references=references)
