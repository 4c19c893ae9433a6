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
    """The functions of a class: those its body defines, and those it was given otherwise.

    Wrappers from outside of the project are looked through: decorators, and ours of `__init__`.
    """

    def original(function: FunctionType) -> FunctionType:
        wrapped = function.__dict__.get("__wrapped__")
        while isinstance(wrapped, FunctionType) and not in_project(function.__globals__):
            function, wrapped = wrapped, wrapped.__dict__.get("__wrapped__")
        return function

    own: list[FunctionType] = []
    others: list[FunctionType] = []
    for name, member in vars(cls).items():
        for function in functions_in(member):
            found = original(function)
            if found is not function and _inherits(cls, name, found, original):
                continue
            is_own = found.__code__.co_qualname.startswith(f"{cls.__qualname__}.")
            is_own = is_own and in_project(found.__globals__) and not is_generated(found)
            (own if is_own else others).append(found)
    return own, others


def _inherits(
    cls: type, name: str, found: FunctionType, original: Callable[[FunctionType], FunctionType]
) -> bool:
    """Whether a function is a base's: Task wraps an inherited `__init__` on the class that inherits it."""
    return any(
        original(function) is found
        for base in cls.__mro__[1:]
        for function in functions_in(vars(base).get(name))
    )


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
