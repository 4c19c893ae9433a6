"""Decide what counts of a class in memory: its source, and what it was given otherwise.

Knows nothing of where names lead: LiveCode does.
"""

from __future__ import annotations

import abc
import ast
import enum
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments import digest
from taskproc.core.definition import SETTINGS
from taskproc.core.fingerprint import normal_form, text_digest
from taskproc.core.task import Task
from taskproc.engine.reachable_code.class_body import ClassBody
from taskproc.engine.reachable_code.parts import Links, Part, Source, Target
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_file import SourceFile
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.states import encoded
from taskproc.engine.reachable_code.values import functions_in
from taskproc.modules import canonical_name

if TYPE_CHECKING:
    from taskproc.engine.reachable_code.live_code import LiveCode

_NO_SOURCE = text_digest("a class without source")


class ClassCode:
    """Fills in the parts that are classes.

    Args:
        live: follows what they name.
        sources: the source files.
        project: what is followed.
    """

    def __init__(self, live: LiveCode, sources: Sources, project: Project) -> None:
        self._live = live
        self._sources = sources
        self._project = project

    def fill(self, part: Part, cls: type) -> None:
        own, others = methods(cls, self._project.has_globals)
        found = self._sources.of_class(cls, own)
        if found is None:
            links: Links = []
            home, shape = cls.__module__, _NO_SOURCE
            part.body += [one for function in own for one in self._live.parts_of(function)]
            others = own + [f for f in others if f.__globals__.get("__name__", home) == home]
        else:
            shape, links = self._read(part, cls, own, found)
            followed = self._project.has_globals
            others = [f for f in others if not is_generated(f) and followed(f.__globals__)]
        for function in others:
            links.append((f"function {function.__name__}", [*self._live.parts_of(function)]))
        links += self._values(part, cls, found)
        bases = [base for base in (*cls.__bases__, type(cls)) if self._project.has_class(base)]
        parts = [self._live.class_part(base) for base in bases]
        part.body += parts
        part.settle(shape, self._with_relatives(cls, links) + [("base", [one]) for one in parts])

    def _read(
        self, part: Part, cls: type, own: Sequence[FunctionType], found: tuple[SourceFile, list[ast.ClassDef]]
    ) -> tuple[str, Links]:
        """The shape and the links of a class whose source is known."""
        part.source = Source(*found)
        file, nodes = found
        # Of several class statements the one that made the class can't be told: what decides may.
        nodes_read = nodes if len(nodes) == 1 else file.with_conditions(nodes)
        form = normal_form(nodes_read, settings_of(cls), nameless=True)
        names = own[0].__globals__ if own else module_globals(cls.__module__)
        free = {name for function in own for name in function.__code__.co_freevars}
        links = self._live.links(form, names, free)
        for function in own:
            owner = f"{part.name}.{function.__name__}"
            links += self._live.values.captured(owner, function)
            links += self._live.values.defaults_of(owner, function, file.find(function.__code__))
        if "." not in cls.__qualname__:
            changes = self._live.changes(names, cls.__qualname__, settings_of(cls))
            part.body += changes
            links.append(("changed", [*changes]))
        return form.shape, links

    def _values(self, part: Part, cls: type, found: tuple[SourceFile, list[ast.ClassDef]] | None) -> Links:
        """The plain attributes whose values the source does not tell."""
        links: Links = []
        if found is None or "<locals>" in cls.__qualname__:
            for name, value in data(cls):
                held = self._live.values.held(f"{part.name}.{name}", value)
                part.body += [target for target in held if isinstance(target, Part)]
                links.append((name, held))
            return links
        file, nodes = found

        def is_placed() -> bool:
            return file.reads_own_path(cls.__qualname__.partition(".")[0])

        for name, value, is_given in ClassBody(nodes).differing(data(cls), self._is_plain(cls)):
            # What functions set differs from run to run: there it is the source that counts.
            is_steady = not name.startswith("_") and name not in file.set_by_functions
            if isinstance(value, enum.Enum) and isinstance(value, cls):
                value = value.value  # the member itself is known by its name
            held = self._live.values.content(f"{part.name}.{name}", value, is_steady, is_placed)
            part.body += [target for target in held if is_given and isinstance(target, Part)]
            links += [(name, held)] if held else []
        return links

    def _is_plain(self, cls: type) -> bool:
        """Whether nobody but the project can have given a class attributes."""
        return all(
            kind in (type, abc.ABCMeta) or self._project.has_class(kind) for kind in type.mro(type(cls))[:-1]
        )

    def _with_relatives(self, cls: type, links: Links) -> Links:
        """The links with the class itself and its bases, named as tasks, in full: they are no others."""
        relatives: dict[Target, Target] = {
            self._live.task_part(base): self._live.class_part(base)
            for base in cls.__mro__
            if issubclass(base, Task) and self._project.has_class(base)
        }
        return [(name, [relatives.get(target, target) for target in targets]) for name, targets in links]

    def label(self, cls: type) -> str:
        """Tells a class that a function made from the next one that it makes."""
        own, _ = methods(cls, self._project.has_globals)
        code_of = self._live.values.own_code
        values = [[name, encoded(value, code_of)] for name, value in data(cls)]
        return f"{class_name(cls)} {digest([[code_of(function) for function in own], values])}"


def settings_of(cls: type) -> frozenset[str]:
    """The attributes of a class that are not part of its code."""
    return SETTINGS if issubclass(cls, Task) else frozenset()


def class_name(cls: type) -> str:
    """The canonical module and the qualified name of a class."""
    return f"{canonical_name(cls.__module__)}.{cls.__qualname__}"


def methods(
    cls: type, in_project: Callable[[Mapping[str, Any]], bool]
) -> tuple[list[FunctionType], list[FunctionType]]:
    """The functions of a class: those its body defines, and those it was given otherwise.

    Wrappers from outside of the project are looked through: decorators, and ours of `__init__`.
    """

    def original(function: FunctionType) -> FunctionType:
        wrapped = function.__dict__.get("__wrapped__")
        while isinstance(wrapped, FunctionType) and not in_project(function.__globals__):
            function, wrapped = wrapped, wrapped.__dict__.get("__wrapped__")
        return function

    own: list[FunctionType] = []
    others: list[FunctionType] = []
    for name, member in list(vars(cls).items()):
        for function in functions_in(member):
            found = original(function)
            if found is not function and _inherits(cls, name, found, original):
                continue
            is_own = found.__code__.co_qualname.startswith(f"{cls.__qualname__}.")
            is_own = is_own and in_project(found.__globals__) and not is_generated(found)
            (own if is_own else others).append(found)
    return own, others


def _inherits(
    cls: type, name: str, found: FunctionType, original: Callable[[FunctionType], FunctionType]
) -> bool:
    """Whether a function is a base's: Task wraps an inherited `__init__` on the class that inherits it."""
    return any(
        original(function) is found
        for base in cls.__mro__[1:]
        for function in functions_in(vars(base).get(name))
    )


def is_generated(function: FunctionType) -> bool:
    """Whether a function comes from text that a library made up (dataclass, attrs)."""
    path = function.__code__.co_filename
    return path == "<string>" or path.startswith("<attrs generated")


def data(cls: type) -> Iterator[tuple[str, Any]]:
    """The plain attributes of a class."""
    for name, value in list(vars(cls).items()):  # an Enum keeps more while its members are looked at
        skipped = name.startswith(("__", "_task", "_abc_")) or name in settings_of(cls)
        if not skipped and not any(functions_in(value)) and not inspect.isdatadescriptor(value):
            yield name, value
