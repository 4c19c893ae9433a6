"""Decide what a person sees of an error or a warning, and which exit code it means.

0: the run succeeded. 1: a task failed. 2: bad input. 130, 143, 129: interrupted by SIGINT, SIGTERM,
SIGHUP. Everything goes to stderr.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

import click

from taskproc.engine.interruption import Interruption, in_force
from taskproc.errors import (
    FailedTaskError,
    MissingItemError,
    TaskFileError,
    TaskprocError,
    TaskprocWarning,
    UsageError,
)
from taskproc.tracebacks import own_lines

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

_LOG = logging.getLogger("taskproc")


class EntryError(UsageError):
    """The entry task's own `__init__` raised; what it raised is the cause."""


@contextlib.contextmanager
def shield() -> Iterator[None]:
    """Show errors, warnings and log messages as the command does; an error becomes an exit code.

    After a signal the process ends at once if a task still runs in a thread: nothing can end that.

    Raises:
        click.exceptions.Exit: with the code, after the error was shown.
    """
    threads = set(threading.enumerate())
    with _log_on_stderr(), _one_line_warnings():
        try:
            yield
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            _LOG.debug("interrupted here:", exc_info=True)
            signals = in_force() or Interruption()
            ending = signals.exit_code if signals.number else INTERRUPTED
            signals.heed()
            words = f"interrupted by {signals.name}" if signals.number else "interrupted"
            say(f"{words}: {signals.summary}" if signals.summary else words)
            signals.end_children()
            others = set(threading.enumerate()) - threads
            if signals.before_leaving or any(not thread.daemon for thread in others):
                for give_back in signals.before_leaving:
                    with contextlib.suppress(Exception):
                        give_back()
                _end_process(ending)
            raise click.exceptions.Exit(ending) from None
        except Exception as error:
            code = exit_code(error)
            if code is None:  # a fault of ours: Python shows it whole
                raise
            _LOG.debug("the whole traceback:", exc_info=True)
            show(error)
            raise click.exceptions.Exit(code) from None


def _end_process(code: int) -> NoReturn:
    """End without waiting for threads, as Python would."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def exit_code(error: BaseException) -> int | None:
    """The exit code that an error means; None for one that should never get here."""
    if isinstance(error, BaseExceptionGroup):
        codes = {exit_code(member) for member in error.exceptions}
        return None if None in codes else min(code for code in codes if code is not None)
    if isinstance(error, UsageError):
        return BAD_INPUT
    if isinstance(error, FailedTaskError):
        # `task[key]` without such a key is a mistake in the task file, found while it ran.
        return BAD_INPUT if isinstance(error.__cause__, MissingItemError) else FAILED
    if isinstance(error, TaskprocError | OSError):
        return FAILED
    return None


def show(error: BaseException) -> None:
    """Show an error: the user's own traceback if there is one, the message, and its notes."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            show(member)
        count = len(list(leaves(error)))
        say(f"error: {count} {'task' if count == 1 else 'tasks'} failed")
        return
    if isinstance(error, TaskFileError | EntryError):
        cause = error.__cause__
        details = own_lines(cause) if cause is not None else getattr(error, "details", "")
        if details:
            click.echo(details.rstrip("\n"), err=True)
    is_foreign = isinstance(error, OSError) and not isinstance(error, TaskprocError)
    text = f"{type(error).__name__}: {error}" if is_foreign else str(error)
    say("error: " + "\n".join([text, *getattr(error, "__notes__", ())]))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    else:
        yield error


def say(text: str) -> None:
    """One message of ours, on stderr. A stderr that is closed hears nothing."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"taskproc: {text}", err=True)


def set_log_level(level: str) -> None:
    """Show log messages of this level and above; those of others too, if nobody else shows them."""
    number = getattr(logging, level.upper())
    _LOG.setLevel(number)
    root = logging.getLogger()
    ours = [handler for handler in _LOG.handlers if isinstance(handler, _StderrHandler)]
    if ours and not any(handler not in ours for handler in root.handlers):
        root.setLevel(number)
        if not root.handlers:
            root.addHandler(ours[0])


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    handler = _StderrHandler()
    root = logging.getLogger()
    before = (_LOG.level, _LOG.propagate, root.level)
    _LOG.addHandler(handler)
    _LOG.propagate = False
    _LOG.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        root.removeHandler(handler)
        _LOG.level, _LOG.propagate = before[:2]
        root.setLevel(before[2])


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        others = warnings.showwarning

        def showwarning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, TaskprocWarning):
                say(f"warning: {message}")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = showwarning
        warnings.simplefilter("always", TaskprocWarning)
        yield
