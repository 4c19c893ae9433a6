"""Build, run and cache pipelines of tasks."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError("taskproc runs on Linux and macOS; on Windows use it inside WSL")

__version__ = "1.0.0"

if TYPE_CHECKING:
    from taskproc.cli.defaults import DefaultArguments
    from taskproc.core.future import Const, Future, FutureDict, FutureList
    from taskproc.core.input_file import InputFile
    from taskproc.core.records import Explanation, Outcome, Plan, Record, RunReport, RunStats
    from taskproc.core.task import Task
    from taskproc.engine.session import Cache
    from taskproc.errors import (
        CycleError,
        FailedTaskError,
        MissingResultError,
        TaskprocError,
        TaskprocWarning,
        UsageError,
    )

# Where each public name lives; it is imported when it is first asked for (PEP 562).
_HOMES = {
    "Cache": "taskproc.engine.session",
    "Const": "taskproc.core.future",
    "CycleError": "taskproc.errors",
    "DefaultArguments": "taskproc.cli.defaults",
    "Explanation": "taskproc.core.records",
    "FailedTaskError": "taskproc.errors",
    "Future": "taskproc.core.future",
    "FutureDict": "taskproc.core.future",
    "FutureList": "taskproc.core.future",
    "InputFile": "taskproc.core.input_file",
    "MissingResultError": "taskproc.errors",
    "Outcome": "taskproc.core.records",
    "Plan": "taskproc.core.records",
    "Record": "taskproc.core.records",
    "RunReport": "taskproc.core.records",
    "RunStats": "taskproc.core.records",
    "Task": "taskproc.core.task",
    "TaskprocError": "taskproc.errors",
    "TaskprocWarning": "taskproc.errors",
    "UsageError": "taskproc.errors",
}

__all__ = [
    "Cache",
    "Const",
    "CycleError",
    "DefaultArguments",
    "Explanation",
    "FailedTaskError",
    "Future",
    "FutureDict",
    "FutureList",
    "InputFile",
    "MissingResultError",
    "Outcome",
    "Plan",
    "Record",
    "RunReport",
    "RunStats",
    "Task",
    "TaskprocError",
    "TaskprocWarning",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'taskproc' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
