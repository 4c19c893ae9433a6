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
from typing import Any

from taskproc.core.arguments import Encoder
from taskproc.core.fingerprint import SCHEME, combine, name_parts
from taskproc.core.records import JSON
from taskproc.engine.reachable_code.live_code import LiveCode
from taskproc.engine.reachable_code.parts import Part, PartTable
from taskproc.engine.reachable_code.project import Project
from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.engine.reachable_code.values import cells, defaults


class CodeReader:
    """Reads the code of task classes, each once; what it has read it takes to stay as it is.

    So use one for a run, and `refreshed()` for the next.
    """

    scheme = SCHEME
    """Numbers how the fingerprints are made."""

    def __init__(self, sources: Sources | None = None) -> None:
        self._sources = sources or Sources()
        self._code: dict[str | None, tuple[LiveCode, PartTable]] = {}
        self._fingerprints: dict[type, str] = {}
        self._encoding: set[int] = set()
        self._lock = threading.RLock()

    def refreshed(self) -> CodeReader:
        """A reader that sees what changed in memory since; files that did not are not read again."""
        return CodeReader(self._sources.refreshed())

    def fingerprint(self, cls: type) -> str:
        """The fingerprint of all the code a class reaches: 32 hex digits.

        The same for one state of the code on every supported Python, wherever the project lies
        and however its file is run; except for code without source, read as bytecode.
        """
        known = self._fingerprints.get(cls)
        if known is None:
            known = self._fingerprints[cls] = combine(self._reach(cls))
        return known

    def fingerprint_with(self, cls: type, also: Iterable[Any]) -> str:
        """The fingerprint of a class and of functions, classes or values that it depends on.

        What holds no code of the project, as plain data, changes nothing.
        """
        with self._lock:
            code, _ = self._for_module(cls.__module__)
            held = [part for thing in also for part in code.parts_of(thing)]
            return combine(self._reach(cls, held)) if held else self.fingerprint(cls)

    def parts(self, cls: type) -> dict[str, str]:
        """What the fingerprint of a class is made of: a digest for each part, by name.

        A name is the canonical module with the qualified name (`helpers.f`); where two parts
        share one, the second is `name#2`.
        """
        return name_parts(self._reach(cls))

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
        return {"__function__": combine(reached), "defaults": values, "cells": held}

    def _reach(self, cls: type, also: Sequence[Part] = ()) -> list[tuple[str, str]]:
        with self._lock:
            code, table = self._for_module(cls.__module__)
            return table.reach([code.class_part(cls), *also])

    def _for_module(self, module: str | None) -> tuple[LiveCode, PartTable]:
        """An installed task's own top-level package is followed as well, so it has its own parts."""
        name = module or ""
        file = module_globals(name).get("__file__")
        installed = isinstance(file, str) and self._sources.is_installed(file)
        package = name.partition(".")[0] if installed else None
        found = self._code.get(package)
        if found is None:
            table = PartTable()
            found = self._code[package] = (
                LiveCode(self._sources, table, Project(self._sources, package)),
                table,
            )
        return found
