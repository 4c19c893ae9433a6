"""Follow imports that stand inside functions, without importing anything.

Such a module may not be loaded yet, and whether it is must not make a difference: so what is
imported there counts by its source alone, and so does all that it names.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from typing import Any

from taskproc.core.fingerprint import Reference, normal_form, text_digest
from taskproc.engine.reachable_code.parts import Part, PartTable
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_file import SourceFile
from taskproc.engine.reachable_code.source_files import Sources, find_module_file

TASK_DIGEST = text_digest("a task, known by its name")
"""Stands for another Task class: its code is the business of its own record."""

_MAX_BASES = 50
_FOREIGN = ""  # in place of the file of a module that is not of the project


class StaticCode:
    """Parts of modules that are known by their files only.

    Args:
        table: where the parts are kept.
        sources: the files.
        project: what is followed.
    """

    def __init__(self, table: PartTable, sources: Sources, project: Project) -> None:
        self._table = table
        self._sources = sources
        self._project = project
        self._known: dict[str, str | None] = {}

    def follow(self, reference: Reference, names: Mapping[str, Any]) -> list[Part]:
        """The parts behind something that a function of a module with these globals imports."""
        package = names.get("__package__") or package_of(
            str(names.get("__name__", "")), str(names.get("__file__", ""))
        )
        module = absolute_name(reference.module or "", reference.level, package)
        return self._parts(module, reference.path, set()) if module else []

    def _file(self, module: str) -> SourceFile | None:
        if module not in self._known:
            path = find_module_file(module)
            self._known[module] = path if self._project.has_module(module, path) else _FOREIGN
        return self._sources.file(self._known[module] or None)

    def _parts(self, module: str, path: Sequence[str], seen: set[tuple[str, str]]) -> list[Part]:
        file = self._file(module)
        if not path:
            return [self._module_part(module, file)] if file is not None else []
        name, rest = path[0], path[1:]
        if (module, name) in seen:
            return []
        seen.add((module, name))
        found: list[Part] = []
        statements = file.binding(name) if file is not None else []
        for statement in statements:
            target = self._imported(module, statement, name)
            if target is not None:
                found += self._parts(target[0], (*target[1], *rest), seen)
        own = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
        if own:
            return [*found, self._own_part(module, name, own)]
        if statements:
            return found
        for statement in file.binding("*") if file is not None else []:
            target = self._imported(module, statement, "*")
            if target is not None:
                found += self._parts(target[0], path, seen)
        if not found and self._is_package(module):
            return self._parts(f"{module}.{name}", rest, seen)
        return found

    def _is_package(self, module: str) -> bool:
        path = self._known.get(module)
        return path is None or os.path.basename(path) == "__init__.py"

    def _imported(self, module: str, statement: ast.stmt, name: str) -> tuple[str, tuple[str, ...]] | None:
        """Module and path behind a name that an import statement of `module` binds."""
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.asname == name:
                    return alias.name, ()
            return name, ()
        if isinstance(statement, ast.ImportFrom):
            package = package_of(module, self._known.get(module) or "")
            origin = absolute_name(statement.module or "", statement.level, package)
            original = next(a.name for a in statement.names if (a.asname or a.name) == name)
            return origin, (() if name == "*" else (original,))
        return None

    def _own_part(self, module: str, name: str, statements: Sequence[ast.stmt]) -> Part:
        is_task = self._is_task(module, name, 0)

        def fill(part: Part) -> None:
            if is_task:
                part.settle(TASK_DIGEST)
                return
            form = normal_form(statements)
            part.settle(form.digest, [(ref.text, [*self._inside(module, ref)]) for ref in form.references])

        return self._table.get(("static", module, name), f"{module}.{name}", fill)

    def _module_part(self, module: str, file: SourceFile) -> Part:
        def fill(part: Part) -> None:
            form = normal_form([file.tree])
            part.settle(form.digest, [(ref.text, [*self._inside(module, ref)]) for ref in form.references])

        return self._table.get(("static module", module), module, fill)

    def _inside(self, module: str, reference: Reference) -> list[Part]:
        """The parts behind a name in the code of a module."""
        if reference.module is None:
            return self._parts(module, reference.path, set())
        package = package_of(module, self._known.get(module) or "")
        origin = absolute_name(reference.module, reference.level, package)
        return self._parts(origin, reference.path, set()) if origin else []

    def _is_task(self, module: str, name: str, depth: int) -> bool:
        """Whether a name is that of a Task class, as far as its bases tell."""
        if module.partition(".")[0] == "taskproc":
            return name == "Task"
        file = self._file(module)
        if file is None or depth > _MAX_BASES:
            return False
        for statement in file.binding(name):
            if isinstance(statement, ast.ClassDef):
                form = normal_form([ast.Expr(base) for base in statement.bases])
                paths = [reference.path for reference in form.references if reference.module is None]
                if any(self._base_is_task(module, path, depth) for path in paths):
                    return True
            target = self._imported(module, statement, name)
            if target is not None and target[1] and self._is_task(target[0], target[1][0], depth + 1):
                return True
        return False

    def _base_is_task(self, module: str, path: Sequence[str], depth: int) -> bool:
        if len(path) == 1:
            return self._is_task(module, path[0], depth + 1)
        file = self._file(module)
        for statement in file.binding(path[0]) if file is not None else []:
            target = self._imported(module, statement, path[0])
            if target is not None:
                inner = (*target[1], *path[1:])
                return self._is_task(".".join((target[0], *inner[:-1])), inner[-1], depth + 1)
        return False


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
