"""Read one Python module with ``ast``: nothing is imported or run.

The whole module body is walked, through ``if``, ``try`` and ``with``. A condition on the platform or the Python version
is decided as the running interpreter would; where that cannot be told, both branches count.
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Any

from data_jobs.sources.pydocs.symbols import Export, Instance, Link, ModuleScan, Symbol, clean
from data_jobs.sources.pydocs.usage import used_names

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_UNKNOWN = object()
_KNOWN_VALUES: dict[str, Any] = {
    "sys.platform": sys.platform,
    "sys.version_info": tuple(sys.version_info[:3]),
    "sys.builtin_module_names": sys.builtin_module_names,
    "os.name": os.name,
    "TYPE_CHECKING": False,
}


def scan_python(name: str, path: Path, root: Path) -> ModuleScan:
    """Scan the module ``name`` in the file ``path``; sources are given relative to ``root``.

    Raises:
        SyntaxError, UnicodeDecodeError, OSError: the file cannot be read as Python.
    """
    tree = ast.parse(path.read_bytes(), str(path))
    return _Scanner(name, path.relative_to(root).as_posix(), path.name == "__init__.py").scan(tree)


def dotted(node: ast.AST | None) -> str:
    """``a.b.c`` for such an expression, else an empty string."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def signature(args: ast.arguments, bound: bool) -> str:
    """``(a, b=1, *, c)`` without annotations, and without the first argument of a bound method."""
    positional = [*args.posonlyargs, *args.args]
    skip = 1 if bound and positional else 0
    bare = [ast.arg(a.arg) for a in positional[skip:]]
    slash = max(0, len(args.posonlyargs) - skip)
    rest = ast.arguments(
        posonlyargs=bare[:slash], args=bare[slash:], defaults=args.defaults[-len(bare) :] if bare else [],
        vararg=args.vararg and ast.arg(args.vararg.arg), kwarg=args.kwarg and ast.arg(args.kwarg.arg),
        kwonlyargs=[ast.arg(a.arg) for a in args.kwonlyargs], kw_defaults=args.kw_defaults,
    )  # fmt: skip
    return f"({ast.unparse(rest)})"


