"""`taskproc accept`: declare an edit harmless, so that stored results stand for the code as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from taskproc.cli.opened import opened_file
from taskproc.cli.options import log_level_option, output_option, plugin_option
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.settings import Given
from taskproc.errors import UsageError

HELP = """Declare that the edits of the code since the results of TASK... were stored change nothing.

TASK is a class of FILE, or a whole task name (module.Class). Its stored results then stand for
the code as it is now; who accepted which edit, and when, is kept in their records.
"""


def _callback(file: str, tasks: Sequence[str], **words: Any) -> None:
    with opened_file(file, Given(**words)) as looked:
        from taskproc.cli.entry import find_class
        from taskproc.engine.accept import accept

        if looked.entry is not None:
            told = " ".join([looked.file, looked.entry, *tasks])
            raise UsageError(f"accept takes FILE and then the tasks that are meant: {told}")
        # All names first: a misspelt one, or one task too many, must leave nothing half done.
        classes = dict.fromkeys(find_class(looked.module, looked.file, name) for name in tasks)
        for cls in classes:
            if all(entry.record is None for entry in looked.cache.backend.stored(cls.task_name)):
                raise UsageError(
                    f"no result of {cls.task_name} is stored in {looked.cache.location}, so there is nothing "
                    "to accept; `taskproc status -o CACHE` lists what is stored"
                )
        for cls in classes:
            found = accept(looked.cache, cls)
            with quiet_when_closed():
                for text in found.changes:
                    click.echo(text)
                click.echo(_told(cls.task_name, found.accepted, found.current, found.busy))


def _told(name: str, accepted: int, current: int, busy: int) -> str:
    text = f"{name}: {accepted:,} {_results(accepted)} accepted for the code as it is now"
    if current:
        text += f", {current:,} {'was' if current == 1 else 'were'} of this code already"
    return text + (f", {busy:,} left alone as a run computes them just now" if busy else "")


def _results(count: int) -> str:
    return "result" if count == 1 else "results"


command = click.Command(
    "accept",
    callback=_callback,
    params=[
        click.Argument(["file"], metavar="FILE"),
        output_option(),
        click.Argument(["tasks"], metavar="TASK...", nargs=-1, required=True),
        plugin_option(),
        log_level_option(),
    ],
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
