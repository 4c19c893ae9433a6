"""Read one source file: where in it are definitions, and what binds the names of the module.

Knows nothing of the module in memory.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import CodeType
from typing import TypeAlias

from taskproc.core.fingerprint import normal_form
from taskproc.core.records import content_digest

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# The methods that make an object what it is.
_MAKERS = frozenset(
    {"__init__", "__new__", "__post_init__", "__attrs_post_init__", "__setstate__", "__set_name__"}
)


class SourceFile:
    """One parsed file (or notebook cell).

    Args:
        text: the whole text, as it was read.
        path: where that was.

    Attributes:
        tree: its syntax tree.
        definitions: classes and functions by qualified name, in order.
        bindings: for each name of the module the statements that give it a value or change it.
        rebound: names of the module that some function declares `global`, and so may change.
    """

    def __init__(self, text: bytes | str, path: str = "") -> None:
        self.text = text
        self.path = path
        self.tree = ast.parse(text)
        self.definitions: dict[str, list[Definition]] = {}
        self.bindings: dict[str, list[ast.stmt]] = {}
        self._conditions: dict[int, tuple[ast.stmt, ...]] = {}
        self._index()
        self.rebound = frozenset(_declared_global(self.tree)) if "global" in _as_text(text) else frozenset()
        self._compiled: dict[str, list[CodeType]] | None = None

    @functools.cached_property
    def digest(self) -> str:
        """The digest of the whole text."""
        return content_digest(self.data)

    @property
    def data(self) -> bytes:
        """The whole text as bytes."""
        return self.text if isinstance(self.text, bytes) else self.text.encode("utf-8", "surrogatepass")

    @property
    def set_by_functions(self) -> Collection[str]:
        """The attributes that functions set on other things than `self`: on classes, maybe."""
        return self._set_attributes[0]

    @property
    def set_later(self) -> Collection[str]:
        """The attributes that methods set on `self`, but for those that make the object."""
        return self._set_attributes[1]

    @functools.cached_property
    def _set_attributes(self) -> tuple[set[str], set[str]]:
        on_others: set[str] = set()
        on_self: set[str] = set()
        # Each node with the function it stands in, and what that calls the object it is a method of.
        stack: list[tuple[ast.AST, str, str]] = [(self.tree, "", "")]
        while stack:
            node, function, own = stack.pop()
            if function and isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                if not (isinstance(node.value, ast.Name) and node.value.id == own):
                    on_others.add(node.attr)
                elif function not in _MAKERS:
                    on_self.add(node.attr)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                function = node.name
            for child in ast.iter_child_nodes(node):
                is_method = isinstance(node, ast.ClassDef) and isinstance(child, Definition)
                stack.append((child, function, _name_of_self(child) if is_method else own))
        return on_others, on_self

    def with_conditions(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        """Statements of the module together with what decides whether they are run."""
        found: dict[int, ast.stmt] = {}
        for statement in statements:
            for node in (statement, *self._conditions.get(id(statement), ())):
                found[id(node)] = node
        return sorted(found.values(), key=first_line)

    @functools.cached_property
    def decorating(self) -> Mapping[str, list[ast.stmt]]:
        """By name of the module, the definitions that are given to its methods: `@convert.register`."""
        found: dict[str, list[ast.stmt]] = {}
        for nodes in self.definitions.values():
            for node in nodes:
                for one in node.decorator_list:
                    if isinstance(one.func if isinstance(one, ast.Call) else one, ast.Attribute):
                        for name in _base_name(one):
                            found.setdefault(name, []).append(node)
        return found

    def changes(self, name: str, but: Collection[str] = ()) -> list[ast.stmt]:
        """The statements of the module that change what a name stands for, and do not bind it.

        Those that only set an attribute in `but` are left out.
        """
        return [
            node
            for node in self.binding(name)
            if not isinstance(node, ast.Import | ast.ImportFrom | Definition)
            and not _binds(node, name)
            and not _sets_only(node, name, but)
        ]

    def binding(self, name: str) -> list[ast.stmt]:
        """The statements of the module that bind or change a name; [] if there are none."""
        return sorted(self.bindings.get(name, ()), key=first_line)

    def reads_own_path(self, name: str) -> bool:
        """Whether a name of the module is made from `__file__`, and so differs from place to place."""
        seen = {name}
        stack = [name]
        while stack:
            for reference in normal_form(self.binding(stack.pop())).references:
                first = reference.path[0] if reference.module is None else ""
                if "__file__" in reference.path:
                    return True
                if first not in seen:
                    seen.add(first)
                    stack.append(first)
        return False

    def compiled(self, qualname: str) -> list[CodeType]:
        """What Python makes of the functions of this name, if the file is as it was imported."""
        if self._compiled is None:
            self._compiled = {}
            try:
                top = compile(self.tree, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError):
                return []
            stack = [top]
            while stack:
                for constant in stack.pop().co_consts:
                    if isinstance(constant, CodeType):
                        self._compiled.setdefault(constant.co_qualname, []).append(constant)
                        stack.append(constant)
        return self._compiled.get(qualname, [])

    def find(self, code: CodeType) -> Function | None:
        """The source of a function: by its name and, where that is not enough, its first line."""
        if code.co_name == "<lambda>":
            return self._find_lambda(code)
        found = [
            node for node in self.definitions.get(code.co_qualname, []) if not isinstance(node, ast.ClassDef)
        ]
        if len(found) == 1:
            return found[0]
        return next((node for node in found if first_line(node) == code.co_firstlineno), None)

    def _find_lambda(self, code: CodeType) -> ast.Lambda | None:
        """The one lambda at this line; of several, the one whose body is where the code's is."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
        ]
        if len(found) > 1:
            places = [(line, column) for line, _, column, _ in code.co_positions()]
            found = [node for node in found if places and places[-1] == _place(node.body)]
        return found[0] if len(found) == 1 else None

    def _index(self) -> None:
        self._index_bindings(self.tree.body, ())
        stack: list[tuple[Iterable[ast.AST], str]] = [(self.tree.body, "")]
        while stack:
            nodes, prefix = stack.pop()
            for node in nodes:
                if isinstance(node, Definition):
                    qualname = prefix + node.name
                    self.definitions.setdefault(qualname, []).append(node)
                    inside = "." if isinstance(node, ast.ClassDef) else ".<locals>."
                    stack.append((node.body, qualname + inside))
                else:
                    stack += [(block, prefix) for block in _blocks(node)]

    def _index_bindings(self, nodes: Iterable[ast.stmt], conditions: tuple[ast.stmt, ...]) -> None:
        """Note what the statements bind, of which the conditions decide whether they are run."""
        stack = [(nodes, conditions)]
        while stack:
            statements, deciding = stack.pop()
            for node in statements:
                for name, binding in _bindings(node):
                    self.bindings.setdefault(name, []).append(binding)
                    if deciding:
                        self._conditions[id(binding)] = deciding
                # A loop or a with statement counts as a whole for what it binds.
                if isinstance(node, ast.If):
                    test = (*deciding, ast.copy_location(ast.Expr(node.test), node.test))
                    stack += [(node.body, test), (node.orelse, test)]
                elif isinstance(node, ast.Try | ast.TryStar):
                    tried = (*deciding, *(part for part in node.body if not isinstance(part, Definition)))
                    stack += [(node.body, deciding), (node.orelse, tried), (node.finalbody, deciding)]
                    stack += [(handler.body, tried) for handler in node.handlers]


