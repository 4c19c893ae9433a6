"""Read what the caller of a run asks for: executors, launchers, reporters, limits, by name or object.

Everything wrong is found here, before anything is submitted.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Literal

from taskproc.core.records import CodeMode
from taskproc.core.schedule import check_rate_limits
from taskproc.core.seconds import read_timeouts
from taskproc.errors import (
    OptionError,
    PluginError,
    PrefixError,
    TaskprocError,
    UnknownComponentError,
    UnknownLabelWarning,
    UsageError,
)
from taskproc.interfaces import ExecutorProvider, Launcher, Reporter
from taskproc.registry import Registry
from taskproc.registry.components import in_one_line


@dataclass(frozen=True)
class RunOptions:
    """The options of `Task.run_graph`, as they were given."""

    executor: str | Executor | ExecutorProvider | None = None
    max_workers: int | None = None
    rate_limits: Mapping[str, int] | None = None
    prefixes: Mapping[str, str | Sequence[str]] | None = None
    launchers: Mapping[str, str | Launcher] | None = None
    reporters: Sequence[str | Reporter] = ()
    detect_source_change: bool = True
    code: CodeMode = "deep"
    early_cutoff: bool = False
    on_error: Literal["stop", "continue"] = "stop"
    show_progress: bool = False
    force: bool = False
    timeouts: Mapping[str, float | str | None] | None = None


@dataclass(frozen=True)
class RunSetup:
    """The options of a run, read and checked.

    Attributes:
        executor: the user's own, or None; `provider` opens one if it is None.
        max_workers: how many jobs at once in the executor.
        timeouts: for labels, how many seconds a job may run; None: as long as it takes.
    """

    executor: Executor | None
    provider: ExecutorProvider | None
    max_workers: int
    rate_limits: Mapping[str, int]
    launchers: Mapping[str, Launcher]
    reporters: Sequence[Reporter] = field(default_factory=list[Reporter])
    timeouts: Mapping[str, float | None] = field(default_factory=dict[str, float | None])


def read_options(options: RunOptions, registry: Registry) -> RunSetup:
    """Make components of names, and check values.

    Raises:
        UsageError: something in the options is wrong; the message says what.
    """
    rate_limits = dict(options.rate_limits or {})
    check_rate_limits(rate_limits)
    if options.on_error not in ("stop", "continue"):
        raise OptionError(f"on_error is {options.on_error!r}; it must be 'stop' or 'continue'")
    workers: Any = options.max_workers
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise OptionError(f"max_workers is {workers!r}; it must be an integer of 1 or more")
    executor, provider = _executor(options.executor, registry)
    reporters = [
        registry.reporter(reporter) if isinstance(reporter, str) else reporter
        for reporter in (options.reporters or ())
    ]
    if options.show_progress and not any(getattr(one, "name", None) == "progress" for one in reporters):
        # Bars and what a task prints in this very process would overwrite each other.
        in_place = provider is not None and provider.in_place
        # Who disables the plugin (`-p no:progress`) wants to see none, and is not asking for it.
        with contextlib.suppress(UnknownComponentError):
            reporters.append(registry.reporter("progress:style=lines" if in_place else "progress"))
    return RunSetup(
        executor=executor,
        provider=provider,
        max_workers=workers or _workers_of(executor),
        rate_limits=rate_limits,
        launchers=_launchers(options, registry),
        reporters=reporters,
        timeouts=read_timeouts("timeouts", options.timeouts or {}),
    )


def _executor(given: Any, registry: Registry) -> tuple[Executor | None, ExecutorProvider | None]:
    if isinstance(given, Executor):
        return given, None
    if isinstance(given, ExecutorProvider):
        return None, given
    if given is None or isinstance(given, str):
        return None, registry.executor(given or "process")
    raise UsageError(
        f"executor is {given!r}; give a name such as 'process', 'thread' or 'serial', an ExecutorProvider, "
        "or a running concurrent.futures.Executor"
    )


def _workers_of(executor: Executor | None) -> int:
    known = getattr(executor, "_max_workers", None)
    return known if isinstance(known, int) and known > 0 else os.cpu_count() or 1


def _launchers(options: RunOptions, registry: Registry) -> dict[str, Launcher]:
    prefixes, launchers = dict(options.prefixes or {}), dict(options.launchers or {})
    both = sorted(prefixes.keys() & launchers.keys())
    if both:
        raise UsageError(f"label {both[0]!r} has both a prefix and a launcher; give it one of them")
    found: dict[str, Launcher] = {}
    for label, text in prefixes.items():
        words: Any = text
        if not isinstance(words, str) and not (
            isinstance(words, list | tuple) and all(isinstance(word, str) for word in words)
        ):
            raise PrefixError(f"the prefix of label {label!r} is {words!r}; give text or a list of str")
        prefix = registry.launcher_class("prefix")
        try:
            found[label] = prefix(prefix=words if isinstance(words, str) else tuple(words))
        except PrefixError as error:
            raise PrefixError(f"label {label!r}: {error}") from None
    for label, given in launchers.items():
        launcher: Any = registry.launcher(given) if isinstance(given, str) else given
        if not isinstance(launcher, Launcher):
            raise UsageError(
                f"the launcher of label {label!r} is {launcher!r}; give a Launcher or 'name:opt=val,...'"
            )
        found[label] = launcher
    for label, each in found.items():
        _check_max_jobs(label, each)
    return found


def check_commands(launchers: Mapping[str, Launcher], labels: Collection[str]) -> None:
    """Raise PrefixError if a launcher that will be used needs a command that does not exist."""
    for label, launcher in launchers.items():
        if label not in labels:
            continue
        for command in _needs(launcher):
            if shutil.which(command) is None:
                raise PrefixError(
                    f"the {launcher.name} launcher of label {label!r} needs the command {command!r}, which "
                    "is not on PATH; install it or correct the command"
                )


def _needs(launcher: Launcher) -> Sequence[str]:
    needs = _answer_of(launcher, "needs")
    if isinstance(needs, str) or not isinstance(needs, Sequence):
        raise PluginError(f"launcher {launcher.name!r}: needs is {needs!r}, not a tuple of commands")
    return needs


def _check_max_jobs(label: str, launcher: Launcher) -> None:
    """Raise OptionError if a launcher would never start a job."""
    option = "default_max_jobs" if launcher.max_jobs is None else "max_jobs"
    most = _answer_of(launcher, option)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise OptionError(
            f"{option} of the {launcher.name} launcher of label {label!r} is {most!r}; "
            "it must be an integer of 1 or more"
        )


def _answer_of(launcher: Launcher, name: str) -> Any:
    """An attribute of a launcher, which may be a plugin's property: what it raises is told in its name."""
    try:
        return getattr(launcher, name)
    except TaskprocError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"launcher {launcher.name!r} failed in {name}: {in_one_line(error)}") from error


def warn_unknown_labels(setup: RunSetup, known: Iterable[str]) -> None:
    """Warn of limits, prefixes and launchers for labels that no task of the graph has."""
    labels = set(known)
    for kind, given in (
        ("rate limit", setup.rate_limits),
        ("prefix or launcher", setup.launchers),
        ("time limit", setup.timeouts),
    ):
        for label in given:
            if label not in labels:
                close = difflib.get_close_matches(label, labels, n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]!r}?" if close else f"; the labels are {sorted(labels)}"
                warnings.warn(
                    f"a {kind} is given for the label {label!r}, which no task of this graph has{hint}",
                    UnknownLabelWarning,
                    stacklevel=2,
                )
