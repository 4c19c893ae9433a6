"""Load plugins, each by itself: what one gets wrong is kept, told of once, and stays its own.

Knows the hooks that register components and checks what they answer; knows nothing of which
component is wanted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import pluggy

from taskproc.errors import PluginError, PluginWarning
from taskproc.interfaces import ArgumentType
from taskproc.registry.components import (
    ARGUMENT_TYPES_HOOK,
    KINDS,
    Kind,
    fault_of_argument_type,
    fault_of_class,
    in_one_line,
)
from taskproc.registry.listeners import new_manager, register_checked
from taskproc.registry.plugin_sources import PluginSource, PluginSources, titled


@dataclass(frozen=True)
class PluginFailure:
    """A plugin that can't be used: who it is and what went wrong, in one line."""

    plugin: str
    distribution: str
    version: str
    error: str
    way_out: str = ""

    def __str__(self) -> str:
        return f"{titled(self.plugin, self.distribution, self.version)}: {self.error}"


class Offer(NamedTuple):
    """A component class, its kind, and the plugin that offers it."""

    kind: Kind
    cls: Any
    source: PluginSource


class OfferedType(NamedTuple):
    """An argument type, and the plugin that registers it."""

    type: ArgumentType
    source: PluginSource


class PluginLoader:
    """The plugins that are loaded, what they offer, and what went wrong.

    Attributes:
        manager: has the hooks of every loaded plugin.
        offers: the component classes of the loaded plugins.
        types: their argument types.
        failures: the plugins that could not be used.
    """

    def __init__(self, sources: PluginSources) -> None:
        self.sources = sources
        self.manager = new_manager()
        self.offers: list[Offer] = []
        self.types: list[OfferedType] = []
        self.failures: list[PluginFailure] = []
        self._tried: set[PluginSource] = set()
        self._loaded: list[tuple[PluginSource, object]] = []
        self._fatal: list[PluginFailure] = []
        self._told = 0
        self._told_misspelt = False

    def load_selected(self) -> None:
        """Load the plugins asked for.

        Raises:
            PluginError: one of them can't be used, now or at an earlier call.
        """
        self._try_selected()
        if self._fatal:
            raise PluginError("; ".join(map(str, self._fatal)))

    def load_everything(self) -> None:
        """Load the plugins asked for and all that are enabled; raises nothing."""
        self._try_selected()
        for source in self.sources.enabled():
            self.load(source)

    def _try_selected(self) -> None:
        for source in self.sources.take_selected():
            if not self.load(source):
                self._fatal.append(self.failures[-1])

    def is_loaded(self, plugin: object) -> bool:
        """Whether this very object is loaded."""
        return any(one is plugin for _, one in self._loaded)

    def source_of(self, plugin: object) -> PluginSource:
        """The source of a plugin object that is loaded."""
        return next(source for source, one in self._loaded if one is plugin)

    def load(self, source: PluginSource) -> bool:
        """Load one plugin, once; whether it went well. A failure is kept, never raised."""
        if source in self._tried:
            return True
        self._tried.add(source)
        try:
            plugin = source.load()
            if not self.is_loaded(plugin):
                self._register(source, plugin)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin's fault stays its own
            self.failures.append(failure_of(source, error))
            return False
        return True

    def _register(self, source: PluginSource, plugin: object) -> None:
        name = source.name
        while self.manager.has_plugin(name):
            name += "'"  # two distributions may give their plugins one name
        found = register_checked(self.manager, plugin, name)
        try:
            offers, types = _offers_of(source, found), _types_of(source, found)
        except BaseException:
            self.manager.unregister(name=name)
            raise
        self.offers += offers
        self.types += types
        self._loaded.append((source, plugin))

    def tell_failures(self) -> None:
        """One PluginWarning for each failure, and each useless `no:NAME`, not told of before."""
        untold, self._told = self.failures[self._told :], len(self.failures)
        messages = [f"{one}; it is left out{one.way_out}" for one in untold]
        if not self._told_misspelt:
            self._told_misspelt = True
            messages += self.sources.misspelt()
        for message in messages:
            warnings.warn(message, PluginWarning, stacklevel=4)


def _offers_of(source: PluginSource, found: Sequence[tuple[str, pluggy.HookImpl]]) -> list[Offer]:
    """The components of a plugin; PluginError if one of them is none."""
    offers = []
    for kind in KINDS:
        for implementation in (one for hook, one in found if hook == kind.hook):
            for cls in listed(kind.hook, implementation.function()):
                fault = fault_of_class(kind, cls)
                if fault:
                    raise PluginError(fault)
                offers.append(Offer(kind, cls, source))
    return offers


def _types_of(source: PluginSource, found: Sequence[tuple[str, pluggy.HookImpl]]) -> list[OfferedType]:
    """The argument types of a plugin; PluginError if one of them is none, or stands twice."""
    types: dict[str, OfferedType] = {}
    for implementation in (one for hook, one in found if hook == ARGUMENT_TYPES_HOOK):
        for one in listed(ARGUMENT_TYPES_HOOK, implementation.function()):
            fault = fault_of_argument_type(one)
            if fault or one.name in types:
                raise PluginError(fault or f"it registers the argument type {one.name!r} twice")
            types[one.name] = OfferedType(one, source)
    return list(types.values())


def failure_of(source: PluginSource, error: BaseException) -> PluginFailure:
    """Keep what a plugin raised, in one line."""
    # What we raise about a plugin says it all; the type of our own exception would add nothing.
    ours = isinstance(error, (PluginError, pluggy.PluginValidationError))
    text = " ".join(str(error).split()) if ours else in_one_line(error)
    return PluginFailure(source.name, source.distribution, source.version, text, source.way_out)


def listed(hook: str, answer: object) -> list[Any]:
    """What a registering hook answered; PluginError if it is no list."""
    if not isinstance(answer, (list, tuple)):
        raise PluginError(f"{hook} returned {answer!r}, not a list")
    return list(cast("Sequence[Any]", answer))
