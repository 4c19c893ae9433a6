"""Follow the names in the code of loaded modules to what they stand for now.

A name is looked up where the code would look it up. What is had from outside of the project
counts by the import as it is written. Decides nothing about what counts of a part.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from taskproc.core.fingerprint import Reference
from taskproc.core.task import Task
from taskproc.engine.reachable_code.class_code import class_name
from taskproc.engine.reachable_code.imports import HARMLESS, Imports, written_import
from taskproc.engine.reachable_code.parts import Target, debug_targets
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.static_code import StaticCode
from taskproc.engine.reachable_code.values import functions_in, import_of

if TYPE_CHECKING:
    from taskproc.engine.reachable_code.live_code import LiveCode

# What Python itself keeps in a module; `__name__` depends on how the module came to run.
_OF_THE_MODULE = frozenset(
    {
        "__name__", "__file__", "__doc__", "__package__", "__loader__", "__spec__", "__path__",
        "__builtins__", "__cached__", "__annotations__", "__dict__", "__debug__",
    }
)  # fmt: skip


class Names:
    """Follows names.

    Args:
        live: makes the parts of what is found.
        static: follows what functions import when they run.
        sources: the source files.
        imports: by which imports modules have their names.
        project: what is followed.
    """

    def __init__(
        self, live: LiveCode, static: StaticCode, sources: Sources, imports: Imports, project: Project
    ) -> None:
        self._live = live
        self._static = static
        self._sources = sources
        self._imports = imports
        self._project = project

    def follow(self, reference: Reference, names: Mapping[str, Any]) -> list[Target]:
        """What a name leads to in the code of a module with these globals."""
        if reference.module is not None:
            return self._static.follow(reference, names)
        home = names
        name, rest = reference.path[0], reference.path[1:]
        while name not in _OF_THE_MODULE and name in names:
            value = names[name]
            if not issubclass(type(value), ModuleType):
                return self._value(names, name, value, rest)
            if not self._project.has_globals(vars(value)):
                return self._foreign_module(names, name, value, rest)
            if not rest:
                return [self._live.module_part(value)]
            names, name, rest = vars(value), rest[0], rest[1:]
        if name == "__doc__":
            return [*self._live.values.held(f"{self._live.home(names)}.__doc__", names.get(name))]
        if name in _OF_THE_MODULE:
            return debug_targets() if name == "__debug__" else []
        getter = names.get("__getattr__")
        if names is not home and isinstance(getter, FunctionType):
            return [*self._live.parts_of(getter)]
        return [*self._imports.written(names, name)]  # a builtin, or not bound (yet)

    def _value(self, names: Mapping[str, Any], name: str, value: Any, rest: Sequence[str]) -> list[Target]:
        direct = self._live.direct(value)
        written = self._imports.written(names, name)
        targets: list[Target] = [*written]
        if direct and not (issubclass(type(value), type) and self._is_made(value)):
            targets += direct
            targets += self._member(value, rest)
            is_opaque = isinstance(value, FunctionType) and not self._live.values.is_readable(value)
            if is_opaque and self._is_bound(names, name, value):
                targets.append(self._live.constant_part(names, name, value, by_source=True))
            return targets + self._changes(names, name)
        is_bound = self._is_bound(names, name, value)
        if is_bound or not (written or direct == []):
            # What may come from outside is told by its source: its value may depend on what is installed.
            by_source = is_bound and (bool(written) or direct == [])
            targets.append(self._live.constant_part(names, name, value, by_source))
        return targets or [import_of(value)]

    def _is_bound(self, names: Mapping[str, Any], name: str, value: Any) -> bool:
        """Whether the source says more of a name than where it is imported from."""
        names, name = self._imports.origin(names, name, value)
        file = self._sources.of_module(names)
        statements = file.binding(name) if file is not None else []
        return any(not isinstance(node, ast.Import | ast.ImportFrom) for node in statements)

    def _foreign_module(
        self, names: Mapping[str, Any], name: str, module: ModuleType, rest: Sequence[str]
    ) -> list[Target]:
        """A module from outside, what the project put into it, and what this module does to it."""
        targets: list[Target] = [*self._imports.written(names, name)]
        inner: Any = module
        for part in rest:
            inner = vars(inner).get(part)
            if not issubclass(type(inner), ModuleType):
                if issubclass(type(inner), FunctionType | type):
                    targets += self._live.direct(inner) or []
                break
        if module.__name__ not in HARMLESS and self._is_bound(names, name, module):
            targets.append(self._live.constant_part(names, name, module, by_source=True))
        return targets or [written_import(module.__name__)]

    def _changes(self, names: Mapping[str, Any], name: str) -> list[Target]:
        """What a module does to something of the project that it imports."""
        file = self._sources.of_module(names)
        statements = file.binding(name) if file is not None else []
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in statements):
            return [*self._live.changes(names, name)]
        return []

    def _member(self, value: Any, rest: Sequence[str]) -> list[Target]:
        """`Other.helper(...)` calls code of another task that no record of this one speaks of."""
        is_class = issubclass(type(value), type)
        if rest and rest[0] == "__doc__":
            return [*self._live.values.held(f"{value.__qualname__}.__doc__", value.__doc__)]
        if not (rest and is_class and issubclass(value, Task)):
            return []
        for base in value.__mro__:
            if rest[0] in vars(base) and self._project.has_class(base):
                member = vars(base)[rest[0]]
                held = list(functions_in(member)) or [member]
                owner = f"{class_name(base)}.{rest[0]}"
                return [part for item in held for part in self._live.values.held(owner, item)]
        return []

    def _is_made(self, cls: type) -> bool:
        """Whether a class of the project is made by a call (`namedtuple(...)`), not by a statement."""
        if not self._project.has_class(cls):
            return False
        file = self._sources.of_module(module_globals(cls.__module__))
        return file is not None and cls.__qualname__ not in file.definitions
