"""Find plugins, load each by itself, and answer which component has a name.

Decides what is loaded and when, and who is to blame if that fails. The components of the
default plugins are known by name from one tuple, so that asking for one of them imports
nothing else. Knows nothing of tasks, and nothing of what a component does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from taskproc.core.arguments import Registration
from taskproc.errors import DuplicateComponentError, PluginError, UnknownComponentError
from taskproc.interfaces import CacheBackend, ExecutorProvider, Launcher, Reporter
from taskproc.registry.components import (
    ARGUMENT_TYPE,
    CACHE_BACKEND,
    COMPONENT_NAME,
    EXECUTOR,
    KINDS,
    LAUNCHER,
    REPORTER,
    Kind,
    OptionInfo,
    call_component,
    did_you_mean,
    make_component,
    options_of,
    split_component_text,
)
from taskproc.registry.listeners import (
    MOMENTS,
    Call,
    RunListeners,
    call_of,
    calls_of_reporter,
)
from taskproc.registry.plugin_loader import Offer, PluginFailure, PluginLoader, failure_of, listed
from taskproc.registry.plugin_sources import DefaultPlugin, PluginSource, PluginSources, object_source

if TYPE_CHECKING:
    import click

COMMANDS_HOOK = "taskproc_register_commands"


DEFAULT_PLUGINS = (
    DefaultPlugin("directory_cache", ((CACHE_BACKEND, "directory"),)),
    DefaultPlugin("pool_executors", ((EXECUTOR, "process"), (EXECUTOR, "thread"), (EXECUTOR, "serial"))),
    DefaultPlugin("prefix_launcher", ((LAUNCHER, "prefix"),)),
    DefaultPlugin("progress", ((REPORTER, "progress"),)),
)


@dataclass(frozen=True)
class ComponentInfo:
    """One component on offer: its kind and name, who offers it, and its options."""

    kind: str
    name: str
    plugin: str
    distribution: str
    version: str
    options: tuple[OptionInfo, ...]


class Registry:
    """The plugins of one Cache or one command, and the components they offer.

    `plugins` are words as for `-p` (the name of an installed plugin or of a module, a path to a
    one-file plugin, `no:NAME` to disable one; the last word on a name wins) or plugin objects.
    The environment variable TASKPROC_DISABLE_PLUGINS disables installed plugins by name, or
    `all` of them; what is named in `plugins` is loaded all the same.

    Construction imports nothing. A plugin named in `plugins` must load: any look-up raises
    PluginError if it does not. Any other broken plugin is told of by one PluginWarning, and
    kept for `failures()`.

    Raises:
        PluginError: a word names nothing.
    """

    def __init__(self, plugins: Sequence[object] = (), *, environ: Mapping[str, str] | None = None) -> None:
        self._sources = PluginSources(DEFAULT_PLUGINS, plugins, os.environ if environ is None else environ)
        self._loader = PluginLoader(self._sources)
        self._lock = threading.RLock()
        self._commands: list[click.Command] | None = None
        self._handed_out: set[tuple[Kind, str]] = set()
        self._types: dict[str, Registration | None] = {}

    def register(self, plugin: object, name: str | None = None) -> None:
        """Register a plugin object, at once.

        Raises:
            PluginError: one of its hooks is wrong, or the object is registered already.
        """
        source = object_source(plugin, name)
        with self._lock:
            if self._loader.is_loaded(plugin):
                raise PluginError(f"{source} is registered already")
            if not self._loader.load(source):
                raise PluginError(str(self._loader.failures.pop()))
            self._types.clear()

    # -- components by name

    def cache_backend(self, text: str | os.PathLike[str]) -> CacheBackend:
        """A cache backend of the user's text: `./cache`, `NAME:REST` or `SCHEME://...`.

        A backend called by `NAME:` gets the rest of the text, one chosen by the scheme of a URL
        the whole URL. Any other text, and any `os.PathLike`, is a path for the directory backend.

        Raises:
            UnknownComponentError: no backend has the name of the URL's scheme.
            PluginError: the text is empty, the backend's plugin is broken, or itself raised.
            CacheError: the backend refuses the text.
        """
        path = os.fspath(text)
        if not path:
            raise PluginError("the cache's path is empty: give a directory, such as ./cache")
        name, rest = "directory", path
        before, colon, after = path.partition(":")
        if isinstance(text, str) and colon and COMPONENT_NAME.fullmatch(before):
            if after.startswith("//"):
                name = before.lower()
            elif self._knows(CACHE_BACKEND, before):
                name, rest = before, after
        cls = self._class(CACHE_BACKEND, name)
        backend = call_component(f"cache backend {name!r}", partial(cls.from_url, rest), {})
        return cast(CacheBackend, backend)

    def executor(self, text: str) -> ExecutorProvider:
        """An executor provider of `NAME` or `NAME:OPT=VAL,...`; raises PluginError and its kin."""
        return cast(ExecutorProvider, self._make(EXECUTOR, text))

    def launcher(self, text: str) -> Launcher:
        """A launcher of `NAME` or `NAME:OPT=VAL,...`; raises PluginError and its kin."""
        return cast(Launcher, self._make(LAUNCHER, text))

    def launcher_class(self, name: str) -> Any:
        """The class of a launcher, for options that are no text; raises PluginError and its kin."""
        return self._class(LAUNCHER, name)

    def reporter(self, text: str) -> Reporter:
        """A reporter of `NAME` or `NAME:OPT=VAL,...`; raises PluginError and its kin."""
        return cast(Reporter, self._make(REPORTER, text))

    def _make(self, kind: Kind, text: str) -> Any:
        name, options = split_component_text(text)
        return make_component(kind, self._class(kind, name), options)

    def _knows(self, kind: Kind, name: str) -> bool:
        with self._lock:
            return bool(self._find(kind, name))

    def _class(self, kind: Kind, name: str) -> Any:
        with self._lock:
            found = self._find(kind, name)
            self._refuse_duplicates(kind, name)
            if not found:
                raise UnknownComponentError(self._unknown(kind, name))
            self._handed_out.add((kind, name))
            return found[0].cls

    def _find(self, kind: Kind, name: str) -> list[Offer]:
        self._loader.load_selected()
        for source in self._sources.defaults:
            if (kind, name) in source.offers and not self._sources.is_disabled(source):
                self._loader.load(source)
        if not self._offered(kind, name):
            self.load_all()
        return self._offered(kind, name)

    def _offered(self, kind: Kind, name: str) -> list[Offer]:
        return [offer for offer in self._loader.offers if offer.kind is kind and offer.cls.name == name]

    def _refuse_duplicates(self, kind: Kind, name: str) -> None:
        offers = self._offered(kind, name)
        if len({offer.cls for offer in offers}) > 1:
            sources = [offer.source for offer in offers]
            raise DuplicateComponentError(
                f"{len(sources)} plugins offer a {kind.word} named {name!r}: "
                f"{' and '.join(map(str, sources))}; keep one of them, with {_ways_out(sources)}"
            )

    def _unknown(self, kind: Kind, name: str) -> str:
        known = sorted({offer.cls.name for offer in self._loader.offers if offer.kind is kind})
        text = (
            f"no {kind.word} named {name!r}; known: {', '.join(known) or 'none'}{did_you_mean(name, known)}"
        )
        disabled = self._sources.disabled()
        if disabled:
            text += f"; disabled plugins: {', '.join(disabled)}"
        if self._loader.failures:
            broken = "; ".join(map(str, self._loader.failures))
            text += f"; it may be in one of the plugins that failed to load: {broken}"
        return text

    # -- argument types, by the name of their class

    def argument_type(self, class_name: str) -> Registration | None:
        """What a plugin has registered for a class (`module:Qualname`), or None; loads all plugins.

        Raises:
            DuplicateComponentError: two plugins have registered the class.
            PluginError: a plugin asked for can't be used.
        """
        # Asked for each object of such a class: one look in a dict.
        try:
            return self._types[class_name]
        except KeyError:
            self.load_all()
        with self._lock:
            found = self._types[class_name] = self._registration(class_name)
        return found

    def _registration(self, class_name: str) -> Registration | None:
        offered = [one for one in self._loader.types if one.type.name == class_name]
        if any(one.type != offered[0].type for one in offered):
            sources = [one.source for one in offered]
            raise DuplicateComponentError(
                f"{len(sources)} plugins register the class {class_name}: "
                f"{' and '.join(map(str, sources))}; keep one of them, with {_ways_out(sources)}"
            )
        return Registration(offered[0].type, str(offered[0].source)) if offered else None

    # -- moments, commands, and what there is

    def listen(self, reporters: Iterable[object] = ()) -> RunListeners:
        """The listeners of one run: every plugin, then these reporters (objects, or text).

        Raises:
            PluginError: a reporter hears no moment or one of its methods does not fit, a plugin
                asked for is broken, or a component in use is offered twice.
        """
        self.load_all()
        calls: dict[str, list[Call]] = {moment: [] for moment in MOMENTS}
        with self._lock:
            for moment in MOMENTS:
                for one in reversed(getattr(self._loader.manager.hook, moment).get_hookimpls()):
                    source = self._loader.source_of(one.plugin)
                    calls[moment].append(
                        call_of(self._loader.manager, moment, one, str(source), source.way_out)
                    )
        for reporter in reporters:
            heard = calls_of_reporter(self.reporter(reporter) if isinstance(reporter, str) else reporter)
            for moment, call in heard.items():
                calls[moment].append(call)
        return RunListeners(calls)

    def components(self) -> list[ComponentInfo]:
        """Every component and argument type on offer, by kind and name; loads all, raises nothing."""
        with self._lock:
            self._loader.load_everything()
            infos = [
                ComponentInfo(kind.word, cls.name, of.name, of.distribution, of.version, options_of(cls))
                for kind, cls, of in self._loader.offers
            ]
            infos += [
                ComponentInfo(ARGUMENT_TYPE, one.name, of.name, of.distribution, of.version, ())
                for one, of in self._loader.types
            ]
        order = [*[kind.word for kind in KINDS], ARGUMENT_TYPE]
        return sorted(infos, key=lambda info: (order.index(info.kind), info.name, info.plugin))

    def failures(self) -> list[PluginFailure]:
        """The plugins that could not be used; loads all plugins, and raises nothing."""
        with self._lock:
            self._loader.load_everything()
            return list(self._loader.failures)

    def commands(self) -> list[click.Command]:
        """The commands of all plugins; a name that two of them give is left out, with a warning."""
        self.load_all()
        with self._lock:
            if self._commands is None:
                self._commands = self._collect_commands()
            self._loader.tell_failures()
            return list(self._commands)

    def _collect_commands(self) -> list[click.Command]:
        commands: dict[str, click.Command] = {}
        owners: dict[str, PluginSource] = {}
        for one in getattr(self._loader.manager.hook, COMMANDS_HOOK).get_hookimpls():
            source = self._loader.source_of(one.plugin)
            try:
                for command in listed(COMMANDS_HOOK, one.function()):
                    name = getattr(command, "name", None)
                    if not isinstance(name, str) or not callable(getattr(command, "main", None)):
                        raise PluginError(f"{COMMANDS_HOOK} gave {command!r}, which is not a click command")
                    if owners.setdefault(name, source) is not source:
                        commands.pop(name, None)
                        raise PluginError(f"its command {name!r} is also one of {owners[name]}")
                    commands[name] = command
            except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin's fault stays its own
                self._loader.failures.append(failure_of(source, error))
        return list(commands.values())

    # -- loading

    def load_all(self) -> None:
        """Load every plugin that is not disabled. Called by a run before anything else.

        Raises:
            PluginError: a plugin asked for can't be used.
            DuplicateComponentError: a component that was handed out is offered by two plugins.
        """
        with self._lock:
            self._loader.load_selected()
            self._loader.load_everything()
            self._loader.tell_failures()
            for kind, name in sorted(self._handed_out):
                self._refuse_duplicates(kind, name)


def _ways_out(sources: Sequence[PluginSource]) -> str:
    """How to be rid of any of these, in words."""
    names = [source.name for source in sources]
    unique = len(set(names)) == len(names)
    return " or ".join(
        f"-p no:{source.name if unique else source.distribution}"
        if source.distribution
        else f"{source.name!r} left out of the plugins given"
        for source in sources
    )
