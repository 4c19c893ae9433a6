"""Follow imports that stand inside functions, without importing anything.

Such a module may not be loaded yet, and whether it is must not make a difference: so what is
imported there counts by its source alone, and so does all that it names.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskproc.core.fingerprint import Reference, normal_form, text_digest
from taskproc.engine.reachable_code.bindings import Definition
from taskproc.engine.reachable_code.imports import (
    HARMLESS,
    absolute_name,
    imported,
    package_of,
    package_of_globals,
    written_import,
)
from taskproc.engine.reachable_code.parts import Part, PartTable, Source, Target, debug_targets, module_of
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_file import SourceFile, first_line
from taskproc.engine.reachable_code.source_files import Sources, find_module_file, is_namespace

TASK_DIGEST = text_digest("a task, known by its name")
"""Stands for another Task class: its code is the business of its own record."""

_DEBUG = Reference(("__debug__",))
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
        self._memories: dict[str, str] = {}
        self._loaded_with: dict[str, frozenset[str]] = {}

    def follow(self, reference: Reference, names: Mapping[str, Any]) -> list[Target]:
        """The parts behind something that a function of a module with these globals imports."""
        module = absolute_name(reference.module or "", reference.level, package_of_globals(names))
        return self._targets(module, reference.path) if module else []

    def named(self, module: str, path: Sequence[str]) -> list[Part]:
        """The parts behind a path in a module, as far as files tell."""
        return [target for target in self._targets(module, path) if isinstance(target, Part)]

    def is_foreign(self, module: str) -> bool:
        """Whether a module is there, and not of the project."""
        self._file(module)
        return self._known[module] == _FOREIGN

    def loaded_with(self, module: str) -> frozenset[str]:
        """The modules of the project that are loaded wherever this one is: what imports at the top tell."""
        known = self._loaded_with.get(module)
        if known is None:
            found: set[str] = set()
            stack = [module]
            while stack:
                name = stack.pop()
                if name and name not in found and (file := self._file(name)) is not None:
                    found.add(name)
                    stack += [name.rpartition(".")[0], *self._imports_at_top(name, file)]
            known = self._loaded_with[module] = frozenset(found)
        return known

    def _imports_at_top(self, module: str, file: SourceFile) -> Iterator[str]:
        for node in file.tree.body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = package_of(module, self._known.get(module) or "")
                origin = absolute_name(node.module or "", node.level, package)
                if origin:
                    yield origin
                    if self._file(origin) is None or self._is_package(origin):
                        yield from (f"{origin}.{alias.name}" for alias in node.names)

    def _targets(self, module: str, path: Sequence[str]) -> list[Target]:
        """What is behind a path in a module, each thing once."""
        return list(dict.fromkeys(self._parts(module, path, set())))

    def _file(self, module: str) -> SourceFile | None:
        if module not in self._known:
            path = find_module_file(module)
            self._known[module] = path if self._project.has_module(module, path) else _FOREIGN
        return self._sources.file(self._known[module] or None)

    def _parts(self, module: str, path: Sequence[str], seen: set[tuple[str, str]]) -> list[Target]:
        file = self._file(module)
        if file is None:
            return self._without_file(module, path, seen)
        if not path:
            return [self._module_part(module, file)]
        name, rest = path[0], path[1:]
        if (module, name) in seen:
            return []
        seen.add((module, name))
        found: list[Target] = []
        statements = file.binding(name)
        for statement in statements:
            found += self._behind(module, statement, name, rest, seen)
        own = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
        if own and not (found and HARMLESS.issuperset(map(module_of, found))):
            own = sorted([*own, *file.decorating.get(name, ())], key=first_line)
            return [*found, self._own_part(module, name, own), *self._member(module, name, rest)]
        if statements:
            return found
        for statement in file.binding("*"):
            found += self._behind(module, statement, name, rest, seen)
        if not found and self._is_package(module) and self._file(f"{module}.{name}") is not None:
            return self._parts(f"{module}.{name}", rest, seen)
        if not found and file.binding("__getattr__"):
            return self._parts(module, ("__getattr__",), seen)
        return found

    def _without_file(self, module: str, path: Sequence[str], seen: set[tuple[str, str]]) -> list[Target]:
        """What is from outside or not there: whether it is installed must not make a difference."""
        if path and self._known[module] is None and is_namespace(module):
            return self._parts(f"{module}.{path[0]}", path[1:], seen)
        return [written_import(module, path)]

    def _behind(
        self, module: str, statement: ast.stmt, name: str, rest: Sequence[str], seen: set[tuple[str, str]]
    ) -> list[Target]:
        """What is behind a name, and the attributes read from it, that a statement of `module` may import."""
        target = self._imported(module, statement, name)
        return self._parts(target[0], (*target[1], *rest), seen) if target is not None else []

    def _is_package(self, module: str) -> bool:
        return os.path.basename(self._known.get(module) or "") == "__init__.py"

    def _imported(self, module: str, statement: ast.stmt, name: str) -> tuple[str, tuple[str, ...]] | None:
        """Module and path behind a name that an import statement of `module` binds."""
        return imported(statement, name, package_of(module, self._known.get(module) or ""))

    def _own_part(self, module: str, name: str, statements: Sequence[ast.stmt]) -> Part:
        is_task = self._is_task(module, name, 0)

        def fill(part: Part) -> None:
            if is_task:
                part.settle(TASK_DIGEST)
                return
            file = self._file(module)
            self._fill(part, module, file.with_conditions(statements) if file is not None else statements)

        return self._table.get(("static", module, name), f"{module}.{name}", fill)

    def _member(self, module: str, name: str, rest: Sequence[str]) -> list[Target]:
        """The method of another task that is named by its class: no record of that task speaks of it."""
        file = self._file(module)
        if file is not None and rest[:1] == ("__doc__",):
            return [self._docstring_part(module, name, file)]
        if file is None or not rest or not self._is_task(module, name, 0):
            return []
        inner = f"{name}.{rest[0]}"
        own = file.definitions.get(inner)
        if own is not None:
            return [
                self._table.get(
                    ("static", module, inner), f"{module}.{inner}", lambda part: self._fill(part, module, own)
                )
            ]
        found: list[Target] = []
        for statement in file.binding(name):
            if isinstance(statement, ast.ClassDef):
                form = normal_form([ast.Expr(base) for base in statement.bases])
                for reference in form.references:
                    found += self._inside(module, reference._replace(path=(*reference.path, rest[0])))
        return found

    def _docstring_part(self, module: str, name: str, file: SourceFile) -> Part:
        """The docstring of something whose code reads it."""
        found = [ast.get_docstring(node) for node in file.binding(name) if isinstance(node, Definition)]
        full_name = f"{module}.{name}.__doc__"
        key = ("static", module, f"{name}.__doc__")
        return self._table.get(key, full_name, lambda part: part.settle_value(json.dumps(found)))

    def _fill(self, part: Part, module: str, nodes: Sequence[ast.AST]) -> None:
        file = self._file(module)
        form = normal_form(nodes, nameless=not isinstance(nodes[0], ast.Module))
        part.module = module
        part.source = Source(file, nodes) if file is not None else None
        # If the module is loaded, and older than its file, that is what the import gives.
        memory = self._memory(module)
        own = text_digest(f"{form.shape} {memory}") if memory else form.shape
        part.settle(own, [(ref.text, self._inside(module, ref)) for ref in form.references])

    def _memory(self, module: str) -> str:
        known = self._memories.get(module)
        if known is None:
            known = self._memories[module] = self._sources.memory_of(module)
        return known

    def _module_part(self, module: str, file: SourceFile) -> Part:
        def fill(part: Part) -> None:
            self._fill(part, module, [file.tree])

        return self._table.get(("static module", module), module, fill)

    def _inside(self, module: str, reference: Reference) -> list[Target]:
        """The parts behind a name in the code of a module."""
        if reference == _DEBUG:
            return debug_targets()
        if reference.module is None:
            return self._targets(module, reference.path)
        package = package_of(module, self._known.get(module) or "")
        origin = absolute_name(reference.module, reference.level, package)
        return self._targets(origin, reference.path) if origin else []

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
