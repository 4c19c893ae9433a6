"""Decide which plugins there are, which were asked for, and which are disabled.

Reads the user's words, the environment and the installed entry points. Knows how each plugin
would be loaded, and loads none.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from taskproc.errors import PluginError
from taskproc.hookspecs import PROJECT
from taskproc.registry.components import Kind, did_you_mean

DISABLE_VARIABLE = "TASKPROC_DISABLE_PLUGINS"


class DefaultPlugin(NamedTuple):
    """A plugin that comes with taskproc, and the components it offers by kind and name."""

    name: str
    offers: tuple[tuple[Kind, str], ...]


@dataclass(frozen=True, eq=False)
class PluginSource:
    """Where a plugin comes from: its name, its distribution if known, and how to load it.

    `offers` are the components of a default plugin; of the others they are not known before.
    """

    name: str
    load: Callable[[], object]
    distribution: str = ""
    version: str = ""
    offers: tuple[tuple[Kind, str], ...] = ()

    def __str__(self) -> str:
        return titled(self.name, self.distribution, self.version)

    @property
    def way_out(self) -> str:
        """How to be rid of it, as the tail of a message; "" for what was not installed."""
        return f"; disable it with -p no:{self.name}" if self.distribution else ""

    def goes_by(self, names: Iterable[str]) -> bool:
        """Whether one of `names` is the plugin's name or, unless it is a default, its distribution's."""
        own = {_plain(self.name), "" if self.offers else _plain(self.distribution)} - {""}
        return not own.isdisjoint(map(_plain, names))


class PluginSources:
    """The plugins of one registry: the default, the installed, and those asked for.

    `words` are those of `Registry`. The installed ones are looked for when first asked about.

    Raises:
        PluginError: a word is empty.
    """

    def __init__(
        self, defaults: Sequence[DefaultPlugin], words: Sequence[object], environ: Mapping[str, str]
    ) -> None:
        self.defaults = [_default_source(default) for default in defaults]
        self._installed: list[PluginSource] | None = None
        self._disabled_by_environment = [
            word.strip() for word in environ.get(DISABLE_VARIABLE, "").split(",") if word.strip()
        ]
        self._disabled: list[str] = []
        self._selected: list[PluginSource | str] = []
        self._files: set[Path] = set()
        for word in words:
            self._select(word)

    def _select(self, word: object) -> None:
        if isinstance(word, os.PathLike) or (isinstance(word, str) and _is_path(word)):
            path = Path(word).absolute()  # now: the current directory may be another one later
            if path not in self._files:  # named by the task file and on the command line, say
                self._files.add(path)
                self._selected.append(_file_source(path))
        elif not isinstance(word, str):
            self._selected.append(object_source(word))
        else:
            name = word.removeprefix("no:").strip()
            if not name:
                raise PluginError(f"{word!r} names no plugin: give a name, a path to a .py file, or no:NAME")
            # The last word on a name wins, as a flag at the end of a command line does.
            self._disabled = [one for one in self._disabled if _plain(one) != _plain(name)]
            self._selected = [one for one in self._selected if one != name]
            (self._disabled if word.startswith("no:") else self._selected).append(name)

    @property
    def installed(self) -> list[PluginSource]:
        """The plugins of all installed distributions, by entry point; looked for once."""
        if self._installed is None:
            self._installed = _installed_sources()
        return self._installed

    def enabled(self) -> list[PluginSource]:
        """The default and the installed plugins that are not disabled."""
        return [source for source in self.defaults + self.installed if not self.is_disabled(source)]

    def disabled(self) -> list[str]:
        """The names of the default and installed plugins that are disabled."""
        return [source.name for source in self.defaults + self.installed if self.is_disabled(source)]

    def is_disabled(self, source: PluginSource) -> bool:
        """Whether a word or the environment disables this default or installed plugin."""
        words = self._disabled_by_environment
        return source.goes_by(self._disabled + words) or ("all" in words and not source.offers)

    def misspelt(self) -> list[str]:
        """What is wrong with the `no:NAME` words that name no plugin, in words."""
        known = [source.name for source in self.defaults + self.installed]
        return [
            f"no:{name} disables nothing; the plugins are: {', '.join(known)}{did_you_mean(name, known)}"
            for name in self._disabled
            if not any(source.goes_by([name]) for source in self.defaults + self.installed)
        ]

    def take_selected(self) -> list[PluginSource]:
        """The plugins asked for, in order; nothing the second time."""
        words, self._selected = self._selected, []
        return [source for word in words for source in self._resolve(word)]

    def _resolve(self, word: PluginSource | str) -> list[PluginSource]:
        if isinstance(word, PluginSource):
            return [word]
        named = [source for source in self.defaults if source.goes_by([word])]
        named = named or [source for source in self.installed if source.goes_by([word])]
        known = [source.name for source in self.defaults + self.installed]
        return named or [PluginSource(word, functools.partial(_import_plugin, word, known))]


def titled(name: str, distribution: str, version: str) -> str:
    """What people call a plugin: `plugin 'docker' (taskproc-docker 1.0)`."""
    return f"plugin {name!r}" + (f" ({distribution} {version})" if distribution else "")


def object_source(plugin: object, name: str | None = None) -> PluginSource:
    """The source of a plugin that is at hand already."""
    own = getattr(plugin, "__name__", None) or type(plugin).__name__
    return PluginSource(name or str(own), lambda: plugin)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_path(word: str) -> bool:
    return not word.startswith("no:") and (word.endswith(".py") or "/" in word)


def _default_source(default: DefaultPlugin) -> PluginSource:
    version = str(importlib.import_module(PROJECT).__version__)
    load = functools.partial(importlib.import_module, f"{PROJECT}.default_plugins.{default.name}")
    return PluginSource(default.name, load, PROJECT, version, default.offers)


def _installed_sources() -> list[PluginSource]:
    sources: list[PluginSource] = []
    if not any(map(_may_offer_plugins, sys.path)):
        return sources
    import importlib.metadata  # as costly as the rest of a small run: only where there are plugins

    for entry_point in importlib.metadata.entry_points(group=PROJECT):
        distribution = entry_point.dist
        name, version = (distribution.name, distribution.version) if distribution else ("", "")
        sources.append(PluginSource(entry_point.name, entry_point.load, name, version))
    return sources


def _may_offer_plugins(folder: str) -> bool:
    """Whether a folder of the import path may have a distribution with entry points of ours."""
    try:
        names = os.listdir(folder or os.curdir)
    except NotADirectoryError:
        return True  # an archive: let importlib.metadata look into it
    except OSError:
        return False
    for name in names:
        if name.endswith((".dist-info", ".egg-info", ".egg")):
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    if f"[{PROJECT}]".encode() in file.read():
                        return True
            except FileNotFoundError:
                if name.endswith(".egg"):
                    return True
            except OSError:
                continue
    return False


def _file_source(path: Path) -> PluginSource:
    return PluginSource(path.stem, functools.partial(_load_file, path))


def _load_file(path: Path) -> ModuleType:
    """Load a one-file plugin, under a module name that nothing else has."""
    if not path.is_file():
        raise PluginError(f"there is no file {path}")
    name = f"{PROJECT}_plugin_{path.stem}_{blake2b(os.fsencode(path), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    # No worker can import this module: a cache backend made in it carries its class along.
    importlib.import_module("cloudpickle").register_pickle_by_value(module)
    return module


def _import_plugin(name: str, known: Iterable[str]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        names = list(known)
        raise PluginError(
            f"no plugin or module has this name; plugins: {', '.join(names)}{did_you_mean(name, names)}"
        ) from None
