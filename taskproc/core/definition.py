"""What a Task class says of itself: whether it is well-formed, its labels, how it is called.

Knows nothing of instances.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.binder import Binder, default_factories
from taskproc.errors import TaskDefinitionError

if TYPE_CHECKING:
    from taskproc.core.task import Task

BUILT_IN_NAMES = frozenset(
    {
        "task_name", "task_id", "task_args", "task_directory", "task_stdout", "task_stderr",
        "run_graph", "plan", "get_result", "get_upstreams", "to_json",
        "clear_task", "clear_all_tasks", "cli", "_task", "_task_name", "_task_class",
    }
)  # fmt: skip


class TaskClass:
    """What is worked out once for each Task class: how its arguments are read, its slots."""

    __slots__ = ("binder", "cached_properties", "slots")

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

    def __reduce__(self) -> tuple[Callable[..., None], tuple[()]]:
        # A class that travels by value leaves this behind: it is worked out again on arrival.
        return (_nothing, ())


def check_definition(cls: type[Task], root: type[Task]) -> None:
    """Refuse a class that overrides a built-in name of `root` (Task), or has a bad label or level."""
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


def task_labels(cls: type[Task]) -> tuple[str, ...]:
    """The task's own name, then its labels, each once and in order."""
    labels = cls.task_label
    return tuple(dict.fromkeys([cls._task_name, *([labels] if isinstance(labels, str) else labels)]))


def _slot_names(cls: type) -> tuple[str, ...]:
    slots: Any = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _nothing() -> None:
    return None
