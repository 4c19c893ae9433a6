"""Decide each option of a run: the command line first, then the file's defaults, then ours.

A whole JSON object replaces a default; LABEL=... and NAME=... change one entry of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from taskproc.cli.defaults import DefaultArguments
from taskproc.cli.values import (
    check_prefixes,
    check_rate_limits,
    json_object,
    objects_and_assignments,
    split_assignments,
)
from taskproc.errors import ArgumentError, UsageError

if TYPE_CHECKING:
    from taskproc.core.records import CodeMode  # the core is imported when a run begins

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What stands on the command line: texts as typed, None or () where nothing does."""

    output: str | None = None
    arguments: Sequence[str] = ()
    kwargs: str | None = None
    exec_type: str | None = None
    executor: str | None = None
    num_workers: int | None = None
    prefixes: Sequence[str] = ()
    launchers: Sequence[str] = ()
    rate_limits: str | None = None
    rate_limit: Sequence[str] = ()
    timeouts: Sequence[str] = ()
    reporters: Sequence[str] = ()
    on_error: Literal["stop", "continue"] | None = None
    plugins: Sequence[str] = ()
    loglevel: str | None = None
    detect_source_change: bool | None = None
    code: CodeMode | None = None
    early_cutoff: bool | None = None
    force_entrypoint: bool | None = None
    show_progress: bool | None = None
    dry_run: bool = False
    as_json: bool = False
    verbose: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every option of one run, decided. `assigned` are the `-a` texts, still to be converted."""

    output: str
    kwargs: Mapping[str, Any]
    assigned: Mapping[str, str]
    executor: str
    num_workers: int | None
    prefixes: Mapping[str, str | Sequence[str]]
    launchers: Mapping[str, Any]
    rate_limits: Mapping[str, int]
    timeouts: Mapping[str, float | None]
    reporters: Sequence[Any]
    on_error: Literal["stop", "continue"]
    plugins: Sequence[str]
    loglevel: str
    code: CodeMode
    early_cutoff: bool
    force_entrypoint: bool
    show_progress: bool
    dry_run: bool
    as_json: bool
    verbose: bool


def decide(given: Given, defaults: DefaultArguments) -> Settings:
    """The settings of a run.

    Raises:
        UsageError: an option can't be read, contradicts another, or is missing.
    """
    output = given.output or defaults.output
    if not output:
        raise UsageError("no cache is given; say where with -o PATH (results are kept there)")
    kwargs, assigned = _arguments(given, defaults)
    prefixes, launchers = _commands(given, defaults)
    return Settings(
        output=os.fspath(output),
        kwargs=kwargs,
        assigned=assigned,
        executor=_executor(given, defaults),
        num_workers=_first(given.num_workers, defaults.num_workers, None),
        prefixes=prefixes,
        launchers=launchers,
        rate_limits=_rate_limits(given, defaults),
        timeouts=_timeouts(given, defaults),
        reporters=given.reporters or tuple(defaults.reporters or ()),
        on_error=_first(given.on_error, defaults.on_error, "stop"),
        plugins=(*(defaults.plugins or ()), *given.plugins),
        loglevel=_first(given.loglevel, defaults.loglevel, "warning"),
        code=_code(given, defaults),
        early_cutoff=_first(given.early_cutoff, defaults.early_cutoff, False),
        force_entrypoint=_first(given.force_entrypoint, defaults.force_entrypoint, True),
        show_progress=_first(given.show_progress, defaults.show_progress, True),
        dry_run=given.dry_run,
        as_json=given.as_json,
        verbose=given.verbose,
    )


def _first(given: T | None, default: T | None, built_in: T) -> T:
    if given is not None:
        return given
    return default if default is not None else built_in


def _code(given: Given, defaults: DefaultArguments) -> CodeMode:
    """How much code counts; -D, the published flag, is `--code off`."""
    if given.detect_source_change is False:
        if given.code not in (None, "off"):
            raise UsageError(f"-D leaves all code out, and --code {given.code} counts it; give one of them")
        return "off"
    if given.detect_source_change and given.code == "off":
        raise UsageError("--detect-source-change counts the code, and --code off leaves it out; give one")
    if given.code is not None:
        return given.code
    if given.detect_source_change:
        return "class" if defaults.code == "class" else "deep"
    if defaults.detect_source_change is False:
        return "off"
    return defaults.code or "deep"


def _arguments(given: Given, defaults: DefaultArguments) -> tuple[dict[str, Any], dict[str, str]]:
    assigned = split_assignments("-a", "NAME=VALUE", given.arguments)
    whole = json_object("--kwargs", given.kwargs) if given.kwargs is not None else None
    for name in whole or ():
        if name in assigned:
            raise ArgumentError(f"the argument {name!r} is given twice, by -a and by --kwargs")
    base = whole if whole is not None else (defaults.kwargs or {})
    return {name: value for name, value in base.items() if name not in assigned}, assigned


def _executor(given: Given, defaults: DefaultArguments) -> str:
    if given.exec_type is not None and given.executor is not None:
        raise UsageError("-t/--exec-type and -x/--executor both choose the executor; give one of them")
    text = _first(_first(given.executor, given.exec_type, None), defaults.exec_type, "process")
    # The published name of the serial executor.
    return "serial" if text == "local" else text


def _rate_limits(given: Given, defaults: DefaultArguments) -> dict[str, int]:
    single = split_assignments("--rate-limit", "LABEL=N", given.rate_limit)
    whole: Mapping[str, Any] | None = None
    if given.rate_limits is not None:
        whole = json_object("--rate-limits", given.rate_limits)
        for label in whole:
            if label in single:
                raise UsageError(
                    f"the rate limit of {label!r} is given twice, by --rate-limit and --rate-limits"
                )
    base = whole if whole is not None else (defaults.rate_limits or {})
    return {
        **check_rate_limits("--rate-limits", base),
        **check_rate_limits("--rate-limit", single),
    }


def _timeouts(given: Given, defaults: DefaultArguments) -> dict[str, float | None]:
    from taskproc.core.seconds import read_timeouts

    single = split_assignments("--timeout", "LABEL=SECONDS", given.timeouts)
    return {
        **read_timeouts("DefaultArguments(timeouts=...)", defaults.timeouts or {}),
        **read_timeouts("--timeout", single),
    }


def _commands(given: Given, defaults: DefaultArguments) -> tuple[dict[str, Any], dict[str, Any]]:
    """Prefixes and launchers; what is typed for a label drops the default of either kind."""
    whole, single = objects_and_assignments("--prefix", "LABEL=COMMAND or a JSON object", given.prefixes)
    typed_prefixes: dict[str, Any] = {**(whole or {}), **single}
    typed_launchers = split_assignments("--launcher", "LABEL=NAME[:OPT=VAL,...]", given.launchers)
    for label in typed_launchers:
        if label in typed_prefixes:
            raise UsageError(f"the label {label!r} has both a --prefix and a --launcher; give one of them")
    prefixes = dict(defaults.prefix or {}) if whole is None else {}
    launchers = dict(defaults.launchers or {})
    for label in (*typed_prefixes, *typed_launchers):
        prefixes.pop(label, None)
        launchers.pop(label, None)
    return check_prefixes("--prefix", {**prefixes, **typed_prefixes}), {**launchers, **typed_launchers}
