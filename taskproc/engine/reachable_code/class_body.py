"""Compare the body of a class as it is written with the class in memory.

What a class was given from elsewhere, or what the file says since it was imported, is told by
the difference. Knows nothing of what code reaches.
"""

from __future__ import annotations

import ast
import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_IMMUTABLE = (int, float, complex, bool, str, bytes, type(None), enum.Enum)


class ClassBody:
    """The names that the body of a class binds.

    Args:
        nodes: the class statement; several if it can't be told which of them made the class.
    """

    def __init__(self, nodes: Sequence[ast.ClassDef]) -> None:
        self._count: Counter[str] = Counter()
        self._constants: dict[str, Any] = {}
        self._definitions: set[str] = set()
        for node in nodes:
            for name, value in _bound(node.body):
                self._count[name] += 1
                if value is None:
                    self._definitions.add(name)
                elif is_literal(value):
                    self._constants[name] = ast.literal_eval(value)

    def differing(self, values: Iterable[tuple[str, Any]], is_plain: bool) -> Iterator[tuple[str, Any, bool]]:
        """The attributes of the class of which the body does not tell the value.

        Each with its value, and whether somebody else than the body has given it.

        Args:
            values: its attributes.
            is_plain: whether no machinery from outside can have given it attributes of its own.
        """
        for name, value in values:
            if name not in self._count:
                if is_plain and not name.startswith("_"):
                    yield name, value, True
            elif self._count[name] == 1 and name in self._constants:
                said = self._constants[name]
                is_same_type = type(said) is type(value)
                if (is_same_type and said != value) or (is_plain and not is_same_type):
                    yield name, value, True
            elif name not in self._definitions:
                yield name, value, False


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is a plain constant: a number, a text, a tuple of such."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_number(node.operand)
    if isinstance(node, ast.Tuple):
        return all(is_literal(part) for part in node.elts)
    return isinstance(node, ast.Constant)


def is_immutable(value: Any) -> bool:
    """Whether a value stays as it is, all the way down."""
    if isinstance(value, tuple | frozenset):
        return all(is_immutable(part) for part in value)
    return isinstance(value, _IMMUTABLE)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float | complex)


def _bound(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    """Each name that statements of a class bind, with the expression if it is bound to just that."""
    for statement in body:
        if isinstance(statement, ast.Assign) and all(
            isinstance(part, ast.Name) for part in statement.targets
        ):
            yield from (
                (part.id, statement.value) for part in statement.targets if isinstance(part, ast.Name)
            )
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.value is not None:
                yield statement.target.id, statement.value
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name, None
        else:
            yield from ((name, None) for name in _stored(statement))


def _stored(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name is not None:
            yield node.name
