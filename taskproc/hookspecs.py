"""The hooks of taskproc, each with its contract.

A plugin is a module or an object whose functions carry `@hookimpl`. If one of several
components is in force it is registered by name and selected by flag; if all should hear,
it is a moment. No hook is decided by the order of registration.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from taskproc.interfaces import (
    ArgumentType,
    CacheBackend,
    ExecutorProvider,
    Job,
    Launcher,
    Outcome,
    Plan,
    Reporter,
    RunReport,
)

if TYPE_CHECKING:
    import click

PROJECT = "taskproc"
"""The name of the entry point group and of the pluggy project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def taskproc_register_cache_backends() -> Sequence[type[CacheBackend]]:  # type: ignore[empty-body]
    """Return classes of cache backends, selected by name: `-o NAME:REST`. Called once."""


@hookspec
def taskproc_register_executors() -> Sequence[type[ExecutorProvider]]:  # type: ignore[empty-body]
    """Return classes of executor providers, selected by name: `-x NAME`. Called once."""


@hookspec
def taskproc_register_launchers() -> Sequence[type[Launcher]]:  # type: ignore[empty-body]
    """Return classes of launchers, selected by name: `--launcher LABEL=NAME`. Called once."""


@hookspec
def taskproc_register_reporters() -> Sequence[type[Reporter]]:  # type: ignore[empty-body]
    """Return classes of reporters, selected by name: `--report NAME`. Called once."""


@hookspec
def taskproc_register_argument_types() -> Sequence[ArgumentType]:  # type: ignore[empty-body]
    """Return classes of other libraries whose objects are to be arguments of tasks. Called once.

    They are looked for when an argument is of a class that taskproc itself does not know.
    """


@hookspec
def taskproc_register_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]
    """Return click commands to stand beside `taskproc run`. Called by the command line only."""


@hookspec
def taskproc_run_started(plan: Plan) -> None:
    """A run begins, before its first job; the plan tells what will run and what is cached."""


@hookspec
def taskproc_job_started(job: Job) -> None:
    """A job was handed to its executor or launcher."""


@hookspec
def taskproc_job_finished(outcome: Outcome) -> None:
    """A job ended: finished, failed, cancelled, or done elsewhere by another runner."""


@hookspec
def taskproc_run_finished(report: RunReport) -> None:
    """A run is over, in whatever way; called always, with the statistics."""
