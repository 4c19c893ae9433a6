"""Decide what a node of a syntax tree says, whichever Python made it.

Knows nothing of scopes, nor of what the names stand for.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

# Decorators that read the annotations of a function.
READERS = frozenset({"register", "validate_call", "validate_arguments", "beartype", "typechecked"})

# What says nothing of what the code does, or differs between versions of Python.
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "type_params", "type_ignores", "simple"})


_FIELDS: Mapping[type, Sequence[tuple[str, str]]] = {
    kind: tuple((field, f" {field}=") for field in kind._fields if field not in _SKIPPED_FIELDS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}


def constant_text(value: Any) -> str:
    """A constant of the language with its type, written alike by every Python."""
    kind = type(value)
    if kind is int:
        return f"int {value:x}"  # Python refuses to write a very long integer in decimal
    if kind is tuple:
        return f"tuple({' '.join(map(constant_text, value))})"
    if kind is frozenset:
        return f"frozenset({' '.join(sorted(map(constant_text, value)))})"
    return f"{kind.__name__} {value!a}"  # ascii: what repr calls printable depends on the version


def generic(node: ast.AST) -> list[Any]:
    """Class and fields of a node; what is empty does not count, nor what a newer Python added."""
    kind = type(node)
    items: list[Any] = []
    text = f"({kind.__name__}"  # what is said up to the next node
    for field, name in _FIELDS[kind]:
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            items += (text + name, value)
            text = ""
        elif isinstance(value, list):
            if value:
                text += f"{name}["
                for part in value:
                    if isinstance(part, ast.AST):
                        items += (text, part) if text else (part,)
                        text = ""
                    else:
                        text += f"({constant_text(part)})"
                text += "]"
        elif value is not None:
            text += f"{name}({constant_text(value)})"
    items.append(text + ")")
    return items


def flat_pieces(node: ast.JoinedStr) -> list[str | ast.AST]:
    """The constant texts of an f-string, and what stands between them."""
    pieces: list[str | ast.AST] = []
    stack: list[ast.AST] = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, ast.JoinedStr):
            stack.extend(reversed(part.values))
        elif isinstance(part, ast.Constant):
            pieces.append(str(part.value))
        else:
            pieces.append(part)
    return pieces


def parameters(args: ast.arguments) -> tuple[list[Any], list[str]]:
    """What of a parameter list is read outside of the function, and the names it binds inside."""
    positional = [arg.arg for arg in args.posonlyargs] + ["/"] + [arg.arg for arg in args.args]
    starred = [arg.arg for arg in (args.vararg, args.kwarg) if arg is not None]
    keyword = [arg.arg for arg in args.kwonlyargs]
    text = f"{positional} {args.vararg is not None} {keyword} {args.kwarg is not None} {starred}"
    keyword_defaults = ["(none)" if default is None else default for default in args.kw_defaults]
    return [text, *args.defaults, ";", *keyword_defaults], positional + starred + keyword


def signature_annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[Any]:
    """The annotations of a function, for the few that count."""
    args = node.args
    written = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    found: list[Any] = [":"]
    for arg in written:
        annotation = arg.annotation if arg is not None else None
        found += ["(none)"] if annotation is None else [annotation, *forward_references(annotation)]
    return [*found, "->", *([] if node.returns is None else [node.returns])]


def forward_references(annotation: ast.expr) -> list[ast.expr]:
    """What the texts in an annotation stand for: `list["Node"]`."""
    found: list[ast.expr] = []
    stack: list[ast.expr] = [annotation]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            with contextlib.suppress(SyntaxError, ValueError):
                found.append(ast.parse(node.value, mode="eval").body)
        elif isinstance(node, ast.Subscript) and last_name(node.value) != "Literal":
            stack.append(node.slice)
        elif isinstance(node, ast.Tuple):
            stack += reversed(node.elts)
        elif isinstance(node, ast.BinOp):
            stack += [node.right, node.left]
    return found


def last_name(node: ast.expr) -> str:
    """`validate` of `checks.validate` and of `checks.validate(strict=True)`."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def type_parameters(node: ast.ClassDef) -> list[Any]:
    """`T` and its bound in `class Box[T: int]`."""
    parameters: list[Any] = getattr(node, "type_params", [])  # from Python 3.12 on
    return parameters


def loop_clause(clause: ast.comprehension) -> list[Any]:
    """One `for` of a comprehension, but for what it runs over."""
    return [f"for {clause.is_async}", clause.target, "if", *clause.ifs]
