"""Decide by which import a module has a name, as its source writes it.

What comes from outside of the project counts by that alone: neither its content nor its
version does, nor whether it is installed. Knows nothing of parts.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_files import Sources, find_module_file, module_globals

_MOST_STEPS = 20

HARMLESS = frozenset({"logging", "sys", "warnings"})
"""Modules whose state says how a program looks, not what it computes: changing it does not count."""


class Imports:
    """The imports of loaded modules.

    Args:
        sources: the source files.
        project: what is followed.
    """

    def __init__(self, sources: Sources, project: Project) -> None:
        self._sources = sources
        self._project = project
        self._foreign: dict[str, bool] = {}
        self._written: dict[tuple[int, str], tuple[Mapping[str, Any], tuple[str, ...]]] = {}

    def is_foreign(self, module: str) -> bool:
        """Whether a module, loaded or not, is none of the project's."""
        known = self._foreign.get(module)
        if known is None:
            loaded = sys.modules.get(module)
            if isinstance(loaded, ModuleType):
                known = not self._project.has_globals(vars(loaded))
            else:
                path = find_module_file(module)
                known = path is None or not self._project.has_module(module, path)
            self._foreign[module] = known
        return known

    def written(self, names: Mapping[str, Any], name: str) -> tuple[str, ...]:
        """The imports from outside by which a module with these globals has a name, in order.

        There are several if the source has alternatives (`try: import a except: import b`).
        """
        known = self._written.get((id(names), name))
        if known is None:
            found = tuple(dict.fromkeys(self._find(names, name, _MOST_STEPS)))
            known = self._written[id(names), name] = (names, found)
        return known[1]

    def _find(self, names: Mapping[str, Any], name: str, steps: int) -> list[str]:
        file = self._sources.of_module(names)
        if file is None or not steps:
            return []
        found: list[str] = []
        statements = file.binding(name)
        for statement in statements or file.binding("*"):
            target = imported(statement, name, package_of_globals(names))
            if target is None:
                continue
            module, path = target
            if self.is_foreign(module):
                star = not statements
                found.append(written_import(module, ("*",) if star else path))
            elif path:
                found += self._find(module_globals(module), path[0], steps - 1)
        return found

    def origin(self, names: Mapping[str, Any], name: str, value: Any) -> tuple[Mapping[str, Any], str]:
        """The module of the project that binds a value itself, without importing it, and its name there."""
        for _ in range(_MOST_STEPS):
            file = self._sources.of_module(names)
            statements = file.binding(name) if file is not None else []
            if file is None or (statements and not isinstance(statements[-1], ast.ImportFrom)):
                break
            for statement in reversed(statements[-1:] or file.binding("*")):
                module, path = imported(statement, name, package_of_globals(names)) or ("", ())
                other = module_globals(module)
                if path and other.get(path[0]) is value and self._project.has_globals(other):
                    names, name = other, path[0]
                    break
            else:
                break
        return names, name


def written_import(module: str, path: Sequence[str] = ()) -> str:
    """How a part speaks of something that it has by an import from outside of the project."""
    return f"import {module}:{'.'.join(path)}" if path else f"import {module}"


def imported(statement: ast.stmt, name: str, package: str) -> tuple[str, tuple[str, ...]] | None:
    """Module and path behind a name that an import statement in `package` binds; None if it is none."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if alias.asname == name:
                return alias.name, ()
        return name, ()
    if isinstance(statement, ast.ImportFrom):
        origin = absolute_name(statement.module or "", statement.level, package)
        originals = [alias.name for alias in statement.names if (alias.asname or alias.name) == name]
        return (origin, (originals[0] if originals else name,)) if origin else None
    return None


def package_of_globals(names: Mapping[str, Any]) -> str:
    """The package from which the module with these globals imports relatively."""
    package = names.get("__package__")
    return package or package_of(str(names.get("__name__", "")), str(names.get("__file__", "")))


def package_of(module: str, path: str) -> str:
    """The package from which a module with this file imports relatively."""
    return module if os.path.basename(path) == "__init__.py" else module.rpartition(".")[0]


def absolute_name(module: str, level: int, package: str) -> str:
    """The full name of a module as an import statement in `package` means it; "" if it can't be told."""
    if level == 0:
        return module
    for _ in range(level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{module}".strip(".") if package else ""
