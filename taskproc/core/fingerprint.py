"""Decide the fingerprint of code from the parts that it consists of.

A part is one function, class or constant, known by a name and by the digest of what counts
of it: the normal form of its source or, where there is no source, its bytecode. Knows
nothing of how the parts are found.
"""

from __future__ import annotations

import dis
import re
import sys
from collections.abc import Iterable
from types import CodeType
from typing import NamedTuple, TypeAlias

from taskproc.core.normal_form import NormalForm, normal_form, text_digest
from taskproc.core.records import CodeMode
from taskproc.core.scopes import Reference
from taskproc.core.syntax import constant_text

__all__ = [
    "SCHEME",
    "CodeMode",
    "Fingerprint",
    "NormalForm",
    "Reference",
    "bytecode_form",
    "combine",
    "fingerprint_of",
    "name_parts",
    "normal_form",
    "part_digest",
    "read_fingerprint",
    "same_code",
    "text_digest",
]

SCHEME: int = 2
"""Numbers how fingerprints are made; those of two schemes can't be compared."""

NamedDigest: TypeAlias = tuple[str, str]
"""A name, and the digest of what stands under it."""

_SHORT = 16
_FINGERPRINT = re.compile(rf"([0-9a-f]{{32}})\.([0-9a-f]{{{_SHORT}}})\.((?:[0-9a-f]{{{_SHORT}}})?)")

_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, from Python 3.14 on
_KIND_FLAGS = 0x2AC  # *args, **kwargs, generator, coroutine, async generator


class Fingerprint(NamedTuple):
    """The fingerprint of a class, as records keep it: `DEEP.CLASS.STATED`.

    Attributes:
        deep: 32 hex digits over all the code that is reached, and over the two others.
        own: 16 hex digits over the class and its bases in the project.
        stated: 16 hex digits over what the class states, "" if that is nothing.
    """

    deep: str
    own: str
    stated: str

    def __str__(self) -> str:
        return f"{self.deep}.{self.own}.{self.stated}"


def fingerprint_of(
    reached: Iterable[NamedDigest], own: Iterable[NamedDigest], stated: Iterable[NamedDigest]
) -> Fingerprint:
    """The fingerprint of a class, in whatever order its parts come.

    Args:
        reached: all parts that are reached.
        own: those of them that are the class and its bases.
        stated: what the class states, each thing with the digest of what it comes to.
    """
    things = sorted(stated)
    stated_digest = combine(things)[:_SHORT] if things else ""
    own_digest = combine(own)[:_SHORT]
    deep = text_digest(f"{combine(reached)} {own_digest} {stated_digest}")
    return Fingerprint(deep, own_digest, stated_digest)


def read_fingerprint(text: str) -> Fingerprint | None:
    """A fingerprint from its text; None if it is not one, or one of an older form."""
    found = _FINGERPRINT.fullmatch(text)
    return Fingerprint(*found.groups()) if found is not None else None


def same_code(stored: str, current: str, mode: CodeMode) -> bool:
    """Whether two fingerprints stand for the same code, as far as it counts in this mode.

    One that can't be read is like no other; but where no code counts and nothing is stated
    now, there is nothing to be read.
    """
    before, now = read_fingerprint(stored), read_fingerprint(current)
    if now is None:
        return False
    if before is None:
        return mode == "off" and not now.stated
    if mode == "deep":
        return before == now
    return before.stated == now.stated and (mode == "off" or before.own == now.own)


def part_digest(own: str, links: Iterable[tuple[str, Iterable[str]]]) -> str:
    """The digest of a part, from that of its own form and from what its names lead to.

    Args:
        own: digest of what counts of the part itself.
        links: each name in it, with the labels of what it leads to.
    """
    return text_digest("\n".join([own, *("\t".join((name, *labels)) for name, labels in links)]))


def combine(parts: Iterable[NamedDigest]) -> str:
    """The digest of code that consists of these parts, in any order."""
    return text_digest("\n".join(f"{name} {digest}" for name, digest in sorted(set(parts))))


def name_parts(parts: Iterable[NamedDigest]) -> dict[str, str]:
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
