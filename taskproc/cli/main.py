"""Decide which command the words of the command line mean; `taskproc FILE ...` means `run`.

A command is imported when it is called, a plugin's only when no command of ours has the name,
so that `taskproc --help` costs next to nothing.
"""

from __future__ import annotations

import os
from typing import Any

import click

from taskproc import __version__
from taskproc.cli.errors import shield
from taskproc.cli.lazy_group import LazyGroup

COMMANDS = {
    "run": ("taskproc.cli.run", "command", "Run a task of a Python file (`taskproc FILE` is short for it)."),
    "plan": ("taskproc.cli.plan", "command", "Show what a run would do, and why; run nothing."),
    "why": ("taskproc.cli.why", "command", "Say why a task would run again, and what changed."),
    "accept": ("taskproc.cli.accept", "command", "Declare an edit of the code harmless for stored results."),
    "cache": ("taskproc.cli.cache", "command", "Look after what is stored: check, list, remove."),
    "status": ("taskproc.cli.status", "command", "Show what is stored, and how the runs under way go."),
    "logs": ("taskproc.cli.logs", "command", "Show what a task printed, or prints right now (-f)."),
    "plugins": ("taskproc.cli.plugins", "command", "List components, plugins, and what failed to load."),
}

HELP = """Build, run and cache pipelines of tasks.

\b
  taskproc FILE[:TASK] -o CACHE     run the task TASK (default: Main) of FILE
  taskproc run --help               all options of a run
"""

EPILOG = "Plugins may add commands; `taskproc plugins` lists which plugins there are."


class TaskprocGroup(LazyGroup):
    """The commands of ours, the default command, and the commands of plugins."""

    table = COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _plugin_command(cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if not args:
            click.echo(self.get_help(ctx), err=True)
            ctx.exit(2)
        if args[0] not in own and args[0] not in COMMANDS and (args[0].startswith("-") or is_entry(args[0])):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None:
            from taskproc.registry.components import did_you_mean

            hint = did_you_mean(args[0], COMMANDS)
            ctx.fail(
                f"{args[0]!r} is neither a command nor a task file; commands: {', '.join(COMMANDS)}{hint}"
            )
        return args[0], command, args[1:]

    def invoke(self, ctx: click.Context) -> Any:
        with shield():
            return super().invoke(ctx)


def is_entry(word: str) -> bool:
    """Whether a word is meant as FILE[:TASK] rather than as the name of a command."""
    file = word.rpartition(":")[0] or word
    return os.sep in word or any(each.endswith(".py") or os.path.exists(each) for each in (word, file))


def _plugin_command(name: str) -> click.Command | None:
    from taskproc.registry import Registry

    return next((command for command in Registry().commands() if command.name == name), None)


command = TaskprocGroup(
    "taskproc",
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[],
)
click.version_option(__version__, prog_name="taskproc", message="%(prog)s %(version)s")(command)
