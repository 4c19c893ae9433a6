"""Decide what the options of the command are where the command line is silent.

A task file states them with `DefaultArguments(...).populate()`. Knows nothing of click.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

LOG_LEVELS = ("debug", "info", "warning", "error")
ON_ERROR = ("stop", "continue")
CODE = ("deep", "class", "off")


@dataclass(frozen=True)
class DefaultArguments:
    """Defaults for the options of the command; None leaves an option as it is built in.

    Attributes:
        loglevel: "debug", "info", "warning" or "error".
        num_workers: how many jobs at once, 1 or more.
        kwargs: arguments of the entry task.
        prefix: for each label, a command in front of its jobs: text or a list of words.
        rate_limits: for each label, how many of its tasks run at once, 1 or more.
        exec_type: "process", "thread", "serial" (or "local"), or a plugin's executor, with
            options as "name:opt=val,...".
        output: the cache: a path or "name:rest", relative to the working directory.
        detect_source_change: whether a task whose code changed is run again; False is code="off".
        code: how much code counts: "deep", "class" or "off" (see `Task.run_graph`).
        early_cutoff: whether an upstream that comes to the same content again leaves what is below it.
        timeouts: for each label, how long a job may run: seconds, "90s", "10m", "2h" or "1d"; "none"
            for no limit.
        force_entrypoint: whether the entry task itself is always run.
        show_progress: whether progress is shown on stderr.
        launchers: for each label, a Launcher or "name:opt=val,...".
        reporters: Reporters, or "name:opt=val,...".
        on_error: "stop" or "continue".
        plugins: as for `-p`: a name, "./file.py" or "no:name".

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: a value is out of its range.
    """

    loglevel: Literal["debug", "info", "warning", "error"] | None = None
    num_workers: int | None = None
    kwargs: Mapping[str, Any] | None = None
    prefix: Mapping[str, str | Sequence[str]] | None = None
    rate_limits: Mapping[str, int] | None = None
    exec_type: str | None = None
    output: str | os.PathLike[str] | None = None
    detect_source_change: bool | None = None
    force_entrypoint: bool | None = None
    show_progress: bool | None = None
    launchers: Mapping[str, Any] | None = None
    reporters: Sequence[Any] | None = None
    on_error: Literal["stop", "continue"] | None = None
    plugins: Sequence[str] | None = None
    code: Literal["deep", "class", "off"] | None = None
    early_cutoff: bool | None = None
    timeouts: Mapping[str, float | str] | None = None

    def __post_init__(self) -> None:
        for name in ("kwargs", "prefix", "rate_limits", "launchers", "timeouts"):
            _check_mapping(name, getattr(self, name))
        for name in ("detect_source_change", "force_entrypoint", "show_progress", "early_cutoff"):
            _check(name, getattr(self, name), bool, "True or False")
        _check("exec_type", self.exec_type, str, 'a name such as "process"')
        _check("output", self.output, str | os.PathLike, "a path")
        _check_choice("loglevel", self.loglevel, LOG_LEVELS)
        _check_choice("on_error", self.on_error, ON_ERROR)
        _check_choice("code", self.code, CODE)
        if self.num_workers is not None:
            _check_positive("num_workers", self.num_workers)
        for label, limit in (self.rate_limits or {}).items():
            _check_positive(f"rate_limits[{label!r}]", limit)
        from taskproc.core.seconds import read_timeouts  # `--help` needs no tasks

        read_timeouts("DefaultArguments(timeouts=...)", self.timeouts or {})
        for label, prefix in (self.prefix or {}).items():
            if not isinstance(prefix, str):
                _check_words(f"prefix[{label!r}]", prefix, "a text or a list of words")
        if self.plugins is not None:
            _check_words("plugins", self.plugins, "a list of names")
        if isinstance(self.reporters, str) or not isinstance(self.reporters, Sequence | None):
            raise _wrong("reporters", self.reporters, "a list of reporters")

    def populate(self) -> None:
        """Make these the defaults of this process; what an earlier call gave stays where this is silent."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        merged = replace(
            self.get_default(), **{name: value for name, value in given.items() if value is not None}
        )
        _defaults.set(merged)

    @classmethod
    def get_default(cls) -> DefaultArguments:
        """The defaults now in force."""
        return _defaults.get() or cls()


# What `populate` has set, in this context: see docs/decisions.
_defaults: ContextVar[DefaultArguments | None] = ContextVar("taskproc_default_arguments", default=None)


@contextmanager
def no_defaults() -> Iterator[None]:
    """Start without defaults, and leave none behind: a file's defaults are for its own run."""
    token = _defaults.set(None)
    try:
        yield
    finally:
        _defaults.reset(token)


def _wrong(name: str, value: object, wanted: str) -> TypeError:
    return TypeError(f"DefaultArguments({name}=...) must be {wanted}, not {value!r}")


def _check(name: str, value: object, kind: Any, wanted: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise _wrong(name, value, wanted)


def _check_mapping(name: str, value: object) -> None:
    _check(name, value, Mapping, "a mapping with str keys")
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        raise _wrong(name, value, "a mapping with str keys")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    wanted = " or ".join(repr(choice) for choice in choices)
    _check(name, value, str, wanted)
    if value is not None and value not in choices:
        raise ValueError(f"DefaultArguments({name}=...) must be {wanted}, not {value!r}")


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, value, "an integer of 1 or more")
    if value < 1:
        raise ValueError(f"DefaultArguments({name}=...) must be an integer of 1 or more, not {value!r}")


def _check_words(name: str, value: object, wanted: str) -> None:
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(v, str) for v in value)
    ):
        raise _wrong(name, value, wanted)
