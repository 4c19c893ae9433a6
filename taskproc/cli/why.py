"""`taskproc why`: for one task, why it would run again and what changed; runs and writes nothing.

Decides which task is meant; the answer is the engine's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import Parameter
from typing import TYPE_CHECKING, Any

import click

from taskproc.cli.opened import Looked, construct, opened_file, prints_apart
from taskproc.cli.options import code_options, log_level_option, plugin_option, which_task
from taskproc.cli.output import quiet_when_closed
from taskproc.cli.settings import Given, Settings
from taskproc.errors import ArgumentError, TaskFileError, UsageError

if TYPE_CHECKING:
    from taskproc.core.records import Explanation, TaskKey
    from taskproc.core.task import Task

HELP = """Say why a task would run again, and what changed: which lines of which helper, which value,
which upstream's content, or who cleared it and when.

TASK is a class of FILE, or a whole task name (module.Class); default: the entry task, which is
Main, or ENTRY of FILE:ENTRY. ARGS are its arguments, by name (n=6, or -a n=6) or in order (6 3).
Without ARGS for a task that needs some, the tasks of that class under the entry task are
explained, one for each reason; with the beginning of a key behind it (Choose/541e60d1), the one
of that key. Then -a and --kwargs are arguments of the entry task.
"""

_MOST_EXPLAINED = 10


def _callback(file: str, task: str, args: Sequence[str], **words: Any) -> None:
    with opened_file(file, Given(**words)) as looked:
        is_json = looked.settings.as_json
        with prints_apart(is_json):
            explained = _explained(looked, task, args)
        with quiet_when_closed():
            if is_json:
                click.echo(json.dumps([_plain(one) for one, _ in explained], indent=2))
                return
            for one, alike in explained:
                click.echo(str(one))
                if alike:
                    told = "of which the stored result stands" if one.reason is None else "for this reason"
                    click.echo(f"  ... and {alike:,} more {one.key.name} {told}")


def _explained(looked: Looked, name: str, words: Sequence[str]) -> list[tuple[Explanation, int]]:
    """Explanations, each with the number of others of the same reason."""
    from taskproc.cli.entry import DEFAULT_TASK, find_class

    entry = looked.entry or DEFAULT_TASK
    name, slash, key = (name or entry).partition("/")
    cls = find_class(looked.module, looked.file, name)
    if slash:
        if words:
            raise UsageError(
                f"{name}/{key} tells the task already; leave its arguments out: {' '.join(words)}"
            )
        return _below_the_entry(looked, cls, key)
    arguments = _arguments(cls, words, looked.settings)
    if cls.__qualname__ == entry and not looked.settings.kwargs:
        arguments = {**looked.defaults, **arguments}
    if arguments or not _needs_arguments(cls):
        return [(construct(cls, arguments).why(code=looked.settings.code), 0)]
    return _below_the_entry(looked, cls, "")


def _entry_task(looked: Looked, way_out: str) -> Task:
    """The entry task, of which the task that is meant is an upstream."""
    from taskproc.cli.arguments import entry_arguments
    from taskproc.cli.entry import DEFAULT_TASK, find_task

    entry, settings = looked.entry or DEFAULT_TASK, looked.settings
    try:
        cls = find_task(looked.module, looked.file, entry)
    except TaskFileError:
        if looked.entry is not None:
            raise
        raise UsageError(f"there is no entry task {entry} to look under; {way_out}") from None
    defaults = looked.defaults if not settings.kwargs else settings.kwargs
    kwargs = {name: value for name, value in defaults.items() if name not in settings.assigned}
    if not (kwargs or settings.assigned) and _needs_arguments(cls):
        raise UsageError(f"the entry task {entry} to look under needs arguments; {way_out}")
    return construct(cls, entry_arguments(cls, kwargs, settings.assigned))


def _below_the_entry(looked: Looked, cls: type[Task], key: str) -> list[tuple[Explanation, int]]:
    """The tasks of a class under the entry task, one for each reason."""
    from taskproc.cli.arguments import signature_text
    from taskproc.engine.explain import Explainer

    way_out = f"give the arguments of the task: {cls.__qualname__}({signature_text(cls)})"
    main = _entry_task(looked, way_out)
    survey = looked.cache.survey(main, looked.settings.code, force=False)
    plan = survey.plan
    groups: dict[str, list[TaskKey]] = {}
    for found in survey.graph.nodes:
        if found.name == cls.task_name and found.digest.startswith(key):
            reason = plan.run.get(found) or plan.blocked.get(found)
            groups.setdefault(reason.text if reason else "", []).append(found)
    if not groups:
        which = f" whose key begins with {key!r}" if key else ""
        raise UsageError(f"no {cls.task_name}{which} stands under {main!r}; {way_out}")
    explainer = Explainer(looked.cache, survey)
    ordered = sorted(groups.items(), key=lambda group: group[0] == "")  # what would run comes first
    return [(explainer.of(keys[0]), len(keys) - 1) for _, keys in ordered[:_MOST_EXPLAINED]]


def _needs_arguments(cls: type[Task]) -> bool:
    from taskproc.cli.arguments import constructor_parameters

    return any(
        item.default is item.empty and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
        for item in constructor_parameters(cls).values()
    )


def _arguments(cls: type[Task], words: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The arguments of the task: NAME=VALUE, or VALUE for the parameters in order."""
    from taskproc.cli.arguments import constructor_parameters, entry_arguments, signature_text

    parameters = constructor_parameters(cls)
    by_name = dict(settings.assigned)
    in_order: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and (name in parameters or name.isidentifier()):
            if name in by_name or name in settings.kwargs:
                raise ArgumentError(f"the argument {name!r} is given twice")
            by_name[name] = value
        else:
            in_order.append(word)
    places = [item.name for item in parameters.values() if item.kind is Parameter.POSITIONAL_OR_KEYWORD]
    free = [name for name in places if name not in by_name and name not in settings.kwargs]
    if len(in_order) > len(free):
        raise ArgumentError(
            f"{cls.__qualname__} takes ({signature_text(cls)}); more arguments are given: {' '.join(words)}"
        )
    return entry_arguments(cls, settings.kwargs, {**by_name, **dict(zip(free, in_order, strict=False))})


def _plain(one: Explanation) -> dict[str, Any]:
    return {
        "task": one.key.name,
        "key": one.key.digest,
        "args": dict(one.args),
        "cached": one.is_cached,
        "kind": one.reason.kind if one.reason else None,
        "reason": one.reason.text if one.reason else None,
        "details": list(one.details),
        "origins": [_plain(origin) for origin in one.origins],
    }


command = click.Command(
    "why",
    callback=_callback,
    params=[
        click.Argument(["file"], metavar="FILE[:ENTRY]"),
        *which_task(),
        click.Argument(["task"], metavar="[TASK]", default="", required=False),
        click.Argument(["args"], metavar="[ARGS]...", nargs=-1),
        *code_options(),
        click.Option(["--json", "as_json"], is_flag=True, help="Print a JSON list of explanations."),
        plugin_option(),
        log_level_option(),
    ],
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
