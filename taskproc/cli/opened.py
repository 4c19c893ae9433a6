"""Open what a command is about: load the file, open the cache, construct the entry task.

Decides the order of these steps only. The engine is imported when they begin, so that
`--help` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from taskproc.cli.defaults import DefaultArguments, no_defaults
from taskproc.cli.errors import EntryError, set_log_level
from taskproc.cli.settings import Given, Settings, decide
from taskproc.errors import TaskprocError

if TYPE_CHECKING:
    from types import ModuleType

    from taskproc.core.task import Task
    from taskproc.engine.session import Cache

Entry = Callable[[], "tuple[type[Task], DefaultArguments]"]


class Opened(NamedTuple):
    """What a command is about."""

    cache: Cache
    task: Task
    settings: Settings


@contextmanager
def opened_task(entry: Entry, given: Given) -> Iterator[Opened]:
    """The cache, open, with the entry task in it, and all options decided.

    Raises:
        UsageError: bad input.
    """
    set_log_level(given.loglevel or "warning")
    # Before the file is loaded, whose folder then comes first on sys.path.
    import taskproc.cli.output
    import taskproc.engine.options
    import taskproc.engine.session  # noqa: F401 - imported before that, not to be used here
    from taskproc.cli.arguments import entry_arguments
    from taskproc.imports import no_stale_bytecode

    with no_stale_bytecode():
        with prints_apart(given.as_json):
            cls, defaults = entry()
        with opened_cache(given, defaults) as (cache, settings):
            with prints_apart(given.as_json):
                task = construct(cls, entry_arguments(cls, settings.kwargs, settings.assigned))
            yield Opened(cache, task, settings)


class Looked(NamedTuple):
    """A cache, the module of a task file beside it, and the file as it was given.

    `entry` is the TASK of FILE:TASK, or None; `settings` are without the file's own default
    arguments, which `defaults` holds: they are the entry task's alone.
    """

    cache: Cache
    module: ModuleType
    file: str
    entry: str | None
    settings: Settings
    defaults: Mapping[str, Any]


@contextmanager
def opened_file(file: str, given: Given) -> Iterator[Looked]:
    """The cache, open, beside a task file that was loaded and of which no task is constructed.

    Raises:
        UsageError: bad input.
    """
    set_log_level(given.loglevel or "warning")
    import taskproc.cli.arguments
    import taskproc.engine.options
    import taskproc.engine.session  # noqa: F401 - imported before that, not to be used here
    from taskproc.cli.entry import load_module, split_entry
    from taskproc.imports import no_stale_bytecode

    with no_defaults(), no_stale_bytecode():
        path, name = split_entry(file)
        with prints_apart(given.as_json):
            module, defaults = load_module(path)
        entry = name if path != file else None
        with opened_cache(given, replace(defaults, kwargs=None)) as (cache, settings):
            yield Looked(cache, module, path, entry, settings, defaults.kwargs or {})


@contextmanager
def opened_cache(given: Given, defaults: DefaultArguments) -> Iterator[tuple[Cache, Settings]]:
    """The cache, open, and all options decided."""
    from taskproc.engine.session import Cache

    settings = decide(given, defaults)
    set_log_level(settings.loglevel)
    with Cache(settings.output, plugins=settings.plugins) as cache:
        yield cache, settings


def prints_apart(is_json: bool) -> AbstractContextManager[object]:
    """Where stdout is for JSON alone: what the user's code prints goes to stderr."""
    return redirect_stdout(sys.stderr) if is_json else nullcontext()


def load(file: str) -> tuple[type[Task], DefaultArguments]:
    """The entry task of FILE[:TASK], and the defaults that the file states."""
    from taskproc.cli.entry import load_entry

    return load_entry(file)


def construct(cls: type[Task], arguments: dict[str, Any]) -> Task:
    """A task; what its own code raises is told with its own lines.

    Raises:
        UsageError: the arguments do not fit, or an `__init__` raises.
    """
    try:
        return cls(**arguments)
    except TaskprocError:
        raise
    except (Exception, SystemExit) as error:  # an exit is not the end of a run that succeeded
        cause = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise EntryError(f"constructing {cls.__qualname__} raised {cause}") from error