class _Scanner:
    def __init__(self, name: str, file: str, package: bool) -> None:
        self.out = ModuleScan(name, f"{file}:1", package)
        self.file = file
        self.values: dict[str, list[ast.expr]] = {}
        self.attributes: list[tuple[str, str, ast.expr]] = []
        self.functions: dict[str, FunctionNode] = {}

    def scan(self, tree: ast.Module) -> ModuleScan:
        self.out.doc = clean(ast.get_docstring(tree))
        self.out.uses = used_names(tree)
        self._body(tree.body, certain=True)
        for owner, attribute, value in self.attributes:  # f.helper = g: a public attribute of a function or class
            for symbol in list(self.out.bindings.get(owner, ())):
                if isinstance(symbol, Instance) and attribute == "__doc__":  # a namedtuple documented afterwards
                    symbol = Symbol("class", self.out.name, owner, source=f"{self.file}:{value.lineno}")
                    self.out.bind(owner, symbol)
                if isinstance(symbol, Symbol) and attribute == "__doc__":
                    self._document(symbol, value)
                elif isinstance(symbol, Symbol) and (target := dotted(value)):
                    symbol.members.setdefault(attribute, Link(self.out.name, target))
        return self.out

    def _document(self, symbol: Symbol, value: ast.expr) -> None:
        """``f.__doc__ = value``: a text, another docstring, or a template with constants filled in."""
        if (target := dotted(value)).endswith(".__doc__"):
            symbol.doc_from = Link(self.out.name, target.removesuffix(".__doc__"))
        elif isinstance(value, ast.Constant):
            symbol.doc = clean(value.value)
        elif isinstance(value, ast.Call) and dotted(value.func).endswith(".format") and not value.args:
            template = self.values.get(dotted(value.func).removesuffix(".format"), [])
            fields = {k.arg: self._value(k.value) for k in value.keywords if k.arg}
            if len(template) == 1 and isinstance(template[0], ast.Constant) and _UNKNOWN not in fields.values():
                symbol.doc = clean(str(template[0].value).format(**fields))

    # -- module level -------------------------------------------------------------------------------------------------
    def _body(self, body: list[ast.stmt], certain: bool) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._module_function(node, certain)
            elif isinstance(node, ast.ClassDef):
                self._define(node.name, self._class(node, node.name), certain)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
            elif isinstance(node, ast.If):
                truth = self._value(node.test)
                for branch, taken in ((node.body, True), (node.orelse, False)):
                    if truth is _UNKNOWN or bool(truth) == taken:
                        self._body(branch, certain and truth is not _UNKNOWN)
            elif isinstance(node, ast.Try):
                for part in (node.body, *(h.body for h in node.handlers), node.orelse, node.finalbody):
                    self._body(part, certain=False)
            elif isinstance(node, ast.With):
                self._body(node.body, certain)
            elif isinstance(node, ast.Delete) and certain:
                self.out.deleted |= set(map(dotted, node.targets))
            else:
                self._assignment(node)

    def _module_function(self, node: FunctionNode, certain: bool) -> None:
        if node.name == "__getattr__":  # lazy re-exports: the imports in it are what it hands out
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom):
                    for alias in inner.names:
                        self.out.bind(alias.name, Link(self._absolute(inner), alias.name))
        elif not _decorated(node, "overload"):
            self.functions[node.name] = node
            self._define(node.name, self._function(node, node.name, bound=False), certain)

    def _define(self, name: str, symbol: Symbol, certain: bool) -> None:
        if certain:  # a definition that is always reached replaces what the name meant above it
            self.out.bindings.pop(name, None)
        self.out.bind(name, symbol)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self.out.bind(alias.asname or name, Link("", name))
            return
        module = self._absolute(node)
        for alias in node.names:
            if alias.name == "*":
                self.out.stars.append(module)
            elif alias.name == "__all__":
                self.out.exports = [Export("all", link=Link("", module))]
            elif alias.name == "__doc__":
                self.out.doc_from = module
            else:
                self.out.bind(alias.asname or alias.name, Link(module, alias.name))

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.out.name.split(".")
        base = parts[: len(parts) - node.level + (1 if self.out.package else 0)]
        return ".".join([*base, *([node.module] if node.module else [])])

    def _assignment(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = dotted(node.value.func)
            if called in ("__all__.extend", "__all__.append") and node.value.args:
                self._export(node.value.args[0], add=True)
        elif isinstance(node, ast.AugAssign) and dotted(node.target) == "__all__":
            self._export(node.value, add=True)
        elif isinstance(node, ast.AnnAssign) and node.value:
            self._assign(node.target, node.value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple):
            same = isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)
            for index, one in enumerate(target.elts):  # ``a, b = c, d`` and ``a, b = f()``
                if same and isinstance(value, ast.Tuple):
                    self._assign(one, value.elts[index])
                elif isinstance(value, ast.Call):
                    self._assign(one, value)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            self.attributes.append((target.value.id, target.attr, value))
        elif isinstance(target, ast.Name):
            self.values.setdefault(target.id, []).append(value)
            if target.id == "__all__":
                self._export(value, add=False)
            elif target.id == "__doc__" and isinstance(value, ast.Constant):
                self.out.doc = clean(value.value)
            elif name := dotted(value):
                scope = self.out.name if name != target.id else "builtins"  # TimeoutError = TimeoutError
                self.out.bind(target.id, Link(scope, name))
            elif isinstance(value, ast.Call) and (inner := self._inner(dotted(value.func), target.id)):
                self.out.bind(target.id, inner)
            elif isinstance(value, ast.Call) and (called := dotted(value.func)):
                # ``Pattern = type(...)`` is only known at run time: bound to nothing, so that the name exists.
                self.out.bind(target.id, Instance(Link("", "") if called == "type" else Link(self.out.name, called)))

    def _inner(self, factory: str, name: str) -> Symbol | None:
        """The function ``name`` that a function of this module defines within and presumably returns."""
        body = self.functions[factory].body if factory in self.functions else []
        inner = (n for n in body if isinstance(n, ast.FunctionDef) and n.name == name)
        return next((self._function(n, name, bound=False) for n in inner), None)

    # -- __all__ ------------------------------------------------------------------------------------------------------
    def _export(self, value: ast.expr, add: bool) -> None:
        parts = self._export_parts(value)
        if parts is None:
            self.out.exports = self.out.exports if add else None
        else:
            self.out.exports = [*((self.out.exports or []) if add else []), *parts]

    def _export_parts(self, value: ast.expr) -> list[Export] | None:
        """The parts of an ``__all__`` expression; None where it cannot be told without running it."""
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return [Export("names", (value.value,))]
        if isinstance(value, ast.List | ast.Tuple | ast.Set):
            parts = [self._export_parts(e.value if isinstance(e, ast.Starred) else e) for e in value.elts]
            return [p for part in parts for p in part or ()]
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            left, right = self._export_parts(value.left), self._export_parts(value.right)
            return None if left is None and right is None else [*(left or ()), *(right or ())]
        if isinstance(value, ast.Attribute) and value.attr == "__all__" and (name := dotted(value.value)):
            return [Export("all", link=Link(self.out.name, name))]
        if isinstance(value, ast.Name) and len(self.values.get(value.id, ())) == 1:
            return self._export_parts(self.values[value.id][0])
        if isinstance(value, ast.Call) and len(value.args) == 1:
            if dotted(value.func) in ("list", "tuple", "sorted", "set"):
                return self._export_parts(value.args[0])
            if name := dotted(value.args[0]):  # such as os's _get_exports_list(posix)
                return [Export("public", link=Link(self.out.name, name))]
        if isinstance(value, ast.ListComp):
            source = value.generators[0].iter
            if isinstance(source, ast.Call) and dotted(source.func) == "dir" and source.args:
                return [Export("dir", link=Link(self.out.name, dotted(source.args[0])))]
        return None

    # -- functions and classes ----------------------------------------------------------------------------------------
    def _function(self, node: FunctionNode, qualname: str, bound: bool) -> Symbol:
        kind = "property" if _decorated(node, "property") else "function"
        bound = bound and not _decorated(node, "staticmethod")
        return Symbol(
            "property" if kind == "property" else "function", self.out.name, qualname,
            doc=clean(ast.get_docstring(node)), signature=signature(node.args, bound) if kind == "function" else "",
            source=f"{self.file}:{node.lineno}",
        )  # fmt: skip

    def _class(self, node: ast.ClassDef, qualname: str) -> Symbol:
        symbol = Symbol(
            "class", self.out.name, qualname, doc=clean(ast.get_docstring(node)), source=f"{self.file}:{node.lineno}",
            bases=[Link(self.out.name, name) for base in node.bases if (name := dotted(base))],
        )  # fmt: skip
        self._class_body(node.body, symbol)
        made = symbol.members.get("__init__") or symbol.members.get("__new__")
        if isinstance(made, Symbol):
            symbol.signature = made.signature
        return symbol

    def _class_body(self, body: list[ast.stmt], symbol: Symbol) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if not _decorated(node, "overload", "setter", "deleter"):
                    symbol.members[node.name] = self._function(node, f"{symbol.name}.{node.name}", bound=True)
            elif isinstance(node, ast.ClassDef):
                symbol.members[node.name] = self._class(node, f"{symbol.name}.{node.name}")
            elif isinstance(node, ast.If | ast.Try):
                for part in (node.body, node.orelse):
                    self._class_body(part, symbol)
            elif isinstance(node, ast.Assign) and dotted(node.targets[0]).endswith("__doc__"):
                documented = symbol.members.get(dotted(node.targets[0]).removesuffix(".__doc__"), symbol)
                if isinstance(documented, Symbol):
                    self._document(documented, node.value)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._class_assignment(node.targets[0].id, node.value, symbol, node.lineno)

    def _class_assignment(self, name: str, value: ast.expr, symbol: Symbol, line: int) -> None:
        if target := dotted(value):
            symbol.members.setdefault(name, Link(self.out.name, target))
        elif isinstance(value, ast.Call) and dotted(value.func) == "property":
            given = [*value.args[3:4], *(k.value for k in value.keywords if k.arg == "doc")]
            doc = next((clean(v.value) for v in given if isinstance(v, ast.Constant)), "")
            getter = symbol.members.get(dotted(value.args[0])) if value.args else None
            if not doc and isinstance(getter, Symbol):
                doc = getter.doc
            symbol.members[name] = Symbol(
                "property", self.out.name, f"{symbol.name}.{name}", doc=doc, source=f"{self.file}:{line}"
            )

    # -- conditions ---------------------------------------------------------------------------------------------------
    def _value(self, node: ast.expr) -> Any:
        """What an expression is on the running interpreter, or ``_UNKNOWN``."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Tuple):
            values = [self._value(e) for e in node.elts]
            return _UNKNOWN if _UNKNOWN in values else tuple(values)
        if name := dotted(node):
            if name == "__name__":
                return self.out.name
            if name in _KNOWN_VALUES or name.partition(".")[2] in _KNOWN_VALUES:  # also _sys.platform
                return _KNOWN_VALUES.get(name, _UNKNOWN)
            assigned = self.values.get(name, [])
            return self._value(assigned[0]) if len(assigned) == 1 and dotted(assigned[0]) != name else _UNKNOWN
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            value = self._value(node.operand)
            return value if value is _UNKNOWN else not value
        if isinstance(node, ast.BoolOp):
            return self._bool_op(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
            owner, prefix = self._value(node.func.value), self._value(node.args[0])
            return owner.startswith(prefix) if isinstance(owner, str) and isinstance(prefix, str) else _UNKNOWN
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return _compare(node.ops[0], self._value(node.left), self._value(node.comparators[0]))
        return _UNKNOWN

    def _bool_op(self, node: ast.BoolOp) -> Any:
        decisive = isinstance(node.op, ast.Or)
        values = [self._value(v) for v in node.values]
        if any(v is not _UNKNOWN and bool(v) == decisive for v in values):
            return decisive
        return _UNKNOWN if _UNKNOWN in values else not decisive


def _compare(op: ast.cmpop, left: Any, right: Any) -> Any:
    if left is _UNKNOWN or right is _UNKNOWN:
        return _UNKNOWN
    try:
        match op:
            case ast.Eq():
                return left == right
            case ast.NotEq():
                return left != right
            case ast.In():
                return left in right
            case ast.NotIn():
                return left not in right
            case ast.GtE():
                return left >= right
            case ast.Lt():
                return left < right
    except TypeError:
        return _UNKNOWN
    return _UNKNOWN


def _decorated(node: FunctionNode, *endings: str) -> bool:
    names = (dotted(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list)
    return any(name.endswith(endings) for name in names)
