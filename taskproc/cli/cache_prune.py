"""`taskproc cache prune`: remove what nobody needs any more.

Decides what the options ask for and what is told; which results go is decided in
`core.pruning`, and removing is the backend's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from taskproc.cli.asked import ask
from taskproc.cli.existing import cache_place, made_backend
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.pruned import Pruning, as_lines, as_object, told
from taskproc.cli.quantities import age, size
from taskproc.errors import UsageError

if TYPE_CHECKING:
    from taskproc.core.records import Record, TaskKey
    from taskproc.interfaces import CacheBackend


@dataclass(frozen=True)
class _Asked:
    """The criteria as they were typed."""

    output: str
    plugins: Sequence[str]
    tasks: Sequence[str]
    older_than: float | None
    larger_than: int | None
    stale: str | None
    keep: Sequence[str]
    max_size: int | None
    damaged: bool
    failures: bool

    @property
    def wants_results(self) -> bool:
        """Whether results are to go, rather than remains of them alone."""
        own = (self.older_than, self.larger_than, self.stale, self.max_size)
        is_narrowed = any(one is not None for one in own) or bool(self.keep)
        return is_narrowed or (bool(self.tasks) and not (self.damaged or self.failures))


@click.command("prune", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("cache", metavar="[CACHE]", nargs=-1)
@cache_place
@click.option(
    "-t", "--task", "tasks", multiple=True, metavar="TASK", help="Only of this task name. Repeatable."
)
@click.option("--older-than", type=age, metavar="AGE", help="Results finished longer ago: 12h, 30d, 4w.")
@click.option("--larger-than", type=size, metavar="SIZE", help="Results of more bytes, with data files: 1G.")
@click.option("--stale", metavar="FILE", help="Results that a run would compute anew, by the code in FILE.")
@click.option(
    "--keep", multiple=True, metavar="FILE[:TASK]",
    help="All but what this entry task, or another one that is given so, needs. Repeatable.",
)  # fmt: skip
@click.option("--max-size", type=size, metavar="SIZE", help="The oldest, until what stays fits: 50G.")
@click.option("--damaged", is_flag=True, help="Remains of damaged results that were set aside.")
@click.option("--failures", is_flag=True, help="Notes and logs of failed jobs; a stored result stays.")
@click.option("--dry-run", is_flag=True, help="Tell what would be removed; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-v", "--verbose", is_flag=True, help="List every result that goes.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def command(
    cache: Sequence[str],
    output: str | None,
    plugins: Sequence[str],
    dry_run: bool,
    as_json: bool,
    verbose: bool,
    yes: bool,
    **asked: Any,
) -> None:
    """Remove stored results that nobody needs any more, with their logs and data files.

    At least one criterion has to be given; of several, a result has to meet all. What counts as
    age is when a result was finished: when it was last used is not kept. What a run holds just now
    is left alone.

    A result that stays can rest on one that goes: it can still be read, but a run that asks for it
    computes both anew. How many those are is told. --max-size never does that: it removes a
    result only after all that rest on it.
    """
    backend, rest = made_backend(output, cache, plugins)
    if rest:
        raise UsageError(f"prune: what is {rest[0]!r} for? A task name goes behind --task")
    criteria = _Asked(output=output if output is not None else cache[0], plugins=plugins, **asked)
    if not (criteria.wants_results or criteria.damaged or criteria.failures):
        raise UsageError("prune what? Give at least one criterion, such as --older-than 30d; see --help")
    try:
        plan = _plan(backend, criteria)
        if not dry_run and (plan.removed or plan.damaged or plan.failures):
            ask(f"{told(plan)} of {backend.location}", yes)
        busy: set[TaskKey] = set() if dry_run else _make(backend, plan)
    finally:
        backend.close()
    with quiet_when_closed():
        if as_json:
            click.echo(json.dumps(as_object(plan, busy, dry_run), indent=2))
        else:
            click.echo("\n".join(as_lines(plan, busy, dry_run, verbose)))


def _plan(backend: CacheBackend, asked: _Asked) -> Pruning:
    from taskproc.cli.chosen import full_name
    from taskproc.core.pruning import Criteria, choose

    stored = [entry for name in backend.task_names() for entry in backend.stored(name)]
    known = {entry.key.name for entry in stored}
    remains = list(backend.usage()) if asked.damaged or asked.failures else []
    known |= {one.key.name for one in remains if one.key is not None}
    names = {full_name(task, known, backend.location) for task in asked.tasks} if asked.tasks else None
    plan = Pruning()
    if asked.wants_results:
        records = [entry.record for entry in stored if entry.record is not None]
        stale = _stale(backend, asked.stale, records) if asked.stale is not None else None
        plan.choice = choose(
            stored,
            Criteria(
                names=names,
                before=time.time() - asked.older_than if asked.older_than is not None else None,
                larger_than=asked.larger_than,
                stale=stale,
                kept=_reached(asked) if asked.keep else None,
                max_size=asked.max_size,
            ),
        )
    for one in remains:
        if one.key is not None and (names is None or one.key.name in names):
            if asked.damaged and one.kind == "damaged":
                plan.damaged[one.key] = one.bytes
            if asked.failures and one.kind == "failures":
                plan.failures[one.key] = one.bytes
    return plan


def _stale(backend: CacheBackend, file: str, records: Collection[Record]) -> set[TaskKey]:
    from taskproc.cli.status import code_of_file
    from taskproc.core.overview import stale_keys
    from taskproc.engine.versions import python_minor

    return stale_keys(records, backend.location, python_minor(), code_of_file(file, backend))


def _reached(asked: _Asked) -> set[TaskKey]:
    """The keys of all tasks that the entry tasks need."""
    from taskproc.cli.opened import load, opened_task
    from taskproc.cli.settings import Given

    found: set[TaskKey] = set()
    for file in asked.keep:
        given = Given(output=asked.output, plugins=asked.plugins, as_json=True)
        with opened_task(partial(load, file), given) as opened:
            plan = opened.task.plan(code="off")
            found.update(plan.run, plan.cached, plan.blocked)
    return found


def _make(backend: CacheBackend, plan: Pruning) -> set[TaskKey]:
    """Remove it; returns the keys of what was left, as a run holds it."""
    from taskproc.engine.removing import remove

    records = {entry.key: entry.record for entry in plan.removed}

    def prune_as_chosen(keys: Collection[TaskKey]) -> Collection[TaskKey]:
        # A run may have computed some anew since, above all while somebody was asked.
        found = backend.look_up(keys)
        new = {key for key, record in found.items() if record != records[key]}
        backend.prune([key for key in keys if key not in new])
        return new

    busy = remove(backend, list(records), prune_as_chosen, "pruned")
    kinds: list[tuple[Literal["damaged", "failures"], Collection[TaskKey]]] = [
        ("damaged", plan.damaged),
        ("failures", plan.failures),
    ]
    for kind, keys in kinds:
        busy |= remove(backend, list(keys), partial(backend.prune, kind=kind), None)
    return busy
