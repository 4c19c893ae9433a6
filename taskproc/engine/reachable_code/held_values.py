"""Look at values in memory: which code they hold, and what they say beside it.

Values stand in constants of modules, in attributes, defaults and the variables that functions
took from around themselves. Knows nothing of names.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from taskproc.core.fingerprint import NormalForm, bytecode_form, normal_form, text_digest
from taskproc.core.records import JSON
from taskproc.engine.reachable_code.class_body import is_immutable, is_literal
from taskproc.engine.reachable_code.parts import Links, Part, PartTable, Source, Target
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.states import States, encoded
from taskproc.engine.reachable_code.values import Survey, cells, defaults, import_of

if TYPE_CHECKING:
    from taskproc.engine.reachable_code.live_code import LiveCode

UNREADABLE = text_digest("neither source nor text")
"""Stands for what nothing is known of."""


class OwnCode(NamedTuple):
    """What counts of a function's own code, and where it is written."""

    form: NormalForm
    source: Source | None


class HeldValues:
    """Makes the parts of values, and finds those of the code in them.

    Args:
        live: makes the parts of functions and classes.
        sources: the source files.
        table: where the parts are kept.
        project: what is followed.
    """

    def __init__(self, live: LiveCode, sources: Sources, table: PartTable, project: Project) -> None:
        self._live = live
        self._sources = sources
        self._table = table
        self._project = project
        self._states = States(self.own_code, project.has_class, self._is_set_later)
        self._codes: dict[int, tuple[CodeType, OwnCode]] = {}
        self._encoding: set[int] = set()

    def survey(self, value: Any) -> tuple[list[Part], bool]:
        """The parts inside a value, and whether it is small enough to be written down."""
        found: list[Part] = []

        def is_part(item: Any) -> bool:
            parts = self._live.direct(item)
            if parts is None and self._project.has_class(type(item)):
                found.append(self._live.class_part(type(item)))
            found.extend(parts or ())
            return parts is not None

        survey = Survey(is_part, self._project.has_class)
        survey.walk(value)
        return found, survey.is_small

    def captured(self, owner: str, function: FunctionType) -> Links:
        """What the variables lead to that a function took from around itself."""
        return [(f"cell {name}", self.held(f"{owner}({name})", value)) for name, value in cells(function)]

    def held(self, name: str, value: Any) -> list[Target]:
        """What a value leads to that stands under no name of a module."""
        if issubclass(type(value), ModuleType):
            return [
                self._live.module_part(value) if self._project.has_globals(vars(value)) else import_of(value)
            ]
        direct = self._live.direct(value)
        if direct is None:
            return [self.held_part(name, value)]
        return [*direct] or [import_of(value)]

    def fill(self, part: Part, value: Any, is_small: bool) -> None:
        """Fill in the part of a value."""
        text = self.text(value) if is_small else None
        if text is None:
            part.settle(UNREADABLE)
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
        direct = self._live.direct(value)
        if direct is not None:
            return [*direct]
        parts, is_small = self.survey(value)
        text = None
        if is_steady and is_small:
            text = self.text(value)
        if text is None or ('"/' in text and is_placed()):
            return [*parts]
        return [self.held_part(name, value)]

    def defaults_of(self, owner: str, function: FunctionType, node: ast.AST | None) -> Links:
        """The values of the defaults that the source does not tell; all of them, if there is none."""
        links: Links = []
        for number, (value, written) in enumerate(_defaults_with_source(function, node)):
            if not _is_told(value, written):
                is_steady = is_immutable(value)
                where = f"{owner}(default {number})"
                held = self.held(where, value) if written is None else self.content(where, value, is_steady)
                links += [(f"default {number}", held)] if held else []
        return links

    def held_part(self, name: str, value: Any) -> Part:
        """The part of a value that is no function, class or module itself."""

        def fill(part: Part) -> None:
            part.needs, is_small = self.survey(value)
            self.fill(part, value, is_small)

        return self._table.get(("held", name, id(value)), name, fill, value)

    def is_readable(self, function: FunctionType) -> bool:
        """Whether something is known of each value that a function took from around itself."""
        for _, value in cells(function):
            if self._live.direct(value) is None and not issubclass(type(value), ModuleType):
                parts, is_small = self.survey(value)
                if not parts and (not is_small or self.text(value) is None):
                    return False
        return True

    def text(self, value: Any) -> str | None:
        """What a value says; None if nothing is known of it."""
        return encoded(value, self.own_code) or self.state(value)

    def state(self, value: Any) -> str | None:
        """What is known of a value that has no text of its own."""
        return self._states.text(value)

    def own_code(self, function: FunctionType) -> JSON:
        """A nameless function inside a constant; what it reaches is among the constant's needs."""
        if id(function) in self._encoding:
            return "itself"
        self._encoding.add(id(function))
        try:
            values = [*defaults(function), *(value for _, value in cells(function))]
            own = self.code(function).form.digest
            return [own, *(encoded(value, self.own_code) for value in values)]
        finally:
            self._encoding.discard(id(function))

    def code(self, function: FunctionType) -> OwnCode:
        """What counts of a function's own code; it is read once."""
        code: CodeType = function.__code__
        known = self._codes.get(id(code))
        if known is None:
            found = self._sources.of_function(function)
            if found is None:
                own = OwnCode(bytecode_form(code), None)
            else:
                own = OwnCode(normal_form([found[1]], nameless=True), Source(found[0], [found[1]]))
            known = self._codes[id(code)] = (code, own)
        return known[1]

    def attributes_of(self, part: Part, function: FunctionType) -> Links:
        """The values of what a function was given as attributes, but for those that functions set."""
        unsteady = part.source.file.set_by_functions if part.source is not None else ()
        return [
            (f"attribute {name}", self.content(f"{part.name}.{name}", value, True))
            for name, value in function.__dict__.items()
            if not name.startswith("_") and name not in unsteady and is_immutable(value)
        ]

    def _is_set_later(self, kind: type, name: str) -> bool:
        """Whether methods of a class set an attribute of its objects after they are made."""
        files = [self._sources.of_module(module_globals(base.__module__)) for base in kind.__mro__]
        return any(
            name in file.set_later or name in file.set_by_functions for file in files if file is not None
        )


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
