"""Open what a command is about: load the file, open the cache, construct the entry task.

Decides the order of these steps only. The engine is imported when they begin, so that
`--help` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    import taskproc.engine.session
    from taskproc.cli.arguments import entry_arguments

    cls, defaults = entry()
    with opened_cache(given, defaults) as (cache, settings):
        arguments = entry_arguments(cls, settings.kwargs, settings.assigned)
        yield Opened(cache, construct(cls, arguments), settings)


class Looked(NamedTuple):
    """A cache, the module of a task file beside it, and the file as it was given."""

    cache: Cache
    module: ModuleType
    file: str
    settings: Settings


@contextmanager
def opened_file(file: str, given: Given) -> Iterator[Looked]:
    """The cache, open, beside a task file that was loaded and of which no task is constructed.

    Raises:
        UsageError: bad input.
    """
    set_log_level(given.loglevel or "warning")
    import taskproc.cli.arguments
    import taskproc.engine.options
    import taskproc.engine.session
    from taskproc.cli.entry import load_module, split_entry

    with no_defaults():
        path, _ = split_entry(file)
        module, defaults = load_module(path)
        with opened_cache(given, defaults) as (cache, settings):
            yield Looked(cache, module, path, settings)


@contextmanager
def opened_cache(given: Given, defaults: DefaultArguments) -> Iterator[tuple[Cache, Settings]]:
    """The cache, open, and all options decided."""
    from taskproc.engine.session import Cache

    settings = decide(given, defaults)
    set_log_level(settings.loglevel)
    with Cache(settings.output, plugins=settings.plugins) as cache:
        yield cache, settings


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
