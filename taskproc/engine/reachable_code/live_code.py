"""Make the parts for the code of classes, functions and constants in memory.

What holds code leads to it; other values count as they are now or, if that can't be told, by
the source that made them. Decides nothing about what a fingerprint is, nor where names lead.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from taskproc.core.arguments import digest
from taskproc.core.arguments.names import found_name
from taskproc.core.fingerprint import NormalForm, bytecode_form, normal_form, text_digest
from taskproc.core.records import JSON
from taskproc.core.task import Task
from taskproc.engine.reachable_code.class_body import is_immutable, is_literal
from taskproc.engine.reachable_code.class_code import ClassCode, class_name
from taskproc.engine.reachable_code.imports import Imports
from taskproc.engine.reachable_code.names import Names
from taskproc.engine.reachable_code.parts import Links, Part, PartTable, Source, Target
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_file import Definition, SourceFile
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.states import States, encoded
from taskproc.engine.reachable_code.static_code import TASK_DIGEST, StaticCode
from taskproc.engine.reachable_code.values import Survey, cells, defaults, import_of
from taskproc.modules import canonical_name

_UNREADABLE = text_digest("neither source nor text")


class _OwnCode(NamedTuple):
    """What counts of a function's own code, and where it is written."""

    form: NormalForm
    source: Source | None


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
        self._imports = Imports(sources, project)
        static = StaticCode(table, sources, project)
        self._names = Names(self, static, sources, self._imports, project)
        self._classes = ClassCode(self, sources, project)
        self._states = States(self.own_code, project.has_class, self._is_set_later)
        self._codes: dict[int, tuple[CodeType, _OwnCode]] = {}
        self._encoding: set[int] = set()

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
        name = f"{self.home(function.__globals__)}.{function.__code__.co_qualname}"

        def fill(part: Part) -> None:
            self._fill_function(part, function)

        label = (lambda: f"{name} {digest(self.own_code(function))}") if "<" in name else None
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
                part.settle(_UNREADABLE)
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
            part.needs, is_small = self._survey(value) if is_open else ([], False)
            file = self._sources.of_module(names)
            statements = file.binding(name) if file is not None else []
            own = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
            text = encoded(value, self.own_code) if is_small and not (by_source and own) else None
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
                self._fill_held(part, value, is_small)

        key = ("constant", id(names), name, id(value), by_source)
        return self._table.get(key, f"{self.home(names)}.{name}", fill, names, value)

    def _state(
        self, owner: str, name: str, value: Any, file: SourceFile, statements: Sequence[ast.stmt]
    ) -> Links:
        """What an object holds that the module made when it was loaded; its source may not tell."""
        if name in file.rebound or any(isinstance(node, Definition) for node in statements):
            return []
        text = self._states.text(value)
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
        parts, is_small = self._survey(thing)
        if not parts and (found_name(thing) is not None or not is_small or not encoded(thing, self.own_code)):
            return []
        return [self._held_part(f"task_depends_on({type(thing).__qualname__})", thing)]

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

    def _survey(self, value: Any) -> tuple[list[Part], bool]:
        """The parts inside a value, and whether it is small enough to be written down."""
        found: list[Part] = []

        def is_part(item: Any) -> bool:
            parts = self.direct(item)
            if parts is None and self._project.has_class(type(item)):
                found.append(self.class_part(type(item)))
            found.extend(parts or ())
            return parts is not None

        survey = Survey(is_part, self._project.has_class)
        survey.walk(value)
        return found, survey.is_small

    def _is_set_later(self, kind: type, name: str) -> bool:
        """Whether methods of a class set an attribute of its objects after they are made."""
        files = [self._sources.of_module(module_globals(base.__module__)) for base in kind.__mro__]
        return any(
            name in file.set_later or name in file.set_by_functions for file in files if file is not None
        )

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

    def captured(self, owner: str, function: FunctionType) -> Links:
        """What the variables lead to that a function took from around itself."""
        return [(f"cell {name}", self.held(f"{owner}({name})", value)) for name, value in cells(function)]

    def held(self, name: str, value: Any) -> list[Target]:
        """What a value leads to that stands under no name of a module."""
        if issubclass(type(value), ModuleType):
            return [self.module_part(value) if self._project.has_globals(vars(value)) else import_of(value)]
        direct = self.direct(value)
        if direct is None:
            return [self._held_part(name, value)]
        return [*direct] or [import_of(value)]

    def _fill_held(self, part: Part, value: Any, is_small: bool) -> None:
        text = self._text(value) if is_small else None
        if text is None:
            part.settle(_UNREADABLE)
        else:
            part.settle_value(text)

    def content(
        self, name: str, value: Any, is_steady: bool, is_placed: Callable[[], bool] = bool
    ) -> list[Target]:
        """What an attribute leads to whose source is known: its value, if that says more.

        Args:
            name: what to call the value.
            value: the value.
            is_steady: whether it counts, or only the code in it.
            is_placed: whether paths in it may tell where the project lies; asked only if there are any.
        """
        if issubclass(type(value), ModuleType):
            return []
        direct = self.direct(value)
        if direct is not None:
            return [*direct]
        parts, is_small = self._survey(value)
        text = None
        if is_steady and is_small:
            text = self._text(value)
        if text is None or ('"/' in text and is_placed()):
            return [*parts]
        return [self._held_part(name, value)]

    def defaults_of(self, owner: str, function: FunctionType, node: ast.AST | None) -> Links:
        """The values of the defaults that the source does not tell; all of them, if there is none."""
        links: Links = []
        for number, (value, written) in enumerate(_defaults_with_source(function, node)):
            if not _is_told(value, written):
                is_steady = written is None or is_immutable(value)
                held = self.content(f"{owner}(default {number})", value, is_steady)
                links += [(f"default {number}", held)] if held else []
        return links

    def _held_part(self, name: str, value: Any) -> Part:
        def fill(part: Part) -> None:
            part.needs, is_small = self._survey(value)
            self._fill_held(part, value, is_small)

        return self._table.get(("held", name, id(value)), name, fill, value)

    def is_readable(self, function: FunctionType) -> bool:
        """Whether something is known of each value that a function took from around itself."""
        for _, value in cells(function):
            if self.direct(value) is None and not issubclass(type(value), ModuleType):
                parts, is_small = self._survey(value)
                if not parts and (not is_small or self._text(value) is None):
                    return False
        return True

    def _text(self, value: Any) -> str | None:
        return encoded(value, self.own_code) or self._states.text(value)

    def own_code(self, function: FunctionType) -> JSON:
        """A nameless function inside a constant; what it reaches is among the constant's needs."""
        if id(function) in self._encoding:
            return "itself"
        self._encoding.add(id(function))
        try:
            values = [*defaults(function), *(value for _, value in cells(function))]
            own = self._code(function).form.digest
            return [own, *(encoded(value, self.own_code) for value in values)]
        finally:
            self._encoding.discard(id(function))

    def home(self, names: Mapping[str, Any]) -> str:
        """The canonical name of the module with these globals."""
        return canonical_name(str(names.get("__name__", "")))

    # --- filling ---

    def _code(self, function: FunctionType) -> _OwnCode:
        code: CodeType = function.__code__
        known = self._codes.get(id(code))
        if known is None:
            found = self._sources.of_function(function)
            if found is None:
                own = _OwnCode(bytecode_form(code), None)
            else:
                own = _OwnCode(normal_form([found[1]], nameless=True), Source(found[0], [found[1]]))
            known = self._codes[id(code)] = (code, own)
        return known[1]

    def _fill_function(self, part: Part, function: FunctionType) -> None:
        form, part.source = self._code(function)
        names, qualname = function.__globals__, function.__code__.co_qualname
        links = self.links(form, names, function.__code__.co_freevars)
        links += self.captured(part.name, function)
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            links.append(("wrapped", self.held(f"{part.name}.__wrapped__", wrapped)))
        # If it is made again at every call of what stands around it, its defaults may differ each time.
        node = part.source.nodes[0] if part.source is not None and "<" not in part.name else None
        links += self.defaults_of(part.name, function, node)
        if function.__dict__ and "." not in qualname:
            links.append(("changed", [*self.changes(names, qualname)]))
            links += self._attributes(part, function)
        part.settle(form.shape, links)

    def _attributes(self, part: Part, function: FunctionType) -> Links:
        """The values of what a function was given as attributes, but for those that functions set."""
        unsteady = part.source.file.set_by_functions if part.source is not None else ()
        return [
            (f"attribute {name}", self.content(f"{part.name}.{name}", value, True))
            for name, value in function.__dict__.items()
            if not name.startswith("_") and name not in unsteady and is_immutable(value)
        ]

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


def _defaults_with_source(
    function: FunctionType, node: ast.AST | None
) -> Iterator[tuple[Any, ast.expr | None]]:
    """The defaults of a function, each with its expression if that is known."""
    written: list[ast.expr] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        written = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
    values = defaults(function)
    return zip(values, written if len(written) == len(values) else [None] * len(values), strict=True)


def _is_told(value: Any, written: ast.expr | None) -> bool:
    """Whether an expression is a plain constant, and this is its value."""
    if written is None or not is_literal(written):
        return False
    said = ast.literal_eval(written)
    return type(said) is type(value) and bool(said == value)
