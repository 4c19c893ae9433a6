"""`taskproc cache`: look after what is stored. Needs no task file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from taskproc.cli.existing import cache_options, existing_backend
from taskproc.cli.lazy_group import LazyGroup
from taskproc.cli.output import quiet_when_closed

if TYPE_CHECKING:
    from taskproc.engine.rename import Renamed

_SETTINGS = {"help_option_names": ["-h", "--help"]}

COMMANDS = {
    "ls": ("taskproc.cli.cache_ls", "ls_command", "List what is stored, by task name or task by task."),
    "show": ("taskproc.cli.cache_show", "command", "Show all that is known of one stored result."),
    "du": ("taskproc.cli.cache_ls", "du_command", "Show what takes how much room."),
    "verify": ("taskproc.cli.cache_verify", "command", "Check every stored result, and repair what can be."),
    "prune": ("taskproc.cli.cache_prune", "command", "Remove what nobody needs any more."),
    "clear": ("taskproc.cli.cache_clear", "command", "Forget the stored results of some tasks."),
    "rename": ("taskproc.cli.cache", "rename_command", "Carry results over to a new task name."),
}


class _CacheGroup(LazyGroup):
    """The commands that look after a cache."""

    table = COMMANDS


@click.group("cache", cls=_CacheGroup, context_settings=_SETTINGS)
def command() -> None:
    """Look after what is stored in a cache."""


@click.command("rename", context_settings=_SETTINGS)
@click.argument("old")
@click.argument("new")
@cache_options
@click.option("--dry-run", is_flag=True, help="Tell what would be done; write nothing.")
def rename_command(old: str, new: str, output: str, plugins: Sequence[str], dry_run: bool) -> None:
    """Carry the stored results of the task name OLD over to NEW.

    For a class that was renamed, or moved to another module: OLD and NEW are its task names before
    and after, module.Class. The records of whatever rests on its results are rewritten too.
    If it is broken off, the same command again completes it.
    """
    backend = existing_backend(output, plugins)
    from taskproc.engine.rename import rename

    told = rename(backend, old, new, dry_run)
    with quiet_when_closed():
        for line in _lines(old, new, told, dry_run):
            click.echo(line)


def _lines(old: str, new: str, told: Renamed, dry_run: bool) -> Iterator[str]:
    would = "would be " if dry_run else ""
    left = told.kept + told.busy + told.unsound
    changed = told.carried + told.followed + told.rewritten + told.completed
    if told.before is not None and not changed and not left:
        yield f"{old} was renamed to {new} before, by {told.before.who}; nothing is left to do"
        return
    yield f"{old} -> {new}: {_results(told.carried + told.completed)} {would}carried over"
    notes = (
        (told.followed, f"of tasks that have them among their arguments {would}given new keys"),
        (told.rewritten, f"of other tasks {would}kept under their keys, with new records"),
        (
            told.unplaced,
            "of these will be computed anew: they name a path in the cache, or a class by its old name",
        ),
        (
            told.unknown_code,
            "of these will be computed anew: their code is not kept here (see taskproc accept)",
        ),
        (told.kept, "left as before: there is one under the new key already, which stays"),
        (told.busy, "left for now, as a run has them or what rests on them: repeat this afterwards"),
        (told.unsound, "left alone: the arguments in their records are not those of their keys"),
    )
    for count, text in notes:
        if count:
            yield f"  {_results(count)} {text}"
    if told.guess:
        yield f"  {told.guess}"


def _results(count: int) -> str:
    return f"{count:,} {'result' if count == 1 else 'results'}"
