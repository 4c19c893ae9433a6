"""Decide the fingerprint of code from the parts that it consists of.

A part is one function, class or constant, known by a name and by the digest of what counts
of it: the normal form of its source or, where there is no source, its bytecode. Knows
nothing of how the parts are found.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable
from types import CodeType

from taskproc.core.normal_form import NormalForm, constant_text, normal_form, text_digest
from taskproc.core.scopes import Reference

__all__ = [
    "SCHEME",
    "NormalForm",
    "Reference",
    "bytecode_form",
    "combine",
    "name_parts",
    "normal_form",
    "text_digest",
]

SCHEME: int = 1
"""Numbers how fingerprints are made; those of two schemes can't be compared."""

_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, from Python 3.14 on
_KIND_FLAGS = 0x2AC  # *args, **kwargs, generator, coroutine, async generator


def combine(parts: Iterable[tuple[str, str]]) -> str:
    """The fingerprint of code that consists of these parts: (name, digest) pairs, in any order."""
    return text_digest("\n".join(f"{name} {digest}" for name, digest in sorted(set(parts))))


def name_parts(parts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The same parts by name, for people; of two under one name the second is called `name#2`."""
    named: dict[str, str] = {}
    count: dict[str, int] = {}
    for name, digest in sorted(set(parts)):
        number = count[name] = count.get(name, 0) + 1
        named[name if number == 1 else f"{name}#{number}"] = digest
    return named


def bytecode_form(code: CodeType) -> NormalForm:
    """What counts of code without source: instructions, constants and names.

    Line numbers, file and docstring do not count. It holds within one minor version of Python.
    """
    texts: list[str] = []
    references: dict[Reference, None] = {}
    stack = [code]
    while stack:
        inner = stack.pop()
        nested = [constant for constant in inner.co_consts if isinstance(constant, CodeType)]
        stack.extend(nested)
        texts.append(_code_text(inner))
        for reference in _references(inner):
            references[reference] = None
    return NormalForm(text_digest("\n".join(texts)), tuple(references))


def _code_text(code: CodeType) -> str:
    constants = [
        f"code {constant.co_name}" if isinstance(constant, CodeType) else constant_text(constant)
        for constant in code.co_consts
    ]
    if _has_docstring(code):
        constants[0] = ""
    head = (
        f"{code.co_flags & _KIND_FLAGS} {code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}"
    )
    names = (code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars)
    return f"{head} {code.co_code.hex()} {constants} {names} {code.co_exceptiontable.hex()}"


def _has_docstring(code: CodeType) -> bool:
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & _HAS_DOCSTRING)
    # The first constant of a function is its docstring or None.
    return not code.co_name.startswith("<") and isinstance(next(iter(code.co_consts), None), str)


def _references(code: CodeType) -> Iterable[Reference]:
    """The globals that code reads, each with the attributes read from it, and what it imports."""
    path: tuple[str, ...] = ()
    constants: list[object] = [0, None]
    module: Reference | None = None
    for instruction in dis.get_instructions(code):
        name, value = instruction.opname, instruction.argval
        if path and name in ("LOAD_ATTR", "LOAD_METHOD"):
            path += (value,)
            continue
        if path:
            yield Reference(path)
            path = ()
        if name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            path = (value,)
        elif name == "LOAD_CONST":
            constants = [constants[-1], value]
        elif name == "IMPORT_NAME":
            level = constants[0] if isinstance(constants[0], int) else 0
            module = Reference((), value, level)
            if not constants[1]:
                yield module
        elif name == "IMPORT_FROM" and module is not None:
            yield module._replace(path=(value,))
    if path:
        yield Reference(path)
