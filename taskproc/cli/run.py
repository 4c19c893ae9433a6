"""`taskproc run`: read the options, load the file, open the cache, run the entry task.

Decides the order of these steps only; how a run goes is for the engine. The engine is
imported when a run begins, so that `--help` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.defaults import DefaultArguments, no_defaults
from taskproc.cli.errors import INTERRUPTED, shield
from taskproc.cli.opened import Entry, load, opened_task
from taskproc.cli.options import run_options
from taskproc.cli.plan import tell_plan
from taskproc.cli.settings import Given, Settings
from taskproc.engine.interruption import Interruption

if TYPE_CHECKING:
    from taskproc.core.task import Task
    from taskproc.registry import Registry

HELP = """Run the task TASK (default: Main) of the Python file FILE, after whatever upstream is stale.

The entry task itself is run every time; everything under it is cached in CACHE.
"""


def run_task_class(
    cls: type[Task], args: Sequence[str] | None = None, defaults: DefaultArguments | None = None
) -> None:
    """Run a Task class as a command of its own: `Main.cli()`.

    Args:
        cls: the entry task.
        args: the words of the command line; None: those of this process.
        defaults: what the words leave open; None: what was populated.

    Raises:
        SystemExit: the run did not succeed, the words were wrong, or only help was asked for.
    """
    from taskproc.cli.arguments import signature_text

    def entry() -> tuple[type[Task], DefaultArguments]:
        from taskproc.imports import refuse_stale_modules

        refuse_stale_modules()  # the script imported them before it came to us
        return cls, defaults or DefaultArguments.get_default()

    command = make_command(_ShieldedCommand, entry)
    command.help = (
        f"Run the task {cls.__qualname__}({signature_text(cls)}), after whatever upstream is stale."
    )
    words = None if args is None else list(args)
    with Interruption(of_command=True) as signals:
        try:
            code = command.main(words, prog_name=_program_of(cls), standalone_mode=False)
        except click.ClickException as error:
            error.show()
            raise SystemExit(error.exit_code) from None
        except (KeyboardInterrupt, click.Abort):
            raise SystemExit(signals.exit_code if signals.number else INTERRUPTED) from None
        if signals.number:
            raise SystemExit(signals.exit_code)
    if code is not None:
        raise SystemExit(code)


def make_command(kind: type[click.Command] = click.Command, entry: Entry | None = None) -> click.Command:
    """The `run` command; with `entry` it runs that one and takes no FILE."""

    def callback(**words: Any) -> None:
        file = words.pop("file", None)
        given = Given(**words)
        if entry is not None:
            execute(entry, given)
        else:
            with no_defaults():
                execute(lambda: load(file), given)

    arguments = [click.Argument(["file"], metavar="FILE[:TASK]")] if entry is None else []
    return kind(
        "run",
        callback=callback,
        params=[*arguments, *run_options()],
        help=HELP,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def execute(entry: Entry, given: Given) -> None:
    """Run the entry task as the command line and the file's defaults say.

    Raises:
        TaskprocError: bad input, or a task failed (or an ExceptionGroup of such failures).
        click.exceptions.Exit: a dry run found something to run.
    """
    with opened_task(entry, given) as (cache, task, settings):
        from taskproc.cli.output import show_logs
        from taskproc.engine.options import RunOptions, read_options

        options = _run_options(cache.registry, settings)
        if settings.dry_run:
            read_options(RunOptions(**options), cache.registry)
            tell_plan(task, settings)
            return
        cache.run_graph(task, **options)
        # Of what ran in this very process there are no logs: it has been seen.
        show_logs(task.task_stdout, task.task_stderr)


def _run_options(registry: Registry, settings: Settings) -> dict[str, Any]:
    """The options of the run, the components among them made of their names."""
    return {
        "executor": registry.executor(settings.executor),
        "launchers": {
            label: registry.launcher(launcher) if isinstance(launcher, str) else launcher
            for label, launcher in settings.launchers.items()
        },
        "reporters": [
            registry.reporter(reporter) if isinstance(reporter, str) else reporter
            for reporter in settings.reporters
        ],
        "max_workers": settings.num_workers,
        "rate_limits": settings.rate_limits,
        "timeouts": settings.timeouts,
        "prefixes": settings.prefixes,
        "code": settings.code,
        "early_cutoff": settings.early_cutoff,
        "on_error": settings.on_error,
        "show_progress": settings.show_progress,
        "force": settings.force_entrypoint,
    }


def _program_of(cls: type[Task]) -> str:
    """How the module of the class is run: what usage messages show."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if cls.__module__ != "__main__":
        return f"python -m {cls.__module__}"
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {getattr(main, '__file__', None) or '-'}"


class _ShieldedCommand(click.Command):
    def invoke(self, ctx: click.Context) -> Any:
        with shield():
            return super().invoke(ctx)


command = make_command()
