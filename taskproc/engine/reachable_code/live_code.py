"""Make the parts for the code of classes, functions and constants in memory.

What holds code leads to it; other values count as they are now or, if that can't be told, by
the source that made them. Decides nothing about what a fingerprint is, nor where names lead.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from taskproc.core.arguments import digest
from taskproc.core.arguments.names import found_name
from taskproc.core.fingerprint import NormalForm, normal_form
from taskproc.core.task import Task
from taskproc.engine.reachable_code.bindings import Definition
from taskproc.engine.reachable_code.class_code import ClassCode, class_name
from taskproc.engine.reachable_code.held_values import UNREADABLE, HeldValues
from taskproc.engine.reachable_code.imports import Imports
from taskproc.engine.reachable_code.names import Names
from taskproc.engine.reachable_code.parts import Links, Part, PartTable, Source
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_file import SourceFile
from taskproc.engine.reachable_code.source_files import Sources
from taskproc.engine.reachable_code.states import encoded
from taskproc.engine.reachable_code.static_code import TASK_DIGEST, StaticCode
from taskproc.modules import canonical_name


class LiveCode:
    """Makes the parts for code in memory.

    Args:
        sources: the source files.
        table: where the parts are kept.
        project: what is followed.

    Attributes:
        values: looks into values.
        static: finds what is known by files only.
    """

    def __init__(self, sources: Sources, table: PartTable, project: Project) -> None:
        self._sources = sources
        self._table = table
        self._project = project
        self._imports = Imports(sources, project)
        self.static = StaticCode(table, sources, project)
        self._names = Names(self, self.static, sources, self._imports, project)
        self._classes = ClassCode(self, sources, project)
        self.values = HeldValues(self, sources, table, project)

    # --- parts ---

    def parts_of(self, thing: Any) -> list[Part]:
        """The parts of a class, function or any value: what of the project's code it holds."""
        return self.values.survey(thing)[0]

    def class_part(self, cls: type) -> Part:
        """A class with all its own code, its bases included."""
        label = (lambda: self._classes.label(cls)) if "<" in cls.__qualname__ else None
        return self._table.get(
            ("class", id(cls)), class_name(cls), lambda part: self._classes.fill(part, cls), cls, label=label
        )

    def function_part(self, function: FunctionType) -> Part:
        """A function, with what it took from around itself."""
        name = f"{self.home(function.__globals__)}.{function.__code__.co_qualname}"

        def fill(part: Part) -> None:
            self._fill_function(part, function)

        label = (lambda: f"{name} {digest(self.values.own_code(function))}") if "<" in name else None
        return self._table.get(("function", id(function)), name, fill, function, label=label)

    def task_part(self, cls: type) -> Part:
        """Another Task class, known by its name only."""

        def fill(part: Part) -> None:
            part.settle(TASK_DIGEST)

        return self._table.get(("task", id(cls)), class_name(cls), fill, cls)

    def module_part(self, module: ModuleType) -> Part:
        """A module that is named as a whole (`getattr(helpers, name)`): all of its source."""

        def fill(part: Part) -> None:
            file = self._sources.of_module(vars(module))
            if file is None:
                part.settle(UNREADABLE)
            else:
                self._fill_statements(part, file, [file.tree], vars(module))

        return self._table.get(("module", id(module)), canonical_name(module.__name__), fill, module)

    def constant_part(self, names: Mapping[str, Any], name: str, value: Any, by_source: bool = False) -> Part:
        """What a name of a module stands for, by its value or (if that can't be told) by its source.

        `by_source`: by its source in any case.
        """
        names, name = self._imports.origin(names, name, value)

        def fill(part: Part) -> None:
            is_open = not issubclass(type(value), type | ModuleType)
            part.needs, is_small = self.values.survey(value) if is_open else ([], False)
            file = self._sources.of_module(names)
            statements = file.binding(name) if file is not None else []
            own = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
            text = encoded(value, self.values.own_code) if is_small and not (by_source and own) else None
            if file is not None and text is not None and _varies(file, name, text, own):
                text = None
            if file is not None:
                part.source = Source(file, own)
            if text is not None:
                part.settle_value(text)
            elif file is not None and own:
                state = [] if by_source or not is_small else self._state(part.name, name, value, file, own)
                self._fill_statements(part, file, file.with_conditions(own), names, state)
            else:
                self.values.fill(part, value, is_small)

        key = ("constant", id(names), name, id(value), by_source)
        return self._table.get(key, f"{self.home(names)}.{name}", fill, names, value)

    def _state(
        self, owner: str, name: str, value: Any, file: SourceFile, statements: Sequence[ast.stmt]
    ) -> Links:
        """What an object holds that the module made when it was loaded; its source may not tell."""
        if name in file.rebound or any(isinstance(node, Definition) for node in statements):
            return []
        text = self.values.state(value)
        if text is None or _is_placed(text, file, name):
            return []
        known = text

        def fill(part: Part) -> None:
            part.settle_value(known)

        return [("state", [self._table.get(("state", owner, id(value)), f"{owner}(state)", fill, value)])]

    def changes(self, names: Mapping[str, Any], name: str, but: Iterable[str] = ()) -> list[Part]:
        """What a module does to a class or function after it was made: `Config.size = 3`."""
        file = self._sources.of_module(names)
        statements = file.changes(name, frozenset(but)) if file is not None else []
        if file is None or not statements:
            return []
        home, known = self.home(names), file

        def fill(part: Part) -> None:
            self._fill_statements(part, known, known.with_conditions(statements), names)

        return [self._table.get(("changes", id(names), name), f"{home}.{name}(changed later)", fill, names)]

    def stated_parts(self, thing: Any) -> list[Part]:
        """The parts of what a class states that it depends on; [] if nothing of it is known here."""
        if issubclass(type(thing), ModuleType):
            known = self._project.has_globals(vars(thing)) and self._sources.of_module(vars(thing))
            return [self.module_part(thing)] if known else []
        if issubclass(type(thing), type) and issubclass(thing, Task):
            return [self.class_part(thing)] if self._project.has_class(thing) else []
        direct = self.direct(thing)
        if direct is not None:
            return direct
        parts, is_small = self.values.survey(thing)
        if not parts and (
            found_name(thing) is not None or not is_small or not encoded(thing, self.values.own_code)
        ):
            return []
        return [self.values.held_part(f"task_depends_on({type(thing).__qualname__})", thing)]

    def direct(self, value: Any) -> list[Part] | None:
        """The part that a function, class or task is by itself; [] from outside; None for anything else."""
        kind = type(value)
        if kind is FunctionType:
            if self._project.has_globals(value.__globals__):
                return [self.function_part(value)]
            return [] if found_name(value) is not None and "__wrapped__" not in value.__dict__ else None
        if issubclass(kind, type):
            if not self._project.has_class(value):
                return []
            return [self.task_part(value) if issubclass(value, Task) else self.class_part(value)]
        return [self.task_part(kind)] if issubclass(kind, Task) else None

    # --- what they need ---

    def links(self, form: NormalForm, names: Mapping[str, Any], but: Iterable[str] = ()) -> Links:
        """What each name in a form leads to; names in `but` mean something else there."""
        local = frozenset(but)
        follow = self._names.follow
        return [
            (
                reference.text,
                follow(reference, names)
                if reference.module is not None or reference.path[0] not in local
                else [],
            )
            for reference in form.references
        ]

    def home(self, names: Mapping[str, Any]) -> str:
        """The canonical name of the module with these globals."""
        return canonical_name(str(names.get("__name__", "")))

    # --- filling ---

    def _fill_function(self, part: Part, function: FunctionType) -> None:
        form, part.source = self.values.code(function)
        names, qualname = function.__globals__, function.__code__.co_qualname
        links = self.links(form, names, function.__code__.co_freevars)
        links += self.values.captured(part.name, function)
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            links.append(("wrapped", self.values.held(f"{part.name}.__wrapped__", wrapped)))
        # If it is made again at every call of what stands around it, its defaults may differ each time.
        node = part.source.nodes[0] if part.source is not None and "<" not in part.name else None
        links += self.values.defaults_of(part.name, function, node)
        if function.__dict__ and "." not in qualname:
            links.append(("changed", [*self.changes(names, qualname)]))
            links += self.values.attributes_of(part, function)
        part.settle(form.shape, links)

    def _fill_statements(
        self,
        part: Part,
        file: SourceFile,
        nodes: Sequence[ast.AST],
        names: Mapping[str, Any],
        more: Links | None = None,
    ) -> None:
        form = normal_form(nodes)
        part.source = Source(file, nodes)
        part.settle(form.shape, self.links(form, names) + (more or []))


def _varies(file: SourceFile, name: str, text: str, statements: Sequence[ast.stmt]) -> bool:
    """Whether a value tells less than its source: made by a definition, changed by functions, or a path."""
    if name in file.rebound or any(isinstance(node, Definition) for node in statements):
        return True
    return _is_placed(text, file, name)


def _is_placed(text: str, file: SourceFile, name: str) -> bool:
    """Whether a value tells where the project lies."""
    return '"/' in text and file.reads_own_path(name)
