"""Decide which names and attributes statements bind, or change.

Knows nothing of files or of what the names stand for.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import TypeAlias

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# The methods that make an object what it is.
_MAKERS = frozenset(
    {"__init__", "__new__", "__post_init__", "__attrs_post_init__", "__setstate__", "__set_name__"}
)


def bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
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
        yield from ((name, condition) for name in bound_names(condition))
    elif not isinstance(statement, ast.Try | ast.TryStar):
        yield from ((name, statement) for name in bound_names(statement))
        if isinstance(statement, ast.For | ast.While | ast.With | ast.AsyncFor | ast.AsyncWith | ast.Match):
            for node in ast.walk(statement):
                if isinstance(node, ast.Import | ast.ImportFrom | Definition):
                    yield from bindings(node)


def bound_names(statement: ast.stmt) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            names |= base_name(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            names |= changed_by(node.value)
    return names


def changed_by(call: ast.Call) -> set[str]:
    """The name that a call by itself changes: `TABLE.update(...)`, `setattr(Config, "size", 3)`."""
    function = call.func
    if isinstance(function, ast.Name) and function.id in ("setattr", "delattr") and call.args:
        return base_name(call.args[0])
    return base_name(function) if isinstance(function, ast.Attribute) else set()


def base_name(node: ast.expr) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def binds(statement: ast.stmt, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
        for node in ast.walk(statement)
    )


def sets_only(statement: ast.stmt, name: str, attributes: Collection[str]) -> bool:
    return isinstance(statement, ast.Assign) and all(
        isinstance(target, ast.Attribute)
        and target.attr in attributes
        and isinstance(target.value, ast.Name)
        and target.value.id == name
        for target in statement.targets
    )


def set_attributes(tree: ast.Module) -> tuple[set[str], set[str]]:
    """The attributes that functions set on other things than `self`, and those that methods set on it.

    But for the methods that make an object what it is.
    """
    on_others: set[str] = set()
    on_self: set[str] = set()
    # Each node with the function it stands in, and what that calls the object it is a method of.
    stack: list[tuple[ast.AST, str, str]] = [(tree, "", "")]
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


def _name_of_self(method: ast.AST) -> str:
    """What a method calls the object that it is called on; "" for that of a class."""
    if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    of_class = any(isinstance(one, ast.Name) and one.id == "classmethod" for one in method.decorator_list)
    args = [*method.args.posonlyargs, *method.args.args]
    return "" if of_class or not args or method.name == "__init_subclass__" else args[0].arg
