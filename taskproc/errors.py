"""Every error and warning a caller of taskproc may catch.

Each message names the thing, the fault and the way out. Errors that stand for
a user's mistake also derive from the built-in exception that Python users
expect for it (ValueError, TypeError, ...), so both can be caught.
"""

from __future__ import annotations

from typing import Any


class TaskprocError(Exception):
    """Base class of all errors of taskproc."""

    def __str__(self) -> str:
        # The message alone: what stands behind it in `args` is there for pickle.
        return str(self.args[0]) if self.args else ""


class TaskprocWarning(UserWarning):
    """Base class of all warnings of taskproc."""


class UsageError(TaskprocError):
    """Base class of the errors that stand for bad input; the command exits with 2."""


class NoCacheError(UsageError, RuntimeError):
    """A task was constructed, or asked about, with no Cache open."""


class ForeignCacheError(UsageError, RuntimeError):
    """A task has an upstream that belongs to another Cache."""


class TaskDefinitionError(UsageError, TypeError):
    """A Task class is wrong in itself: a built-in name overridden, no run_task, a bad label."""


class ArgumentError(UsageError, TypeError):
    """An argument of a task is of a type that can't be part of a key, or does not fit."""


class CycleError(UsageError, ValueError):
    """Tasks wait for each other in a circle; the message names them in order."""


class AmbiguousTaskError(UsageError, ValueError):
    """Two different task classes of one name, with equal arguments, stand in one graph."""


class RateLimitError(UsageError, ValueError):
    """A rate limit is not an integer of 1 or more."""


class OptionError(UsageError, ValueError):
    """An option of a run has a value that it can't have."""


class PrefixError(UsageError, ValueError):
    """A prefix can't be read, or its command does not exist."""


class MissingInputError(UsageError, FileNotFoundError):
    """An input file of a task does not exist, or can't be read; nothing was run."""


class TaskFileError(UsageError):
    """A task file does not exist, can't be loaded, or has no such task.

    `details` is the text of the file's own traceback, trimmed to its own lines, or "".
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class CacheError(UsageError):
    """A cache can't be opened: its path is a file, is not ours, can't be written."""


class PluginError(UsageError):
    """A plugin failed to load, or answers a hook wrongly."""


class UnknownComponentError(PluginError, LookupError):
    """No component of that name; the message lists the known ones, with a guess."""


class DuplicateComponentError(PluginError):
    """Two plugins offer a component of one name; the message names both."""


class ComponentOptionError(PluginError, ValueError):
    """An option of a component is unknown, missing, or of the wrong type."""


class MissingResultError(TaskprocError, LookupError):
    """A result was asked for that is not in the cache."""


class MissingItemError(TaskprocError, KeyError, IndexError):
    """The result of a task has no item under the key asked for (`task[key]`)."""


class DamagedEntryError(TaskprocError):
    """A stored result is not what its record says; it is set aside and computed anew.

    `key` is the TaskKey of the damaged entry.
    """

    def __init__(self, message: str, key: Any) -> None:
        super().__init__(message, key)
        self.key = key


class UndecodableError(TaskprocError, ValueError):
    """A stored argument can't be turned into a value again; the message says which part, and why."""


class UnpicklableResultError(TaskprocError, TypeError):
    """A result can't be pickled; the message says what in it can't be."""


class UnreadableResultError(TaskprocError):
    """A stored result is whole but can't be unpickled: a class of it is gone, or refuses."""


class WorkerDiedError(TaskprocError):
    """A worker process ended in the middle of its work.

    `returncode` is as in subprocess: -N for death by signal N.
    `position` is the last position the work announced, or None. `pid` is the worker's.
    """

    def __init__(
        self, message: str, returncode: int | None, position: int | None, pid: int | None = None
    ) -> None:
        super().__init__(message, returncode, position, pid)
        self.returncode = returncode
        self.position = position
        self.pid = pid


class TaskTimeoutError(TaskprocError, TimeoutError):
    """A task ran longer than its time limit, and was ended; the cause of a `FailedTaskError`."""


class ExecutorBrokenError(TaskprocError):
    """The executor broke, and its unfinished jobs failed with it."""


class FailedTaskError(TaskprocError, RuntimeError):
    """A task failed. The message names task, arguments, exception and logs.

    `task_name`, `task_key` (str, hex digest) and `task_args` (JSON) say which one.
    The task's own exception is the `__cause__` where it could be carried over.
    """

    def __init__(self, message: str, task_name: str, task_key: str, task_args: Any) -> None:
        super().__init__(message, task_name, task_key, task_args)
        self.task_name = task_name
        self.task_key = task_key
        self.task_args = task_args


class Terminated(SystemExit):
    """A run in a script was ended by SIGTERM or SIGHUP, in good order: not caught, it ends the script.

    `code` is 143 or 129, which a shell has for a process that died of these; `number` is the signal.
    """

    def __init__(self, code: int, number: int) -> None:
        super().__init__(code)
        self.number = number


class UnknownLabelWarning(TaskprocWarning):
    """A rate limit, prefix or launcher is given for a label that no task of the graph has."""


class TimeLimitWarning(TaskprocWarning):
    """A time limit is given for tasks that nothing can end, as they run in threads."""


class PluginWarning(TaskprocWarning):
    """A plugin failed where it was only an observer; it is silenced for the run."""


class DamagedEntryWarning(TaskprocWarning):
    """A damaged cache entry was found, set aside, and will be computed anew."""


class UnsafeEntryWarning(TaskprocWarning):
    """A stored result is not read, as somebody else may have written it; it will be computed anew."""


class InputChangedWarning(TaskprocWarning):
    """An input file changed while a task ran that has it; the task runs again in the next run."""


class SlowKeyWarning(TaskprocWarning):
    """It takes long to make the key of a task's argument, whenever such a task is constructed."""


class OtherCodeWarning(TaskprocWarning):
    """A worker ran other code than the runner knows; what it computed counts for this run only."""
