"""Find the Task classes that are loaded, by task name."""

from __future__ import annotations

from typing import Any

from taskproc.core.task import Task


def task_classes() -> dict[str, type[Task]]:
    """The Task classes of this process by task name; of several of one name the one made last."""
    found: dict[str, type[Task]] = {}
    seen: set[Any] = set()
    stack: list[Any] = [Task]
    while stack:
        for cls in stack.pop().__subclasses__():
            if cls not in seen:
                seen.add(cls)
                stack.append(cls)
                known = found.get(cls._task_name)
                if known is None or known._task_serial < cls._task_serial:
                    found[cls._task_name] = cls
    return found
