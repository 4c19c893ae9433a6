"""Decide what belongs to the project, and so is followed.

The project is what lies outside of the standard library and of installed distributions, and
one top-level package more, wherever it is installed. taskproc itself never belongs to it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from taskproc.engine.reachable_code.source_files import Sources, module_globals
from taskproc.modules import MAIN, canonical_name


class Project:
    """The project, as it is seen from one task.

    Args:
        sources: knows which files are installed.
        package: a top-level package that belongs to the project even where it is installed.
    """

    def __init__(self, sources: Sources, package: str | None) -> None:
        self._sources = sources
        self._package = package

    def has_module(self, name: str, path: str | None) -> bool:
        """Whether a module of this name and file belongs to the project."""
        top = name.partition(".")[0]
        if top == "taskproc":
            return False
        if top == self._package:
            return True
        return top not in sys.stdlib_module_names if path is None else not self._sources.is_installed(path)

    def has_globals(self, names: Mapping[str, Any]) -> bool:
        """Whether the module with these globals belongs to the project."""
        file = names.get("__file__")
        if not isinstance(file, str):
            file = next(iter(names.get("__path__") or ()), None)  # a namespace package has folders only
        name = str(names.get("__name__", ""))
        if name == MAIN:  # a module of an installed package, run by `python -m`
            name = canonical_name(name)
        return self.has_module(name, file if isinstance(file, str) else None)

    def has_class(self, cls: type) -> bool:
        """Whether a class was made in the project."""
        module = str(cls.__module__)
        return self.has_globals(module_globals(module) or {"__name__": module})
