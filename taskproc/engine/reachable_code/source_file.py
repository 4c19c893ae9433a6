"""Read one source file: where in it are definitions, and what binds the names of the module.

Knows nothing of the module in memory.
"""

from __future__ import annotations

import ast
import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import CodeType
from typing import TypeAlias, TypeVar

from taskproc.core.fingerprint import normal_form
from taskproc.core.records import content_digest
from taskproc.engine.reachable_code.bindings import (
    Definition,
    base_name,
    bindings,
    binds,
    set_attributes,
    sets_only,
)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

T = TypeVar("T")

_TRIES = 100
_PAUSE = 0.001
"""Seconds until another thread's tree is likely to be done."""


def undisturbed(convert: Callable[[], T]) -> T:
    """What `convert` makes of or from a syntax tree, whatever other threads do with theirs meanwhile.

    Before 3.13 Python counts how deep it is in the trees of all threads together, and where
    the garbage collector lets another thread in, it raises SystemError for what is in order
    (python/cpython#106905).
    """
    for _ in range(_TRIES):
        try:
            return convert()
        except SystemError:
            time.sleep(_PAUSE)
    return convert()


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
        self.tree = undisturbed(lambda: ast.parse(text))
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
        return set_attributes(self.tree)

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
                        for name in base_name(one):
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
            and not binds(node, name)
            and not sets_only(node, name, but)
        ]

    def binding(self, name: str) -> list[ast.stmt]:
        """The statements of the module that bind or change a name; [] if there are none."""
        found = self.bindings.get(name, [])
        return sorted(found, key=first_line) if len(found) > 1 else found

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
                top = undisturbed(
                    lambda: compile(self.tree, "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                )
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
        """The one lambda at this line; of several, the one in whose body all of the code is."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
        ]
        if len(found) > 1:
            places = [place for place in code.co_positions() if place[2] is not None and place[2:] != (0, 0)]
            found = [node for node in found if all(_holds(node.body, *place) for place in places)]
            if places and found:  # one within another
                return max(found, key=lambda node: _place(node.body))
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
                for name, binding in bindings(node):
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


def _as_text(text: bytes | str) -> str:
    return text if isinstance(text, str) else text.decode("latin-1")


def _place(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _holds(
    node: ast.expr, line: int | None, end_line: int | None, column: int | None, end_column: int | None
) -> bool:
    """Whether a place in the source, as code tells it, lies within an expression."""
    start, end = (line or 0, column or 0), (end_line or 0, end_column or 0)
    return _place(node) <= start and end <= (node.end_lineno or 0, node.end_col_offset or 0)


def _blocks(node: ast.AST) -> Iterator[list[ast.AST]]:
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _declared_global(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
