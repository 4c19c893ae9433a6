"""`taskproc cache ls` and `du`: what is stored, and what takes how much room. Writes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.existing import cache_place, made_backend
from taskproc.cli.figures import columns, moment_for_people, size_for_people
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.times import for_people
from taskproc.errors import UsageError

if TYPE_CHECKING:
    from taskproc.core.records import StoredEntry
    from taskproc.interfaces import CacheBackend

_SETTINGS = {"help_option_names": ["-h", "--help"]}
_MOST_ARGS = 80
_SHORT_KEY = 8
_OUTSIDE = {"code": "texts of source code", "bookkeeping": "index, journal, and what runs share"}


@click.command("ls", context_settings=_SETTINGS)
@click.argument("words", metavar="[CACHE] [TASK[/KEY]]", nargs=-1)
@cache_place
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with whole keys and arguments.")
def ls_command(words: Sequence[str], output: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """List the task names of which something is stored or, with TASK, its results one by one.

    TASK is a task's name, `module.Class`, or `Class` where there is just one; KEY the beginning of
    a key. The latest stand first.
    """
    backend, rest = made_backend(output, words, plugins)
    if len(rest) > 1:
        raise UsageError(f"ls lists one task: {rest[0]!r} or {rest[1]!r}?")
    with quiet_when_closed():
        if rest:
            _list_entries(backend, rest[0], as_json)
        else:
            _list_names(backend, as_json)


def _list_names(backend: CacheBackend, as_json: bool) -> None:
    from taskproc.cli.status import as_object, rows_of

    rows, now = rows_of(backend, ()), time.time()
    if as_json:
        click.echo(json.dumps({"tasks": as_object(rows, ())["tasks"]}, indent=2))
    elif not rows:
        click.echo(f"nothing is stored in {backend.location}")
    else:
        table = [
            (
                name,
                f"{row.done:,}",
                f"{row.failed:,}",
                size_for_people(row.bytes),
                moment_for_people(row.last_run, now) if row.last_run is not None else "-",
            )
            for name, row in rows.items()
        ]
        head = ("TASK", "RESULTS", "FAILED", "SIZE", "LAST FINISHED")
        click.echo("\n".join(columns([head, *table], right=range(1, 4))))


def _list_entries(backend: CacheBackend, task: str, as_json: bool) -> None:
    from taskproc.cli.chosen import full_name, read_wanted

    wanted = read_wanted(task, {})
    name = full_name(wanted.name, backend.task_names(), backend.location)
    found = [one for one in backend.stored(name) if one.key.digest.startswith(wanted.key)]
    found.sort(key=lambda one: _when(one) or 0.0, reverse=True)
    if as_json:
        click.echo(json.dumps({"task": name, "entries": [entry_object(one) for one in found]}, indent=2))
        return
    now = time.time()
    rows = [_entry_cells(one, now) for one in found]
    click.echo(
        "\n".join(columns([("KEY", "STATE", "SIZE", "TIME", "FINISHED", "ARGUMENTS"), *rows], right=(2, 3)))
    )


def _entry_cells(entry: StoredEntry, now: float) -> tuple[str, ...]:
    seconds, when = _seconds(entry), _when(entry)
    args = json.dumps(_args(entry), ensure_ascii=False)
    return (
        entry.key.digest[:_SHORT_KEY],
        "failed" if entry.failure is not None else "done",
        size_for_people(entry.size),
        for_people(seconds) if seconds is not None else "-",
        moment_for_people(when, now) if when is not None else "-",
        args if len(args) <= _MOST_ARGS else f"{args[: _MOST_ARGS - 3]}...",
    )


def entry_object(entry: StoredEntry) -> dict[str, Any]:
    """What is known of an entry at a glance, as JSON; times are Unix times and seconds."""
    return {
        "key": entry.key.digest,
        "state": "failed" if entry.failure is not None else "done",
        "args": _args(entry),
        "bytes": entry.size,
        "seconds": _seconds(entry),
        "finished": _when(entry),
        "failure": entry.failure.text if entry.failure is not None else None,
    }


def _args(entry: StoredEntry) -> Mapping[str, Any]:
    if entry.record is not None:
        return entry.record.args
    return (entry.failure.args if entry.failure is not None else None) or {}


def _seconds(entry: StoredEntry) -> float | None:
    seconds = entry.record.provenance.get("seconds") if entry.record is not None else None
    return float(seconds) if isinstance(seconds, int | float) else None


def _when(entry: StoredEntry) -> float | None:
    from taskproc.core.overview import ended_at

    if entry.failure is not None:
        return entry.failure.when
    return ended_at(entry.record) if entry.record is not None else None


@click.command("du", context_settings=_SETTINGS)
@click.argument("cache", metavar="[CACHE]", nargs=-1)
@cache_place
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def du_command(cache: Sequence[str], output: str | None, plugins: Sequence[str], as_json: bool) -> None:
    """Show what takes how many bytes, the largest first.

    \b
    For each task name:
      RESULTS   results and their records
      DATA      data files of tasks
      LOGS      what tasks printed
      OTHER     notes of failures, damaged results that were set aside, leftovers of killed jobs

    Sizes are those of the files; a file system needs some more for each.
    """
    backend, rest = made_backend(output, cache, plugins)
    if rest:
        raise UsageError(f"du tells of a whole cache; what is {rest[0]!r} for?")
    tasks: dict[str, dict[str, int]] = {}
    outside: dict[str, int] = {}
    for usage in backend.usage():
        row = outside if usage.key is None else tasks.setdefault(usage.key.name, {})
        row[usage.kind] = row.get(usage.kind, 0) + usage.bytes
    total = sum(outside.values()) + sum(sum(row.values()) for row in tasks.values())
    tasks = dict(sorted(tasks.items(), key=lambda item: (-sum(item[1].values()), item[0])))
    with quiet_when_closed():
        if as_json:
            click.echo(json.dumps({"tasks": tasks, "outside": outside, "total": total}, indent=2))
        else:
            click.echo("\n".join(_du_lines(tasks, outside, total)))


def _du_lines(tasks: Mapping[str, Mapping[str, int]], outside: Mapping[str, int], total: int) -> list[str]:
    rows: list[tuple[str, ...]] = [("TASK", "RESULTS", "DATA", "LOGS", "OTHER", "TOTAL")]
    for name, row in tasks.items():
        kinds = [row.get(kind, 0) for kind in ("results", "data", "logs")]
        whole = sum(row.values())
        cells = [*kinds, whole - sum(kinds), whole]
        rows.append((name, *[size_for_people(size) if size else "-" for size in cells]))
    for kind, size in sorted(outside.items()):
        rows.append((f"({_OUTSIDE.get(kind, 'not of this cache')})", "", "", "", "", size_for_people(size)))
    rows.append(("total", "", "", "", "", size_for_people(total)))
    return columns(rows, right=range(1, 6))
