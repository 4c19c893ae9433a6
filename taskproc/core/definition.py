"""What a Task class says of itself: whether it is well-formed, its labels, how it is called.

Knows nothing of instances.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.binder import Binder, default_factories
from taskproc.core.seconds import read_seconds
from taskproc.errors import TaskDefinitionError

if TYPE_CHECKING:
    from taskproc.core.task import Task

BUILT_IN_NAMES = frozenset(
    {
        "task_name", "task_id", "task_args", "task_directory", "task_stdout", "task_stderr",
        "run_graph", "plan", "why", "is_cached", "get_result", "get_record", "get_arguments",
        "get_upstreams", "to_json",
        "clear_task", "clear_all_tasks", "cli", "_task", "_task_name", "_task_class",
    }
)  # fmt: skip


_MOST_FUNCTIONS = 500


class TaskClass:
    """What is worked out once for each Task class: how its arguments are read, its slots.

    Attributes:
        members: the methods and properties that other tasks may call on one of this class, each
            with the names that it reads itself.
        mentions: the names of attributes that its own methods, and the functions they call, read
            of whatever.
    """

    __slots__ = ("binder", "cached_properties", "members", "mentions", "slots")

    def __init__(self, cls: type[Task]) -> None:
        self.binder = Binder(inspect.unwrap(cls.__init__), cls._task_name, default_factories(cls))
        bases = [base for base in cls.__mro__ if base is not object]
        self.slots = tuple(
            name
            for base in bases
            for name in _slot_names(base)
            if name not in ("__dict__", "__weakref__", "_task")
        )
        self.cached_properties = frozenset(
            name
            for base in bases
            for name, value in vars(base).items()
            if isinstance(value, functools.cached_property)
        )

        functions = [
            (name, function)
            for base in bases
            if base.__module__ != "taskproc.core.task"
            for name, member in vars(base).items()
            for function in _functions_of(member)
        ]
        self.members: dict[str, frozenset[str]] = {}
        for name, function in functions:
            if name not in ("run_task", "__init__"):
                read = _names_read(inspect.unwrap(function).__code__)
                self.members[name] = self.members.get(name, frozenset()) | read
        self.mentions = _names_read_below([function for _, function in functions])

    def __reduce__(self) -> tuple[Callable[..., None], tuple[()]]:
        # A class that travels by value leaves this behind: it is worked out again on arrival.
        return (_nothing, ())


SETTINGS = frozenset(
    {"task_label", "task_compress_level", "task_timeout", "task_code", "task_version", "task_depends_on"}
)
"""Class attributes whose statements are no code: how a task is run and stored, and what it states."""


def check_definition(cls: type[Task], root: type[Task]) -> None:
    """Refuse a class that overrides a built-in name of `root` (Task), or has a bad setting."""
    for base in cls.__mro__:
        if base is root:
            break
        for name in BUILT_IN_NAMES.intersection(vars(base)) - {"_task_name", "_task_class"}:
            raise TaskDefinitionError(
                f"{cls.__module__}.{cls.__qualname__}: {base.__qualname__}.{name} overrides a built-in name "
                f"of Task; call it something else"
            )
    labels: Any = cls.task_label
    if not isinstance(labels, str) and not (
        isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
    ):
        raise TaskDefinitionError(
            f"{cls.__qualname__}.task_label is {labels!r}; it must be a str or a list of str"
        )
    level: Any = cls.task_compress_level
    if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level <= 9:
        raise TaskDefinitionError(
            f"{cls.__qualname__}.task_compress_level is {level!r}; it must be an integer from 0 to 9"
        )
    if cls.task_timeout is not None:
        try:
            read_seconds(cls.task_timeout)
        except ValueError as error:
            raise TaskDefinitionError(
                f"{cls.__qualname__}.task_timeout is {cls.task_timeout!r}; {error}, or None for no limit"
            ) from None
    _check_statements(cls)


def _check_statements(cls: type[Task]) -> None:
    """Refuse a bad `task_code` or `task_depends_on`; what they come to is found out at plan."""
    mode: Any = cls.task_code
    if not (mode is None or (isinstance(mode, str) and mode in ("deep", "class", "off"))):
        raise TaskDefinitionError(
            f"{cls.__qualname__}.task_code is {mode!r}; it must be 'deep', 'class', 'off' or None"
        )
    things: Any = cls.task_depends_on
    if not isinstance(things, list | tuple):
        raise TaskDefinitionError(
            f"{cls.__qualname__}.task_depends_on is {things!r}; it must be a list or a tuple"
        )
    for thing in things:
        if not (isinstance(thing, str | PurePath | ModuleType) or callable(thing)):
            raise TaskDefinitionError(
                f"{cls.__qualname__}.task_depends_on holds {thing!r}; it may hold functions, classes and "
                "modules, pathlib paths, and names of installed distributions"
            )


def task_labels(cls: type[Task]) -> tuple[str, ...]:
    """The task's own name, then its labels, each once and in order."""
    labels = cls.task_label
    return tuple(dict.fromkeys([cls._task_name, *([labels] if isinstance(labels, str) else labels)]))


def _functions_of(member: object) -> list[FunctionType]:
    """The functions behind a method or property, as it stands in a class."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    elif isinstance(member, functools.cached_property):
        member = member.func
    found = [member.fget, member.fset, member.fdel] if isinstance(member, property) else [member]
    return [function for function in found if isinstance(function, FunctionType)]


def _names_read_below(functions: Sequence[FunctionType]) -> frozenset[str]:
    """The names that functions read, and those that the functions they name read, and so on."""
    names, seen = set[str](), set[int]()
    stack = [inspect.unwrap(function) for function in functions]
    while stack and len(seen) < _MOST_FUNCTIONS:
        function = stack.pop()
        if id(function) not in seen:
            seen.add(id(function))
            read = _names_read(function.__code__)
            names |= read
            named = [function.__globals__.get(name) for name in read]
            modules = [vars(thing) for thing in named if isinstance(thing, ModuleType)]
            named += [inside.get(name) for inside in modules for name in read]
            stack += [inspect.unwrap(thing) for thing in named if _may_call_methods(thing)]
    return frozenset(names)


def _may_call_methods(thing: object) -> bool:
    """Whether it is a function that somebody may have written for tasks."""
    top = str(getattr(thing, "__module__", "")).partition(".")[0]
    return isinstance(thing, FunctionType) and top != "taskproc" and top not in sys.stdlib_module_names


def _names_read(code: CodeType) -> frozenset[str]:
    """The names of attributes and globals in a function and in those it makes."""
    names, stack = set[str](), [code]
    while stack:
        inner = stack.pop()
        names.update(inner.co_names)
        stack += [constant for constant in inner.co_consts if isinstance(constant, CodeType)]
    return frozenset(names)


def _slot_names(cls: type) -> tuple[str, ...]:
    slots: Any = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _nothing() -> None:
    return None
