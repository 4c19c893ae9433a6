"""Decide which members of a class its own source tells of, and which it was given otherwise.

Knows nothing of files.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

from taskproc.core.task import Task
from taskproc.engine.code_values import functions_in

SETTINGS = frozenset({"task_label", "task_compress_level"})
"""Attributes of a Task class that say how it is run and stored, not what it computes."""


def methods(
    cls: type, in_project: Callable[[Mapping[str, Any]], bool]
) -> tuple[list[FunctionType], list[FunctionType]]:
    """The functions of a class: those its body defines, and those it was given otherwise."""
    own: list[FunctionType] = []
    others: list[FunctionType] = []
    for name, member in vars(cls).items():
        for function in functions_in(member):
            original = _without_our_wrapper(function)
            if original is not function and _inherits(cls, name, original):
                continue
            is_own = original.__code__.co_qualname.startswith(f"{cls.__qualname__}.")
            is_own = is_own and in_project(original.__globals__) and not is_generated(original)
            (own if is_own else others).append(original)
    return own, others


def is_generated(function: FunctionType) -> bool:
    """Whether a function comes from text that a library made up (dataclass, attrs)."""
    path = function.__code__.co_filename
    return path == "<string>" or path.startswith("<attrs generated")


def data(cls: type) -> Iterator[tuple[str, Any]]:
    """The plain attributes of a class."""
    for name, value in vars(cls).items():
        skipped = name.startswith(("__", "_task", "_abc_")) or (name in SETTINGS and issubclass(cls, Task))
        if not skipped and not any(functions_in(value)) and not inspect.isdatadescriptor(value):
            yield name, value


def _without_our_wrapper(function: FunctionType) -> FunctionType:
    """The `__init__` that a user wrote: Task wraps it when its class is first used."""
    while function.__globals__.get("__name__") == Task.__module__ and "__wrapped__" in function.__dict__:
        function = function.__dict__["__wrapped__"]
    return function


def _inherits(cls: type, name: str, original: FunctionType) -> bool:
    return any(
        _without_our_wrapper(function) is original
        for base in cls.__mro__[1:]
        for function in functions_in(vars(base).get(name))
    )
