"""Find the code that a task class reaches, and give its fingerprint.

Followed are the class itself, its bases, decorators and defaults and, transitively, the
functions, classes and constants of the project that this code names. What follows them is in
`live_code` (what is in memory) and `static_code` (what functions import when they run);
docs/code-changes.md tells users. Decides nothing about what is stale.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from types import FunctionType
from typing import NamedTuple

from taskproc.core.arguments import Encoder
from taskproc.core.fingerprint import SCHEME, combine, fingerprint_of, name_parts
from taskproc.core.records import JSON
from taskproc.engine.reachable_code.describing import describe
from taskproc.engine.reachable_code.description import CodeDescription, stated_digest
from taskproc.engine.reachable_code.installed import Installed
from taskproc.engine.reachable_code.live_code import LiveCode
from taskproc.engine.reachable_code.named_code import named_parts
from taskproc.engine.reachable_code.parts import Part, PartTable, bodies, foreign_modules
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.statements import Statement, Statements, packages
from taskproc.engine.reachable_code.values import cells, defaults
from taskproc.modules import canonical_name


class _Reached(NamedTuple):
    """What a class reaches, which parts of that are its own, what it states and the code of that."""

    parts: list[Part]
    own: list[Part]
    stated: list[tuple[Statement, list[Part]]]

    def fingerprint(self) -> str:
        stated = [(said.name, stated_digest(said.digest, _pairs(parts))) for said, parts in self.stated]
        return str(fingerprint_of(_pairs(self.parts), _pairs(self.own), stated))


class CodeReader:
    """Reads the code of task classes, each once; what it has read it takes to stay as it is.

    So use one for a run, and `refreshed()` for the next.
    """

    scheme = SCHEME
    """Numbers how the fingerprints are made."""

    def __init__(self, sources: Sources | None = None, installed: Installed | None = None) -> None:
        self._sources = sources or Sources()
        self._installed = installed or Installed()
        self._statements = Statements(self._sources, self._installed, Encoder(self.encode_function))
        self._code: dict[str | None, tuple[LiveCode, PartTable]] = {}
        self._fingerprints: dict[type, str] = {}
        self._packages: dict[type, dict[str, str]] = {}
        self._encoding: set[int] = set()
        self._lock = threading.RLock()

    def refreshed(self) -> CodeReader:
        """A reader that sees what changed in memory since; files that did not are not read again."""
        with self._lock:  # another thread may be reading more files just now
            return CodeReader(self._sources.refreshed(), self._installed.refreshed())

    def fingerprint(self, cls: type) -> str:
        """The fingerprint of a class, `DEEP.CLASS.STATED` (see `core.fingerprint.Fingerprint`).

        The same for one state of the code on every supported Python, wherever the project lies
        and however its file is run; except for code without source, read as bytecode.

        Raises:
            ArgumentError: its `task_version` can't be written down.
            UsageError: a file or a distribution that its `task_depends_on` names can't be had.
        """
        known = self._fingerprints.get(cls)
        if known is None:
            known = self._fingerprints[cls] = self._reach(cls).fingerprint()
        return known

    def fingerprint_with(self, cls: type, names: Iterable[str]) -> str:
        """The fingerprint of a class and of the functions and classes of these names (see `named_code`).

        What is from outside of the project changes nothing.
        """
        with self._lock:
            held = self._named(cls, names)
            return self._reach(cls, held).fingerprint() if held else self.fingerprint(cls)

    def parts(self, cls: type) -> dict[str, str]:
        """What the fingerprint of a class is made of: a digest for each part, by name.

        A name is the canonical module with the qualified name (`helpers.f`); where two parts
        share one, the second is `name#2`.
        """
        return name_parts(_pairs(self._reach(cls).parts))

    def describe(self, cls: type, names: Iterable[str] = ()) -> CodeDescription:
        """What the fingerprint of a class (with these names, as in `fingerprint_with`) is made of."""
        with self._lock:
            return describe(*self._reach(cls, self._named(cls, names)))

    def reached(self, cls: type, names: Iterable[str] = ()) -> list[Part]:
        """All parts of the same."""
        with self._lock:
            return self._reach(cls, self._named(cls, names)).parts

    def packages(self, cls: type) -> dict[str, str]:
        """The installed distributions that the code of a class names or imports, with their versions.

        Neither the standard library nor taskproc is among them, nor what can't be told.
        """
        known = self._packages.get(cls)
        if known is None:
            modules = foreign_modules(self._reach(cls).parts)
            known = self._packages[cls] = packages(modules, self._installed)
        return known

    def class_code(self, cls: type) -> str:
        """A digest of a class and of all the code that it reaches."""
        with self._lock:
            code, table = self._for_module(cls.__module__)
            return combine(_pairs(table.reach([code.class_part(cls)])))

    def encode_function(self, function: FunctionType) -> JSON:
        """The JSON form of a function without a name (a lambda, a closure) as an argument.

        It is told by its code with all that this reaches, its defaults and its cells.

        Raises:
            ArgumentError: a default or a cell is of a type that can't be part of a key.
        """
        with self._lock:
            if id(function) in self._encoding:
                return {"__function__": "itself"}
            self._encoding.add(id(function))
            try:
                encoder = Encoder(self.encode_function)
                name = function.__qualname__
                values = [encoder.encode(value, f"a default of {name}") for value in defaults(function)]
                held = {key: encoder.encode(value, f"{key} in {name}") for key, value in cells(function)}
                code, table = self._for_module(function.__module__)
                reached = table.reach([code.function_part(function)])
            finally:
                self._encoding.discard(id(function))
        return {"__function__": combine(_pairs(reached)), "defaults": values, "cells": held}

    def _reach(self, cls: type, also: Sequence[Part] = ()) -> _Reached:
        with self._lock:
            code, table = self._for_module(cls.__module__)
            roots = [code.class_part(cls), *also]
            stated = self._statements.of_class(cls, code)
            reached = table.reach([*roots, *(part for said in stated for part in said.parts)])
            return _Reached(reached, bodies(roots), [(said, table.reach(said.parts)) for said in stated])

    def _named(self, cls: type, names: Iterable[str]) -> list[Part]:
        code, table = self._for_module(cls.__module__)
        return [part for name in names for part in named_parts(cls, name, code, table)]

    def _for_module(self, module: str | None) -> tuple[LiveCode, PartTable]:
        """An installed task's own top-level package is followed as well, so it has its own parts."""
        name = module or ""
        file = module_globals(name).get("__file__")
        installed = isinstance(file, str) and self._sources.is_installed(file)
        package = canonical_name(name).partition(".")[0] if installed else None
        found = self._code.get(package)
        if found is None:
            table = PartTable()
            found = self._code[package] = (
                LiveCode(self._sources, table, Project(self._sources, package)),
                table,
            )
        return found


def _pairs(parts: Iterable[Part]) -> list[tuple[str, str]]:
    return [(part.name, part.digest) for part in parts]
