"""`taskproc cache clear`: forget the stored results of some tasks.

Decides which tasks are meant, and what is told; removing is the backend's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from taskproc.cli.asked import ask
from taskproc.cli.chosen import Candidate, full_name, none_matches, read_wanted
from taskproc.cli.existing import cache_place, made_backend
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.values import split_assignments
from taskproc.errors import UsageError

if TYPE_CHECKING:
    from taskproc.core.records import TaskKey
    from taskproc.interfaces import CacheBackend


@click.command("clear", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="[CACHE] TASK[/KEY]...", nargs=-1)
@cache_place
@click.option(
    "-a", "--argument", "arguments", multiple=True, metavar="NAME=VALUE",
    help="Only tasks with this argument, as it is stored (VALUE is JSON or plain text). Repeatable.",
)  # fmt: skip
@click.option("--all", "is_all", is_flag=True, help="All that is stored, of every task.")
@click.option("--dry-run", is_flag=True, help="Tell what would be cleared; write nothing.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def command(
    words: Sequence[str],
    output: str | None,
    plugins: Sequence[str],
    arguments: Sequence[str],
    is_all: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Forget the stored results, logs and data files of tasks, so that they are computed anew.

    TASK is a task's name, `module.Class`, or `Class` where there is just one; KEY the beginning
    of a key, as `taskproc cache ls` lists them. What a run holds just now is left alone. That and by
    whom they were cleared is kept, for `taskproc why`.
    """
    backend, tasks = made_backend(output, words, plugins)
    if is_all == bool(tasks):
        raise UsageError("clear what? Give either TASK... or --all")
    if is_all and arguments:
        raise UsageError("--all and -a exclude each other: give the TASK that has such an argument")
    names = backend.task_names()
    if is_all:
        chosen = {name: list(stored_candidates(backend, name)) for name in names}
    else:
        assigned = split_assignments("-a", "NAME=VALUE", arguments)
        chosen = {}
        for task in tasks:
            name, keys = _chosen(backend, task, assigned, names)
            chosen[name] = list(dict.fromkeys([*chosen.get(name, ()), *keys]))
    try:
        _clear(backend, chosen, dry_run, yes)
    finally:
        backend.close()


def stored_candidates(backend: CacheBackend, name: str) -> dict[TaskKey, Candidate]:
    """What is stored of a task name, or known to have failed."""
    from taskproc.core.overview import ended_at

    found: dict[TaskKey, Candidate] = {}
    for entry in backend.stored(name):
        record, failure = entry.record, entry.failure
        if record is not None:
            found[entry.key] = Candidate(entry.key, record.args, "done", ended_at(record))
        elif failure is not None:
            found[entry.key] = Candidate(entry.key, failure.args, "failed", failure.when)
    return found


def _chosen(
    backend: CacheBackend, task: str, arguments: Mapping[str, str], names: Sequence[str]
) -> tuple[str, list[TaskKey]]:
    """The task name that is meant, and the keys.

    Raises:
        UsageError: nothing of the kind is stored.
    """
    wanted = read_wanted(task, arguments)
    name = full_name(wanted.name, names, backend.location)
    stored = stored_candidates(backend, name)
    keys = [key for key, candidate in stored.items() if wanted.takes(candidate)]
    if not keys:
        raise none_matches(wanted, name, list(stored.values()), time.time())
    return name, keys


def _clear(backend: CacheBackend, chosen: Mapping[str, Sequence[TaskKey]], dry_run: bool, yes: bool) -> None:
    from taskproc.engine.removing import remove

    count = sum(map(len, chosen.values()))
    told = ", ".join(f"{len(keys):,} of {name}" for name, keys in chosen.items() if keys)
    if not count:
        click.echo(f"nothing is stored in {backend.location}")
        return
    if dry_run:
        click.echo(f"{_results(count)} would be cleared: {told}")
        return
    ask(f"{_results(count)} of {backend.location} ({told})", yes)
    busy: set[TaskKey] = set()
    for keys in chosen.values():
        busy |= remove(backend, keys, backend.discard)
    with quiet_when_closed():
        click.echo(f"{_results(count - len(busy))} cleared")
        if busy:
            click.echo(f"{_results(len(busy))} left alone, as a run has them just now: {_some(busy)}")


def _results(count: int) -> str:
    return f"{count:,} {'result' if count == 1 else 'results'}"


def _some(keys: set[TaskKey]) -> str:
    shown = [f"{key.name}/{key.digest[:8]}" for key in sorted(keys)[:5]]
    return ", ".join(shown) + (", ..." if len(keys) > len(shown) else "")
