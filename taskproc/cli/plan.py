"""`taskproc plan`: what would run, and why, what is cached, what can't run; runs and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.defaults import no_defaults
from taskproc.cli.opened import load, opened_task
from taskproc.cli.options import plan_options
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.settings import Given, Settings
from taskproc.cli.times import for_people

if TYPE_CHECKING:
    from taskproc.core.records import Plan, Reason, TaskKey
    from taskproc.core.task import Task

HELP = """Show what a run of the task TASK (default: Main) of FILE would do, and why.

Runs and writes nothing. The exit code is 0 if nothing would run but the entry task, which
is run every time, and 3 if something would (or can't).
"""

SOMETHING_TO_DO = 3


def tell_plan(task: Task, settings: Settings) -> None:
    """Print the plan of a task.

    Raises:
        click.exceptions.Exit: with 3, if more would run than the entry task that is forced to.
    """
    plan = task.plan(code=settings.code, force=settings.force_entrypoint)
    with quiet_when_closed():
        if settings.as_json:
            click.echo(json.dumps(as_json(plan), indent=2))
        else:
            click.echo("\n".join(as_lines(plan, settings.verbose)))
    if not plan.is_idle:
        raise click.exceptions.Exit(SOMETHING_TO_DO)


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object."""
    return {
        "run": plan.run_counts,
        "cached": plan.cached_counts,
        "blocked": plan.blocked_counts,
        "reasons": {
            name: {**plan.reason_counts.get(name, {}), **plan.blocked_reason_counts.get(name, {})}
            for name in dict.fromkeys([*plan.run_counts, *plan.blocked_counts])
        },
        "seconds": dict(plan.seconds),
        "untimed": list(plan.untimed),
        "idle": plan.is_idle,
    }


def as_lines(plan: Plan, verbose: bool = False) -> list[str]:
    """The plan by task name and reason, for people."""
    groups = [
        (f"would run: {_tasks(len(plan.run))}", plan.reason_counts),
        (f"can't run: {_tasks(len(plan.blocked))}", plan.blocked_reason_counts),
        (f"cached: {_tasks(len(plan.cached))}", {name: {"": n} for name, n in plan.cached_counts.items()}),
    ]
    rows = [(name, n) for _, counts in groups for name, reasons in counts.items() for n in reasons.values()]
    width = max((len(name) for name, _ in rows), default=0)
    digits = max((len(str(count)) for _, count in rows), default=0)
    lines: list[str] = []
    for head, counts in groups:
        if head.startswith("can't") and not counts:
            continue
        lines.append(head)
        for name, reasons in counts.items():
            for reason, count in reasons.items():
                lines.append(f"  {name:<{width}}  {count:>{digits}}  {reason}".rstrip())
    lines += _expected(plan)
    return (
        [*lines, *_listed(plan.run, "would run"), *_listed(plan.blocked, "can't run")] if verbose else lines
    )


def _listed(tasks: Mapping[TaskKey, Reason], head: str) -> list[str]:
    return [f"{head}: {key.name}/{key.digest}  {reason.text}" for key, reason in tasks.items()]


def _expected(plan: Plan) -> list[str]:
    """How long it would take one worker, as far as that is known."""
    if not plan.seconds:
        return []
    counts = plan.run_counts
    unknown = sum(counts[name] for name in plan.untimed)
    beside = f", and {_tasks(unknown)} never timed" if unknown else ""
    return [f"expected: {for_people(sum(plan.seconds.values()))} of work{beside}"]


def _tasks(count: int) -> str:
    return f"{count:,} task" if count == 1 else f"{count:,} tasks"


def _callback(file: str, **words: Any) -> None:
    with no_defaults(), opened_task(lambda: load(file), Given(**words)) as opened:
        tell_plan(opened.task, opened.settings)


command = click.Command(
    "plan",
    callback=_callback,
    params=[click.Argument(["file"], metavar="FILE[:TASK]"), *plan_options()],
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
