"""Find the entry task: FILE[:TASK] -> a Task class, and the defaults that its file states.

Knows nothing of options; how a file is loaded and what it is called is for taskproc.modules.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from taskproc.cli.defaults import DefaultArguments
from taskproc.core.task import Task
from taskproc.engine.task_classes import task_classes
from taskproc.errors import TaskFileError
from taskproc.modules import TAKEN_NAMES, load_file

DEFAULT_TASK = "Main"
_SHOW_OFFS = frozenset({"this", "antigravity", "__main__"})
_DEFAULTS = "__taskproc_defaults__"


def load_entry(text: str) -> tuple[type[Task], DefaultArguments]:
    """Load the file and find the task in it.

    Raises:
        TaskFileError: no such file, it raises, or it has no such task.
    """
    file, name = split_entry(text)
    module, defaults = load_module(file)
    return find_task(module, file, name), defaults


def load_module(file: str) -> tuple[ModuleType, DefaultArguments]:
    """Load a task file.

    Raises:
        TaskFileError: no such file, or it raises.
    """
    _own_the_name(Path(file).stem)
    module = load_file(file)
    # Kept with the module: a file that is loaded already does not state its defaults again.
    return module, module.__dict__.setdefault(_DEFAULTS, DefaultArguments.get_default())


def find_class(module: ModuleType, file: str, text: str) -> type[Task]:
    """A Task class by its name in the file, or by its whole task name (of an imported module).

    Raises:
        TaskFileError: there is none.
    """
    known = task_classes()
    if "." in text and text in known:
        return known[text]
    return find_task(module, file, text.removeprefix(f"{module.__name__}."))


def split_entry(text: str) -> tuple[str, str]:
    """(file, task name) of FILE[:TASK]; a file whose own name has the colon comes first."""
    file, colon, name = text.rpartition(":")
    if not colon or os.path.lexists(text) or not all(part.isidentifier() for part in name.split(".")):
        return text, DEFAULT_TASK
    return file, name


def find_task(module: ModuleType, file: str, name: str) -> type[Task]:
    """The Task class of that (dotted) name.

    Raises:
        TaskFileError: there is none; the message lists the Task classes of the file.
    """
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Task) and found is not Task:
        return found
    known = list(dict.fromkeys(_task_names(module, module.__name__)))
    fault = f"the task file {file!r} has no task {name!r}"
    if found is not None:
        fault = f"{name!r} of the task file {file!r} is not a Task class, but {found!r}"
    if not known:
        raise TaskFileError(f"{fault}, and no Task class at all; define `class {name}(Task)` in it")
    guess = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {file}:{guess[0]}?" if guess else f"; choose one with {file}:{known[0]}"
    raise TaskFileError(f"{fault}; its Task classes: {', '.join(known)}{hint}")


def _task_names(scope: Any, module_name: str, outer: str = "") -> Iterator[str]:
    """Dotted names of the Task classes that are defined in the module."""
    for name, value in list(vars(scope).items()):
        if not isinstance(value, type) or value.__module__ != module_name:
            continue
        if value.__qualname__ != outer + name:  # an alias, or a class that holds itself
            continue
        if issubclass(value, Task):
            yield outer + name
        yield from _task_names(value, module_name, f"{outer}{name}.")


def _own_the_name(stem: str) -> None:
    """Import the library that a task file shares its name with, before its folder is on the path.

    Whoever imports that library later, ourselves included, then gets it and not the task file.
    """
    if stem in TAKEN_NAMES - _SHOW_OFFS:
        try:
            importlib.import_module(stem)
        except ImportError:  # of another platform: nobody here imports it
            return