def first_line(node: ast.AST) -> int:
    """The line at which Python lets a function begin: that of its first decorator."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min(int(getattr(part, "lineno", 0)) for part in [node, *decorators])


def _name_of_self(method: ast.AST) -> str:
    """What a method calls the object that it is called on; "" for that of a class."""
    if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    of_class = any(isinstance(one, ast.Name) and one.id == "classmethod" for one in method.decorator_list)
    args = [*method.args.posonlyargs, *method.args.args]
    return "" if of_class or not args or method.name == "__init_subclass__" else args[0].arg


def _as_text(text: bytes | str) -> str:
    return text if isinstance(text, str) else text.decode("latin-1")


def _place(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _blocks(node: ast.AST) -> Iterator[list[ast.AST]]:
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _declared_global(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names


def _bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """The names of the module that a statement binds or whose value it changes, each with the statement.

    An import or definition within a larger statement (`with suppress(ImportError):`) stands for itself.
    """
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield statement.name, statement
    elif isinstance(statement, ast.Import):
        yield from ((alias.asname or alias.name.partition(".")[0], statement) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from ((alias.asname or alias.name, statement) for alias in statement.names)
    elif isinstance(statement, ast.If):  # its blocks are looked at one by one
        condition = ast.copy_location(ast.Expr(statement.test), statement.test)
        yield from ((name, condition) for name in _bound_names(condition))
    elif not isinstance(statement, ast.Try | ast.TryStar):
        yield from ((name, statement) for name in _bound_names(statement))
        if isinstance(statement, ast.For | ast.While | ast.With | ast.AsyncFor | ast.AsyncWith | ast.Match):
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom | Definition):
                    yield from _bindings(node)


def _bound_names(statement: ast.stmt) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            names |= _base_name(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            names |= _changed_by(node.value)
    return names


def _changed_by(call: ast.Call) -> set[str]:
    """The name that a call by itself changes: `TABLE.update(...)`, `setattr(Config, "size", 3)`."""
    function = call.func
    if isinstance(function, ast.Name) and function.id in ("setattr", "delattr") and call.args:
        return _base_name(call.args[0])
    return _base_name(function) if isinstance(function, ast.Attribute) else set()


def _base_name(node: ast.expr) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _binds(statement: ast.stmt, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
        for node in ast.walk(statement)
    )


def _sets_only(statement: ast.stmt, name: str, attributes: Collection[str]) -> bool:
    return isinstance(statement, ast.Assign) and all(
        isinstance(target, ast.Attribute)
        and target.attr in attributes
        and isinstance(target.value, ast.Name)
        and target.value.id == name
        for target in statement.targets
    )
