"""Decide which part of a piece of source code counts: its normal form.

Two pieces of code have one normal form if they differ in nothing but comments, docstrings,
layout and the annotations of functions. The form is ours and the same on every supported
Python. The names that the code takes from outside itself stand beside it, and only their
numbers in it: so what such a name leads to can be called otherwise. Knows nothing of files
or modules, and walks with a stack of its own, so that depth costs no recursion.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from taskproc.core.records import content_digest
from taskproc.core.scopes import Reference, Scope, ScopeKind, resolve
from taskproc.core.syntax import (
    READERS,
    constant_text,
    flat_pieces,
    forward_references,
    generic,
    last_name,
    loop_clause,
    parameters,
    signature_annotations,
    type_parameters,
)


class NormalForm(NamedTuple):
    """What counts of a piece of code.

    Attributes:
        shape: digest of the normal form, in which the names from outside are numbers.
        references: those names, in the order of their numbers.
    """

    shape: str
    references: tuple[Reference, ...]

    @property
    def digest(self) -> str:
        """The digest of both."""
        return text_digest("\n".join([self.shape, *(reference.text for reference in self.references)]))


def normal_form(nodes: Sequence[ast.AST], unread: Collection[str] = (), nameless: bool = False) -> NormalForm:
    """The normal form of some statements (or one lambda) of a module.

    Args:
        nodes: the syntax trees, in order.
        unread: names whose assignment in the body of a class given in `nodes` does not count.
        nameless: whether the names of the classes and functions given in `nodes` do not count.
    """
    walker = _Walker(frozenset(unread), nameless)
    walker.walk(nodes)
    references = walker.references()
    return NormalForm(text_digest("".join(walker.text)), references)


def text_digest(text: str) -> str:
    """The digest of a text."""
    return content_digest(text.encode("utf-8", "surrogatepass"))


class _Enter(NamedTuple):
    """On the stack: from here on names belong to this scope."""

    scope: Scope


class _Bind(NamedTuple):
    """On the stack: the name is bound here, after what stood before it was read."""

    name: str


class _Walker:
    """One walk; every visitor gives the items that stand in for its node, to be walked in turn.

    Those that stand in for themselves alone it may write down at once.
    """

    def __init__(self, unread: frozenset[str], nameless: bool) -> None:
        self.text: list[str] = []
        self._root = self._scope = Scope("root", None)
        self._scopes = [self._root]
        self._found: dict[Reference, int] = {}
        self._imported: list[tuple[str, Scope, Reference]] = []
        self._unread = unread
        self._nameless = nameless

    def walk(self, nodes: Sequence[ast.AST]) -> None:
        stack: list[Any] = list(reversed(nodes))
        emit = self.text.append
        while stack:
            item = stack.pop()
            kind = type(item)
            if kind is str:
                emit(item)
            elif kind is _Enter:
                self._scope = item.scope
            elif kind is _Bind:
                self._scope.bound.add(item.name)
            else:
                visit = _VISITORS.get(kind)
                items = generic(item) if visit is None else visit(self, item)
                items.reverse()
                stack += items

    def references(self) -> tuple[Reference, ...]:
        """What the walked code names and does not bind itself; puts its number in the text."""
        for scope in self._scopes:
            for path, places in scope.loads.items():
                reference = resolve(scope, path)
                if reference is not None:
                    number = f"(#{self._number(reference)})"
                    for place in places:
                        self.text[place] = number
        for name, scope, reference in self._imported:
            if not _is_read(name, scope, self._scopes):
                self._number(reference)
        return tuple(self._found)

    def _number(self, reference: Reference) -> int:
        return self._found.setdefault(reference, len(self._found))

    def _open(self, kind: ScopeKind) -> Scope:
        scope = Scope(kind, self._scope)
        self._scopes.append(scope)
        return scope

    def _load(self, path: tuple[str, ...], is_written: bool = True) -> None:
        """Note that a name is read, and where it is about to be written down."""
        # The body of a class runs from top to bottom: a name not yet bound comes from outside.
        scope = self._scope
        if scope.kind != "class" or path[0] not in scope.bound or path[0] in scope.imports:
            places = scope.loads.setdefault(path, [])
            if is_written:
                places.append(len(self.text))

    def name(self, node: ast.Name) -> list[Any]:
        if isinstance(node.ctx, ast.Load):
            self._load((node.id,))
        else:
            self._scope.bound.add(node.id)
        self.text.append(f"({node.id})")
        return []

    def attribute(self, node: ast.Attribute) -> list[Any]:
        names = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            names.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            path = (value.id, *reversed(names))
            self._load(path)
            self.text.append(f"({'.'.join(path)})")
            return []
        return ["(Attribute", value, *(f".{name}" for name in reversed(names)), ")"]

    def constant(self, node: ast.Constant) -> list[Any]:
        self.text.append(f"({constant_text(node.value)})")
        return []

    def expression(self, node: ast.Expr) -> list[Any]:
        # A constant by itself does nothing: docstrings, and strings that stand as comments.
        return [] if isinstance(node.value, ast.Constant) else ["(Expr", node.value, ")"]

    def nothing(self, node: ast.AST) -> list[Any]:
        return []

    def call(self, node: ast.Call) -> list[Any]:
        """A call; that of `import_module` with a plain name imports like a statement."""
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called in ("import_module", "__import__") and node.args:
            module = node.args[0]
            if isinstance(module, ast.Constant) and isinstance(module.value, str) and module.value[:1] != ".":
                self._number(Reference((), module.value))
        return generic(node)

    def assertion(self, node: ast.Assert) -> list[Any]:
        """Whether Python runs it is for `__debug__` to say."""
        self._load(("__debug__",), is_written=False)
        return generic(node)

    def joined(self, node: ast.JoinedStr) -> list[Any]:
        """An f-string; Python 3.12 and 3.11 cut its constant text in different places."""
        pieces: list[Any] = []
        pending = ""
        for piece in flat_pieces(node):
            if isinstance(piece, str):
                pending += piece
                continue
            pieces += [f"({constant_text(pending)})" if pending else "", piece]
            pending = ""
        if not pieces:
            return [f"({constant_text(pending)})"]
        return ["(JoinedStr", *pieces, f"({constant_text(pending)})" if pending else "", ")"]

    def formatted(self, node: ast.FormattedValue) -> list[Any]:
        spec = node.format_spec
        if isinstance(spec, ast.JoinedStr) and not any(flat_pieces(spec)):
            spec = None
        return [f"(FormattedValue {node.conversion}", node.value, *([":", spec] if spec else []), ")"]

    def assign(self, node: ast.Assign) -> list[Any]:
        if self._is_unread(node.targets):
            return []
        return ["(Assign", node.value, *(part for target in node.targets for part in ("=", target)), ")"]

    def annotated(self, node: ast.AnnAssign) -> list[Any]:
        """A field of a class, whose annotation counts, or a variable, whose does not."""
        if self._is_unread([node.target]):
            return []
        value = [node.value] if node.value is not None else []
        if self._scope.kind == "class":
            named = [":", *forward_references(node.annotation)]
            return ["(AnnAssign", *value, ":", node.annotation, *named, "=", node.target, ")"]
        if value:
            return ["(Assign", *value, "=", node.target, ")"]
        if isinstance(node.target, ast.Name) and self._scope.kind == "function":
            self._scope.bound.add(node.target.id)
        return []

    def _is_unread(self, targets: Sequence[ast.expr]) -> bool:
        return (
            self._scope.kind == "class"
            and self._scope.parent is self._root
            and all(isinstance(target, ast.Name) and target.id in self._unread for target in targets)
        )

    def augmented(self, node: ast.AugAssign) -> list[Any]:
        if isinstance(node.target, ast.Name):
            self._load((node.target.id,), is_written=False)
        return ["(AugAssign", node.op, node.value, "=", node.target, ")"]

    def walrus(self, node: ast.NamedExpr) -> list[Any]:
        scope = self._scope
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        scope.bound.add(node.target.id)
        return [f"(NamedExpr {node.target.id}", node.value, ")"]

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[Any]:
        scope = self._open("function")
        outside, inside = parameters(node.args)
        scope.bound.update(inside)
        if any(last_name(decorator) in READERS for decorator in node.decorator_list):
            outside += signature_annotations(node)
        head = f"({type(node).__name__} {self._own_name(node.name)}"
        return [
            head, "@", *node.decorator_list, "(", *outside, ")", _Bind(node.name),
            _Enter(scope), *node.body, _Enter(self._scope), ")",
        ]  # fmt: skip

    def _own_name(self, name: str) -> str:
        return "" if self._nameless and self._scope is self._root else name

    def anonymous(self, node: ast.Lambda) -> list[Any]:
        scope = self._open("function")
        outside, inside = parameters(node.args)
        scope.bound.update(inside)
        return ["(Lambda(", *outside, ")", _Enter(scope), node.body, _Enter(self._scope), ")"]

    def class_(self, node: ast.ClassDef) -> list[Any]:
        scope = self._open("class")
        bound_parameters = [part for one in type_parameters(node) for part in (_Bind(one.name), one)]
        head = f"(ClassDef {self._own_name(node.name)}"
        return [
            head, "@", *node.decorator_list, "(", *node.bases, *node.keywords, ")",
            _Enter(scope), *bound_parameters, *node.body, _Enter(self._scope), _Bind(node.name), ")",
        ]  # fmt: skip

    def comprehension(self, node: Any) -> list[Any]:
        """The first iterable is read outside of the comprehension, all else inside."""
        scope = self._open("comprehension")
        first, *others = node.generators
        items: list[Any] = [f"({type(node).__name__}", first.iter, _Enter(scope), *loop_clause(first)]
        for clause in others:
            items += [clause.iter, *loop_clause(clause)]
        made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return [*items, *made, _Enter(self._scope), ")"]

    def import_(self, node: ast.Import) -> list[Any]:
        scope = self._scope
        text = []
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._bind_import(name, Reference((), alias.name if alias.asname else name))
            if scope.kind == "root":
                text.append(f"{alias.name} {alias.asname}")
            else:
                # What is read of the module names it; what is not is there for its import.
                self._imported.append((name, scope, Reference((), alias.name)))
                text.append(alias.asname or (alias.name if "." in alias.name else "it"))
        return [f"(Import {' '.join(text)})"]

    def import_from(self, node: ast.ImportFrom) -> list[Any]:
        module = node.module or ""
        text = []
        for alias in node.names:
            reference = Reference((alias.name,), module, node.level)
            self._bind_import(alias.asname or alias.name, reference)
            if self._scope.kind == "root":
                text.append(f"{alias.name} {alias.asname}")
            else:
                text.append(f"#{self._number(reference)} {alias.asname or alias.name}")
        origin = f" {'.' * node.level}{module}" if self._scope.kind == "root" else ""
        return [f"(ImportFrom{origin} {' '.join(text)})"]

    def _bind_import(self, name: str, reference: Reference) -> None:
        self._scope.bound.add(name)
        self._scope.imports[name] = reference

    def global_(self, node: ast.Global) -> list[Any]:
        self._scope.from_outside.update(node.names)
        return [f"(Global {' '.join(node.names)})"]

    def handler(self, node: ast.ExceptHandler) -> list[Any]:
        return self._named(node, node.name)

    def capture(self, node: ast.MatchAs | ast.MatchStar) -> list[Any]:
        return self._named(node, node.name)

    def mapping(self, node: ast.MatchMapping) -> list[Any]:
        return self._named(node, node.rest)

    def _named(self, node: ast.AST, name: str | None) -> list[Any]:
        if name is not None:
            self._scope.bound.add(name)
        return generic(node)


def _is_read(name: str, scope: Scope, scopes: Sequence[Scope]) -> bool:
    """Whether a name bound in this scope is read in it, or inside of it."""
    return any(path[0] == name for inner in scopes if _is_inside(inner, scope) for path in inner.loads)


def _is_inside(inner: Scope | None, scope: Scope) -> bool:
    while inner is not None and inner is not scope:
        inner = inner.parent
    return inner is scope


_VISITORS: dict[type, Callable[[_Walker, Any], list[Any]]] = {
    ast.Name: _Walker.name,
    ast.Attribute: _Walker.attribute,
    ast.Assert: _Walker.assertion,
    ast.Call: _Walker.call,
    ast.Constant: _Walker.constant,
    ast.Expr: _Walker.expression,
    ast.Pass: _Walker.nothing,
    ast.JoinedStr: _Walker.joined,
    ast.FormattedValue: _Walker.formatted,
    ast.Assign: _Walker.assign,
    ast.AnnAssign: _Walker.annotated,
    ast.AugAssign: _Walker.augmented,
    ast.NamedExpr: _Walker.walrus,
    ast.FunctionDef: _Walker.function,
    ast.AsyncFunctionDef: _Walker.function,
    ast.Lambda: _Walker.anonymous,
    ast.ClassDef: _Walker.class_,
    ast.ListComp: _Walker.comprehension,
    ast.SetComp: _Walker.comprehension,
    ast.GeneratorExp: _Walker.comprehension,
    ast.DictComp: _Walker.comprehension,
    ast.Import: _Walker.import_,
    ast.ImportFrom: _Walker.import_from,
    ast.Global: _Walker.global_,
    ast.ExceptHandler: _Walker.handler,
    ast.MatchAs: _Walker.capture,
    ast.MatchStar: _Walker.capture,
    ast.MatchMapping: _Walker.mapping,
}
