"""Read one source file: where in it are definitions, and what binds the names of the module.

Knows nothing of the module in memory.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import TypeAlias

from taskproc.core.fingerprint import normal_form

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class SourceFile:
    """One parsed file (or notebook cell).

    Attributes:
        tree: its syntax tree.
        definitions: classes and functions by qualified name, in order.
        bindings: for each name of the module the statements that give it a value or change it.
        rebound: names of the module that some function declares `global`, and so may change.
    """

    def __init__(self, text: bytes | str) -> None:
        self.tree = ast.parse(text)
        self.definitions: dict[str, list[Definition]] = {}
        self.bindings: dict[str, list[ast.stmt]] = {}
        self._index()
        self.rebound = frozenset(_declared_global(self.tree)) if "global" in _as_text(text) else frozenset()
        self._compiled: dict[str, list[CodeType]] | None = None

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
        stack: list[tuple[Iterable[ast.AST], str, bool]] = [(self.tree.body, "", True)]
        while stack:
            nodes, prefix, top = stack.pop()
            for node in nodes:
                if top and isinstance(node, ast.stmt):
                    for name in _bound_names(node):
                        self.bindings.setdefault(name, []).append(node)
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    qualname = prefix + node.name
                    self.definitions.setdefault(qualname, []).append(node)
                    inside = "." if isinstance(node, ast.ClassDef) else ".<locals>."
                    stack.append((node.body, qualname + inside, False))
                else:
                    # A loop or a with statement counts as a whole for what it binds.
                    apart = isinstance(node, ast.If | ast.Try | ast.TryStar | ast.ExceptHandler)
                    stack += [(block, prefix, top and apart) for block in _blocks(node)]


def first_line(node: ast.AST) -> int:
    """The line at which Python lets a function begin: that of its first decorator."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min(int(getattr(part, "lineno", 0)) for part in [node, *decorators])


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


def _bound_names(statement: ast.stmt) -> set[str]:
    """The names of the module that a statement binds, or whose value it changes."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.If | ast.Try | ast.TryStar):
        return set()  # their blocks are looked at one by one
    if isinstance(statement, ast.Import):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            names |= _base_name(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            method = node.value.func  # `TABLE.update(...)`
            names |= _base_name(method) if isinstance(method, ast.Attribute) else set()
    return names


def _base_name(node: ast.expr) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()
