"""Follow what the code of a class or function in memory names, within the project.

A name is looked up where the code would look it up. What holds code leads to it; other values
count as they are now or, if that can't be told, by the source that made them. Decides nothing
about what a fingerprint is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

from taskproc.core.arguments import digest
from taskproc.core.arguments.names import found_name
from taskproc.core.fingerprint import NormalForm, Reference, bytecode_form, normal_form, text_digest
from taskproc.core.records import JSON
from taskproc.core.task import Task
from taskproc.engine.reachable_code.class_code import ClassCode, class_name
from taskproc.engine.reachable_code.parts import Links, Part, PartTable
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_file import Definition, SourceFile
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.static_code import TASK_DIGEST, StaticCode, absolute_name, package_of
from taskproc.engine.reachable_code.values import Survey, cells, defaults, encoded, functions_in
from taskproc.modules import canonical_name

# What Python itself keeps in a module; `__name__` depends on how the module came to run.
_OF_THE_MODULE = frozenset(
    {
        "__name__", "__file__", "__doc__", "__package__", "__loader__", "__spec__", "__path__",
        "__builtins__", "__cached__", "__annotations__", "__dict__", "__debug__",
    }
)  # fmt: skip

_UNREADABLE = text_digest("neither source nor text")


class LiveCode:
    """Makes the parts for code in memory.

    Args:
        sources: the source files.
        table: where the parts are kept.
        project: what is followed.
    """

    def __init__(self, sources: Sources, table: PartTable, project: Project) -> None:
        self._sources = sources
        self._table = table
        self._project = project
        self._static = StaticCode(table, sources, project)
        self._forms: dict[int, tuple[CodeType, NormalForm]] = {}
        self._encoding: set[int] = set()
        self._classes = ClassCode(self, sources, project)

    # --- parts ---

    def parts_of(self, thing: Any) -> list[Part]:
        """The parts of a class, function or any value: what of the project's code it holds."""
        return self._survey(thing)[0]

    def class_part(self, cls: type) -> Part:
        """A class with all its own code, its bases included."""
        label = (lambda: self._classes.label(cls)) if "<" in cls.__qualname__ else None
        return self._table.get(
            ("class", id(cls)), class_name(cls), lambda part: self._classes.fill(part, cls), cls, label=label
        )

    def function_part(self, function: FunctionType) -> Part:
        """A function, with what it took from around itself."""
        name = _function_name(function)

        def fill(part: Part) -> None:
            self._fill_function(part, function)

        label = (lambda: f"{name} {digest(self.own_code(function))}") if "<" in name else None
        return self._table.get(("function", id(function)), name, fill, function, label=label)

    def task_part(self, cls: type) -> Part:
        """Another Task class, known by its name only."""

        def fill(part: Part) -> None:
            part.settle(TASK_DIGEST)

        return self._table.get(("task", id(cls)), class_name(cls), fill, cls)

    def stated_parts(self, thing: Any) -> list[Part]:
        """The parts of what a class states that it depends on; [] if nothing of it is known here."""
        if issubclass(type(thing), ModuleType):
            known = self._project.has_globals(vars(thing)) and self._sources.of_module(vars(thing))
            return [self._module_part(thing)] if known else []
        if issubclass(type(thing), type) and issubclass(thing, Task):
            return [self.class_part(thing)] if self._project.has_class(thing) else []
        direct = self._direct(thing)
        if direct is not None:
            return direct
        parts, is_small = self._survey(thing)
        if not parts and (found_name(thing) is not None or not is_small or not encoded(thing, self.own_code)):
            return []
        return self.held(f"task_depends_on({type(thing).__qualname__})", thing)

    def _direct(self, value: Any) -> list[Part] | None:
        """The part that a function, class or task is by itself; None for anything else."""
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

    def _survey(self, value: Any) -> tuple[list[Part], bool]:
        """The parts inside a value, and whether it is small enough to be written down."""
        found: list[Part] = []

        def is_part(item: Any) -> bool:
            parts = self._direct(item)
            if parts is None and self._project.has_class(type(item)):
                found.append(self.class_part(type(item)))
            found.extend(parts or ())
            return parts is not None

        survey = Survey(is_part, self._project.has_class)
        survey.walk(value)
        return found, survey.is_small

    # --- names ---

    def follow(self, reference: Reference, names: Mapping[str, Any]) -> list[Part]:
        """The parts behind a name in the code of a module with these globals."""
        if reference.module is not None:
            return self._static.follow(reference, names)
        name, rest = reference.path[0], reference.path[1:]
        while name not in _OF_THE_MODULE and name in names:
            value = names[name]
            if not issubclass(type(value), ModuleType):
                return self._named(names, name, value, rest)
            if not self._project.has_globals(vars(value)):
                return []
            if not rest:
                return [self._module_part(value)]
            names, name, rest = vars(value), rest[0], rest[1:]
        return []  # a builtin, or not bound (yet)

    def _named(self, names: Mapping[str, Any], name: str, value: Any, rest: Sequence[str]) -> list[Part]:
        direct = self._direct(value)
        is_class = issubclass(type(value), type)
        if direct is None or (is_class and self._is_made(value)):
            return [self._constant_part(names, name, value)]
        if not (rest and is_class and issubclass(value, Task)):
            return direct
        # `Other.helper(...)` calls code of another task that no record of this one speaks of.
        for base in value.__mro__:
            if rest[0] in vars(base) and self._project.has_class(base):
                member = vars(base)[rest[0]]
                held = list(functions_in(member)) or [member]
                owner = f"{class_name(base)}.{rest[0]}"
                return direct + [part for item in held for part in self.held(owner, item)]
        return direct

    def _is_made(self, cls: type) -> bool:
        """Whether a class of the project is made by a call (`namedtuple(...)`), not by a statement."""
        if not self._project.has_class(cls):
            return False
        file = self._sources.of_module(module_globals(cls.__module__))
        return file is not None and cls.__qualname__ not in file.definitions

    def _module_part(self, module: ModuleType) -> Part:
        """A module that is named as a whole (`getattr(helpers, name)`): all of its source."""

        def fill(part: Part) -> None:
            file = self._sources.of_module(vars(module))
            if file is None:
                part.settle(_UNREADABLE)
            else:
                form = normal_form([file.tree])
                part.settle(form.digest, self.links(form, vars(module)))

        return self._table.get(("module", id(module)), canonical_name(module.__name__), fill, module)

    def _constant_part(self, names: Mapping[str, Any], name: str, value: Any) -> Part:
        names, name = self._origin(names, name, value)

        def fill(part: Part) -> None:
            is_class = issubclass(type(value), type)
            part.needs, is_small = ([], False) if is_class else self._survey(value)
            file = self._sources.of_module(names)
            statements = file.binding(name) if file is not None else []
            own = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
            text = encoded(value, self.own_code) if is_small else None
            if file is not None and text is not None and _varies(file, name, text, own):
                text = None
            if text is not None:
                part.settle(text_digest(text))
            elif own:
                form = normal_form(own)
                part.settle(form.digest, self.links(form, names))
            else:
                part.settle(_UNREADABLE)

        key = ("constant", id(names), name, id(value))
        return self._table.get(key, f"{_home(names)}.{name}", fill, names, value)

    def _origin(self, names: Mapping[str, Any], name: str, value: Any) -> tuple[Mapping[str, Any], str]:
        """The module that binds a constant itself, instead of importing it from another one."""
        for _ in range(20):
            file = self._sources.of_module(names)
            statements = file.binding(name) if file is not None else []
            if not statements or not isinstance(statements[-1], ast.ImportFrom):
                break
            original = next(a.name for a in statements[-1].names if (a.asname or a.name) == name)
            other = module_globals(_imported_from(statements[-1], names))
            if other.get(original) is not value or not self._project.has_globals(other):
                break
            names, name = other, original
        return names, name

    # --- filling ---

    def links(self, form: NormalForm, names: Mapping[str, Any], but: Iterable[str] = ()) -> Links:
        """What each name in a form leads to; names in `but` mean something else there."""
        local = frozenset(but)
        return [
            (reference.text, [*self.follow(reference, names)])
            for reference in form.references
            if reference.module is not None or reference.path[0] not in local
        ]

    def _form(self, function: FunctionType) -> NormalForm:
        """What counts of a function's own code."""
        code: CodeType = function.__code__
        known = self._forms.get(id(code))
        if known is None:
            found = self._sources.of_function(function)
            form = bytecode_form(code) if found is None else normal_form([found[1]])
            known = self._forms[id(code)] = (code, form)
        return known[1]

    def _fill_function(self, part: Part, function: FunctionType) -> None:
        form = self._form(function)
        links = self.links(form, function.__globals__, function.__code__.co_freevars)
        links += self.captured(part.name, function)
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            links.append(("wrapped", [*self.held(f"{part.name}.__wrapped__", wrapped)]))
        if "<" in part.name:
            # Made again at every call of what stands around it: its defaults may differ each time.
            for number, value in enumerate(defaults(function)):
                links.append((f"default {number}", [*self.held(f"{part.name}(default {number})", value)]))
        part.settle(form.digest, links)

    def captured(self, owner: str, function: FunctionType) -> Links:
        """What the variables lead to that a function took from around itself."""
        return [(f"cell {name}", [*self.held(f"{owner}({name})", value)]) for name, value in cells(function)]

    def held(self, name: str, value: Any) -> list[Part]:
        """The parts of a value that stands under no name of a module."""
        if issubclass(type(value), ModuleType):
            return [self._module_part(value)] if self._project.has_globals(vars(value)) else []
        direct = self._direct(value)
        if direct is not None:
            return direct

        def fill(part: Part) -> None:
            part.needs, is_small = self._survey(value)
            text = encoded(value, self.own_code) if is_small else None
            part.settle(_UNREADABLE if text is None else text_digest(text))

        return [self._table.get(("held", name, id(value)), name, fill, value)]

    def own_code(self, function: FunctionType) -> JSON:
        """A nameless function inside a constant; what it reaches is among the constant's needs."""
        if id(function) in self._encoding:
            return "itself"
        self._encoding.add(id(function))
        try:
            values = [*defaults(function), *(value for _, value in cells(function))]
            return [self._form(function).digest, *(encoded(value, self.own_code) for value in values)]
        finally:
            self._encoding.discard(id(function))


def _function_name(function: FunctionType) -> str:
    return f"{_home(function.__globals__)}.{function.__code__.co_qualname}"


def _home(names: Mapping[str, Any]) -> str:
    return canonical_name(str(names.get("__name__", "")))


def _imported_from(statement: ast.ImportFrom, names: Mapping[str, Any]) -> str:
    package = names.get("__package__") or package_of(
        str(names.get("__name__", "")), str(names.get("__file__", ""))
    )
    return absolute_name(statement.module or "", statement.level, package)


def _varies(file: SourceFile, name: str, text: str, statements: Sequence[ast.stmt]) -> bool:
    """Whether a value tells less than its source: made by a definition, changed by functions, or a path."""
    if name in file.rebound or any(isinstance(node, Definition) for node in statements):
        return True
    return '"/' in text and file.reads_own_path(name)
