"""Turn a failed job into the text a person needs, and into an exception.

Knows nothing of where jobs run.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskproc.core.masking import mask_words
from taskproc.core.records import JSON, Failure, Job, Outcome, RunStats, TaskKey
from taskproc.engine.pickling import dumps, loads
from taskproc.engine.plain_files import open_plain
from taskproc.errors import FailedTaskError, TaskprocError, TaskTimeoutError
from taskproc.tracebacks import own_lines

_LAST_LINES = 10
_LAST_BYTES = 8192
_LONGEST_ARGS = 400


def describe(error: BaseException) -> Failure:
    """An exception in a form that travels: its text always, itself where it can be pickled."""
    kind = type(error)
    is_plain = kind.__module__ == "builtins" or kind is TaskTimeoutError
    name = kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception whose own __str__ raises
        message = "(its message can't be shown)"
    return Failure(name, message, _own_text(error), _pickled(error))


def _own_text(error: BaseException) -> str:
    """The traceback in the user's own lines."""
    try:
        return own_lines(error)
    except Exception:  # noqa: BLE001 - an exception whose own __str__ raises
        return "".join(traceback.format_tb(error.__traceback__))


def _pickled(error: BaseException) -> bytes | None:
    """The exception's pickle, if it also comes back from it."""
    try:
        payload = dumps(error).payload
        return payload if isinstance(loads(payload), BaseException) else None
    except BaseException:  # noqa: BLE001 - reducers of strangers may raise anything
        return None


def failed_task_error(
    outcome: Outcome, args: Mapping[str, JSON], logs: Sequence[tuple[str, Path]]
) -> FailedTaskError:
    """The error of a failed job.

    Args:
        logs: (what it is, path) of the logs whose last lines are shown.
    """
    failure = outcome.failure or Failure("unknown", "")
    what = f"{failure.type}: {failure.message}" if failure.message else failure.type
    shown = json.dumps(args, ensure_ascii=False)
    if len(shown) > _LONGEST_ARGS:
        shown = shown[: _LONGEST_ARGS - 3] + "..."
    parts = [f"{outcome.key.name} failed: {what}", f"  arguments: {shown}"]
    if failure.traceback:
        parts.append(_indented(failure.traceback))
    for title, path in logs:
        lines = last_lines(path)
        if lines:
            parts.append(f"  last lines of its {title} ({path}):\n{_indented(lines, '    | ')}")
    error = FailedTaskError("\n".join(parts), outcome.key.name, outcome.key.digest, dict(args))
    error.__cause__ = _cause(failure)
    return error


def _cause(failure: Failure) -> BaseException | None:
    """The task's own exception, or its text where it can't be carried."""
    if failure.pickled is not None:
        try:
            cause = loads(failure.pickled)
            if isinstance(cause, BaseException):
                return cause
        except Exception:  # noqa: BLE001 - it came back in the worker, not here
            pass
    return TaskprocError(f"{failure.type}: {failure.message}") if failure.traceback else None


def how_far(
    stats: RunStats,
    counts: Mapping[str, int],
    cancelled: Sequence[TaskKey],
    left: Sequence[TaskKey],
    failed: int,
) -> str:
    """What an interrupted run came to, in words.

    Args:
        stats: its statistics so far.
        counts: how many of its tasks are in each state, as the scheduler has it.
        cancelled: the tasks whose jobs were ended.
        left: those whose jobs go on, as nothing can end them.
        failed: how many tasks had failed.
    """
    finished = sum(stats["stats"].values())
    parts = [f"{finished} {'task' if finished == 1 else 'tasks'} finished", f"{len(cancelled)} cancelled"]
    if cancelled:
        parts[-1] += f" ({_by_name(cancelled)})"
    if left:
        parts.append(f"{len(left)} left running ({_by_name(left)})")
    if failed:
        parts.append(f"{failed} failed")
    not_started = sum(counts.values()) - counts["done"] - len(cancelled) - len(left) - failed
    parts.append(f"{not_started} not started")
    words = ", ".join(parts)
    return f"{words}; what is finished is stored: the same command goes on from there"


def _by_name(keys: Sequence[TaskKey]) -> str:
    names = Counter(key.name.rpartition(".")[2] for key in keys)
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in names.items())


def last_lines(path: Path, lines: int = _LAST_LINES) -> str:
    """The last lines of a log, or "" if there is none."""
    try:
        with open_plain(path) as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _LAST_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _indented(text: str, margin: str = "    ") -> str:
    return "\n".join(margin + line for line in text.rstrip("\n").splitlines())


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"died of {signal.Signals(-returncode).name}"
    except ValueError:
        return f"died of signal {-returncode}"


def launched_failure(job: Job, argv: Sequence[str], returncode: int, explanation: str) -> Failure:
    """The failure of a launched job that left no record."""
    message = f"the command {argv[0]!r} {_ending(returncode)} and left no result"
    if explanation:
        message += f": {explanation}"
    command = shlex.join(mask_words(argv))
    return Failure("launched job", f"{message} (label {job.label!r}, command: {command})")
