"""Find out what a Task class states of itself comes to: its `task_version` and `task_depends_on`.

Knows nothing of fingerprints or of what is stale.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any, NamedTuple

from taskproc.core.arguments import Encoder, canonical
from taskproc.core.fingerprint import text_digest
from taskproc.core.records import content_digest
from taskproc.core.task import Task
from taskproc.engine.reachable_code.description import StatedKind
from taskproc.engine.reachable_code.installed import Distribution, Installed
from taskproc.engine.reachable_code.live_code import LiveCode
from taskproc.engine.reachable_code.parts import Part
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.errors import TaskDefinitionError, UsageError
from taskproc.modules import canonical_name

_LONGEST_SHOWN = 1024


class Statement(NamedTuple):
    """One thing that a class states.

    Attributes:
        name: `task_version`, or what stands in `task_depends_on`.
        kind: what it is.
        digest: of what it comes to, but for the parts.
        text: the same for people.
        parts: the code that it comes to, which counts with all that it reaches.
    """

    name: str
    kind: StatedKind
    digest: str
    text: str
    parts: Sequence[Part] = ()


class Statements:
    """Reads what classes state.

    Args:
        sources: reads files, each once.
        installed: knows the installed distributions.
        encoder: writes down values.
    """

    def __init__(self, sources: Sources, installed: Installed, encoder: Encoder) -> None:
        self._sources = sources
        self._installed = installed
        self._encoder = encoder

    def of_class(self, cls: type, code: LiveCode) -> list[Statement]:
        """All that a class states, under names that differ.

        Raises:
            ArgumentError: its `task_version` can't be written down.
            UsageError: a file or distribution that it names can't be had.
        """
        if not issubclass(cls, Task) or (cls.task_version is None and not cls.task_depends_on):
            return []
        found: list[Statement] = []
        names: dict[str, int] = {}
        for statement in self._all(cls, code):
            number = names[statement.name] = names.get(statement.name, 0) + 1
            found.append(statement if number == 1 else statement._replace(name=f"{statement.name}#{number}"))
        return found

    def _all(self, cls: type[Task], code: LiveCode) -> Iterator[Statement]:
        if cls.task_version is not None:
            text = canonical(self._encoder.encode(cls.task_version, f"{cls.task_name}.task_version"))
            shown = (
                text.decode() if len(text) <= _LONGEST_SHOWN else f"a value of digest {content_digest(text)}"
            )
            yield Statement("task_version", "version", content_digest(text), shown)
        for thing in cls.task_depends_on:
            where = f"{cls.task_name}.task_depends_on"
            if isinstance(thing, str):
                yield self._distribution(thing, where)
            elif isinstance(thing, PurePath):
                yield self._file(thing, where)
            else:
                yield self._code(thing, code)

    def _distribution(self, name: str, where: str) -> Statement:
        found = self._installed.distribution(name)
        if found is None:
            raise TaskDefinitionError(
                f"{where} names the distribution {name!r}, and none of that name is installed; install it "
                "(pip install), correct the name, or take it out (a file is named by a pathlib.Path)"
            )
        return Statement(found.name, "distribution", text_digest(f"version {found.version}"), found.version)

    def _file(self, path: PurePath, where: str) -> Statement:
        try:
            digest = self._sources.content(str(path))
        except OSError as error:
            raise UsageError(
                f"{where} names the file {str(path)!r}, which can't be read ({error.strerror or error}); "
                "make it, correct the path (it is relative to the working directory), or take it out"
            ) from error
        # An absolute path says where the project lies, which does not count.
        name = path.name if path.is_absolute() else path.as_posix()
        return Statement(name, "file", text_digest(f"content {digest}"), f"content {digest}")

    def _code(self, thing: Any, code: LiveCode) -> Statement:
        parts = code.stated_parts(thing)
        name = _name_of(thing)
        if parts:
            return Statement(name, "code", "", "its code", tuple(parts))
        module = thing.__name__ if isinstance(thing, ModuleType) else _module_of(thing)
        file = module_globals(module).get("__file__")
        if isinstance(file, str) and not self._sources.is_installed(file):
            digest = self._sources.content(file)  # a C extension of the project
            return Statement(name, "file", text_digest(f"content {digest}"), f"content {digest}")
        versions = self._versions(module)
        return Statement(name, "distribution", text_digest(versions), versions)

    def _versions(self, module: str) -> str:
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names:
            return f"Python {platform.python_version()}"
        return ", ".join(f"{name} {version}" for name, version in self._installed.of_module(module)) or module


def packages(modules: Sequence[str], installed: Installed) -> dict[str, str]:
    """Name and version of the distributions that these modules come from."""
    found: list[Distribution] = [one for module in modules for one in installed.of_module(module)]
    return dict(sorted(found))


def _name_of(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return canonical_name(thing.__name__)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    return (
        f"{canonical_name(_module_of(thing))}.{name if isinstance(name, str) else type(thing).__qualname__}"
    )


def _module_of(thing: Any) -> str:
    module = getattr(thing, "__module__", None)
    return module if isinstance(module, str) else str(type(thing).__module__)
