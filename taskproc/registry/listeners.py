"""Decide who hears the moments of one run, and tell them.

Each listener is called by itself: one that raises is named once and silenced for the rest of
the run, the others hear everything. Knows nothing of where plugins come from.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pluggy

from taskproc import hookspecs
from taskproc.errors import PluginError, PluginWarning
from taskproc.registry.components import in_one_line

MOMENTS = ("taskproc_run_started", "taskproc_job_started", "taskproc_job_finished", "taskproc_run_finished")


class Call(NamedTuple):
    """One implementation of one moment.

    `owner` is the object it belongs to and `title` what people call that; `positions` says
    which of the moment's arguments it takes; `way_out` how to be rid of it, or "".
    """

    owner: object
    title: str
    function: Callable[..., object]
    positions: tuple[int, ...]
    way_out: str = ""


class RunListeners:
    """The listeners of one run, in the order in which they hear each moment."""

    def __init__(self, calls: Mapping[str, Iterable[Call]]) -> None:
        self._calls = {moment: tuple(calls.get(moment, ())) for moment in MOMENTS}

    def hears(self, moment: str) -> bool:
        """Whether anybody hears this moment; where nobody does its record need not be made."""
        return bool(self._calls[moment])

    def notify(self, moment: str, *args: object) -> None:
        """Tell everybody who hears `moment`; `args` are those of the hook, in its order.

        Raises nothing for a listener's sake: its exception becomes a PluginWarning. Only what
        is no Exception (a KeyboardInterrupt) passes.
        """
        for call in self._calls[moment]:
            try:
                call.function(*[args[position] for position in call.positions])
            except (Exception, SystemExit) as error:  # noqa: BLE001  # an observer never ends a run
                self._silence(call, moment, error)

    def _silence(self, broken: Call, moment: str, error: BaseException) -> None:
        for each, calls in self._calls.items():
            self._calls[each] = tuple(call for call in calls if call.owner is not broken.owner)
        warnings.warn(
            f"{broken.title} failed in {moment} and is silenced for the rest of this run: "
            f"{in_one_line(error)}{broken.way_out}",
            PluginWarning,
            stacklevel=3,
        )


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the hooks of taskproc and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def register_checked(
    manager: pluggy.PluginManager, plugin: object, name: str
) -> list[tuple[str, pluggy.HookImpl]]:
    """Register an object under a name that is free; returns its implementations by hook.

    Raises:
        PluginError, pluggy.PluginValidationError: a hook is unknown, takes arguments that it
            has not, lacks its marker, or is not a plain function. Nothing stays registered.
    """
    for hook in vars(manager.hook):
        function = inspect.getattr_static(plugin, hook, None)
        if inspect.isfunction(function) and not _is_marked(function):
            raise PluginError(f"{hook} lacks its marker: put @hookimpl of taskproc.hookspecs above it")
    try:
        manager.register(plugin, name)
        manager.check_pending()
        found = [
            (hook.name, implementation)
            for hook in manager.get_hookcallers(plugin) or ()
            for implementation in hook.get_hookimpls()
            if implementation.plugin is plugin
        ]
        if not found:
            raise PluginError("it implements no hook: nothing in it carries @hookimpl")
        for hook_name, implementation in found:
            _refuse_odd_functions(hook_name, implementation)
    except BaseException:
        if manager.get_plugin(name) is plugin:
            manager.unregister(name=name)
        raise
    return found


def _is_marked(function: object) -> bool:
    # A module that imports the specification itself has the spec's mark, which is no mistake.
    return any(hasattr(function, f"{hookspecs.PROJECT}_{mark}") for mark in ("impl", "spec"))


def _refuse_odd_functions(hook: str, implementation: pluggy.HookImpl) -> None:
    function = implementation.function
    if implementation.hookwrapper or implementation.wrapper or inspect.isgeneratorfunction(function):
        raise PluginError(f"{hook} is a wrapper or generator: no hook of taskproc has wrappers")
    if inspect.iscoroutinefunction(function):
        raise PluginError(f"{hook} is a coroutine function, which nobody would await")


def call_of(
    manager: pluggy.PluginManager, moment: str, implementation: pluggy.HookImpl, title: str, way_out: str = ""
) -> Call:
    """How to call one implementation, which may take fewer arguments than its moment has."""
    spec = getattr(manager.hook, moment).spec
    positions = tuple(spec.argnames.index(name) for name in implementation.argnames)
    return Call(implementation.plugin, title, implementation.function, positions, way_out)


def calls_of_reporter(reporter: object) -> dict[str, Call]:
    """The moments that a reporter hears.

    Raises:
        PluginError: naming the reporter, if it hears none, or one of its hooks is wrong.
    """
    name = getattr(reporter, "name", None)
    title = f"reporter {name!r}" if isinstance(name, str) else f"reporter {type(reporter).__qualname__}"
    if isinstance(reporter, type):
        raise PluginError(f"{title} is a class: give an instance, {reporter.__qualname__}(...)")
    manager = new_manager()  # its own: a reporter belongs to one run, and may equal another one
    try:
        found = register_checked(manager, reporter, title)
    except Exception as error:
        raise PluginError(f"{title} can't be used: {in_one_line(error)}") from error
    calls: dict[str, Call] = {}
    for hook, implementation in found:
        if hook in MOMENTS:
            calls[hook] = call_of(manager, hook, implementation, title)
        elif not implementation.optionalhook:
            raise PluginError(f"{title} can't be used: {hook} is for plugins, a reporter hears moments")
    return calls
