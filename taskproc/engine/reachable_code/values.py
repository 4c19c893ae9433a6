"""Look into values that code names: which functions and classes they hold, and their text.

Knows nothing of modules or of source.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from taskproc.core.arguments.names import found_name
from taskproc.engine.reachable_code.imports import written_import
from taskproc.engine.reachable_code.states import MAX_TEXT, is_namespace, state_of

MAX_ARRAY = 16 * 1024 * 1024
"""So does an array of more bytes, though its text is only a digest: reading it takes long."""

_PLAIN = frozenset({int, float, complex, bool, type(None), type(...), range, ModuleType, BuiltinFunctionType})
_MAPPINGS = (dict, MappingProxyType)
_CONTAINERS = (list, tuple, set, frozenset, deque, *_MAPPINGS)


def import_of(value: Any) -> str:
    """How a part speaks of a function, class or module from outside whose import is not to be seen."""
    if issubclass(type(value), ModuleType):
        return written_import(value.__name__)
    name = found_name(value) or f"{value.__module__}:{value.__qualname__}"
    module, _, path = name.partition(":")
    return written_import(module, [path])


def functions_in(member: Any) -> Iterator[FunctionType]:
    """The functions that a member of a class consists of, as it stands in the class."""
    kind = type(member)
    if kind is FunctionType:
        yield member
    elif issubclass(kind, staticmethod | classmethod):
        yield from functions_in(member.__func__)
    elif issubclass(kind, property):
        for accessor in (member.fget, member.fset, member.fdel):
            yield from functions_in(accessor)
    elif issubclass(kind, functools.cached_property | functools.partialmethod):
        yield from functions_in(member.func)


def cells(function: FunctionType) -> list[tuple[str, Any]]:
    """The variables that a function took from around itself, with their values; empty ones left out."""
    found = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:
            continue
    return [(name, value) for name, value in found if name != "__class__"]


def defaults(function: FunctionType) -> list[Any]:
    """The values of a function's defaults, in the order of its parameters."""
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


class Survey:
    """One walk through a value, of at most MAX_TEXT steps.

    Args:
        is_part: told every object but plain data; if True, its inside is not looked at.
        opens: whether the attributes of an instance of this class are looked at.

    Attributes:
        is_small: whether the walk came to its end.
    """

    def __init__(self, is_part: Callable[[Any], bool], opens: Callable[[type], bool]) -> None:
        self._is_part = is_part
        self._opens = opens
        self._seen: dict[int, object] = {}
        self.is_small = True

    def walk(self, value: Any) -> None:
        left = MAX_TEXT
        stack = [value]
        while stack and self.is_small:
            item = stack.pop()
            left -= 1
            if type(item) in _PLAIN:
                continue
            if issubclass(type(item), str | bytes | bytearray):
                left -= len(item)
            elif id(item) not in self._seen:
                self._seen[id(item)] = item
                if not self._is_part(item):
                    inside = list(self._inside(item, left))
                    stack += inside
                    left -= len(inside)
            self.is_small = self.is_small and left >= 0

    def _inside(self, item: Any, left: int) -> Iterable[Any]:
        # By its type, not by isinstance: a proxy may answer for something that is not there yet.
        kind = type(item)
        if issubclass(kind, _CONTAINERS):
            if len(item) > left:
                self.is_small = False
                return ()
            return [*item.keys(), *item.values()] if issubclass(kind, _MAPPINGS) else list(item)
        if issubclass(kind, FunctionType):  # another's wrapper around a function of the project
            return [*(value for _, value in cells(item)), *item.__dict__.values()]
        if issubclass(kind, functools.partial):
            return [item.func, *item.args, *item.keywords.values()]
        if kind is MethodType:
            return [item.__func__, item.__self__]
        if hasattr(kind, "nbytes"):
            self.is_small = self.is_small and not _is_large(item)
            return ()
        return list(functions_in(item)) or self._attributes(item)

    def _attributes(self, item: Any) -> Iterable[Any]:
        try:
            if self._opens(type(item)) or is_namespace(type(item)):
                return [value for _, value in state_of(item)]
            wrapped = vars(item).get("__wrapped__")
        except Exception:  # noqa: BLE001 - there are none, or a proxy has nothing behind it yet
            return ()
        return [] if wrapped is None else [wrapped]


def _is_large(array: Any) -> bool:
    size = array.nbytes
    return isinstance(size, int) and size > MAX_ARRAY
