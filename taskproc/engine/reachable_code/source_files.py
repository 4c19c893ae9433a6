"""Find the source of functions, classes and assignments, each file read and parsed once.

Source is given for a function only if it is what the function was compiled from: a file may
have been edited since it was imported, and what runs is the code in memory. Knows nothing of
what code reaches.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import linecache
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from taskproc.core.fingerprint import bytecode_form, text_digest
from taskproc.engine.reachable_code.source_file import Function, SourceFile, first_line
from taskproc.imports import compiles_plainly
from taskproc.modules import is_installed

_TICK_NANOSECONDS = 2_000_000_000  # the coarsest clock of a file system in use

_BY_VALUE = "<dynamic-code>"  # what cloudpickle calls the file of code that travelled by value


class Sources:
    """The source files of this process, as they were when first asked for."""

    def __init__(self) -> None:
        self._files: dict[str, SourceFile | None] = {}
        self._contents: dict[str, str] = {}
        self._states: dict[str, object] = {}
        self._paths: dict[str, str | None] = {}
        self._installed: dict[str, bool] = {}

    def refreshed(self) -> Sources:
        """The same for a later look: files that changed since are read again."""
        later = Sources()
        unchanged = {path: state for path, state in self._states.items() if state == _state(path)}
        later._states = unchanged
        later._files = {path: file for path, file in self._files.items() if path in unchanged}
        later._contents = {path: digest for path, digest in self._contents.items() if path in unchanged}
        return later

    def file(self, path: str | None) -> SourceFile | None:
        """The parsed file, or None if there is none or it is not Python."""
        if path is None:
            return None
        if path not in self._files:
            self._states[path] = _state(path)
            self._files[path] = _parse(path)
        return self._files[path]

    def content(self, path: str) -> str:
        """The digest of a file's content.

        Raises:
            OSError: it can't be read.
        """
        path = os.path.abspath(path)
        known = self._contents.get(path)
        if known is None:
            state = _state(path)
            with open(path, "rb") as stream:
                known = hashlib.file_digest(stream, _new_digest).hexdigest()
            self._states.setdefault(path, state)
            self._contents[path] = known
        return known

    def of_module(self, names: Mapping[str, Any]) -> SourceFile | None:
        """The source of the module whose globals these are."""
        file = names.get("__file__")
        if not isinstance(file, str):
            return None
        if file not in self._paths:
            self._paths[file] = _module_path(names)
        return self.file(self._paths[file])

    def of_function(self, function: FunctionType) -> tuple[SourceFile, Function] | None:
        """The source of a function, if it is what the function was made from."""
        code = function.__code__
        path = source_path(code, function.__globals__)
        file = self.file(path)
        if file is None:
            return None
        node = file.find(code)
        if node is None or not self._is_current(file, path, function):
            return None
        return file, node

    def of_class(
        self, cls: type, functions: Iterable[FunctionType]
    ) -> tuple[SourceFile, list[ast.ClassDef]] | None:
        """The source of a class whose own functions are `functions`, if they were made from it.

        There are several class statements if it can't be told which one made the class.
        """
        own = list(functions)
        lines = {function.__code__.co_firstlineno for function in own}
        if own:
            path: str | None = source_path(own[0].__code__, own[0].__globals__)
        else:
            path = _module_path(module_globals(cls.__module__))
        file = self.file(path)
        if file is None:
            return None
        found = [
            node for node in file.definitions.get(cls.__qualname__, []) if isinstance(node, ast.ClassDef)
        ]
        if len(found) > 1 and lines:
            found = [node for node in found if any(_spans(node, line) for line in lines)] or found
        if not found or not all(self._is_current(file, path, function) for function in own):
            return None
        return file, sorted(found, key=first_line)

    def _is_current(self, file: SourceFile, path: str | None, function: FunctionType) -> bool:
        """Whether the file still says what the function was compiled from.

        A loader that changes the code it compiles (pytest's, for one) can't be checked so.
        """
        code, names = function.__code__, function.__globals__
        # What travelled by value has a few of its module's globals only.
        home = names if "__loader__" in names else module_globals(str(names.get("__name__", "")))
        loader = home.get("__loader__")
        changes = loader is not None and not compiles_plainly(loader)
        if changes and path is not None and os.path.isfile(path):
            node = file.find(code)
            return code.co_filename != _BY_VALUE or (
                node is not None and _begins(node) == code.co_firstlineno
            )
        same_name = file.compiled(code.co_qualname)
        if code in same_name:
            return True
        digest = bytecode_form(code).digest
        return any(bytecode_form(other).digest == digest for other in same_name)

    def memory_of(self, module: str) -> str:
        """A digest of a loaded module's functions and methods if its file says others now, else "".

        A function that imports the module gets those, and not what was written since.
        """
        names = module_globals(module)
        path = _module_path(names)
        file = self.file(path) if names else None
        if file is None or path is None:
            return ""
        own = [
            thing
            for thing in names.values()
            if isinstance(thing, FunctionType)
            and thing.__globals__ is names
            and "<" not in thing.__qualname__
        ]
        own += _methods_of(names)
        if all(self._is_current(file, path, function) for function in own):
            return ""
        return text_digest("\n".join(bytecode_form(function.__code__).digest for function in own))

    def is_installed(self, path: str) -> bool:
        """See `modules.is_installed`; each file is asked about once."""
        known = self._installed.get(path)
        if known is None:
            known = self._installed[path] = is_installed(path)
        return known


def source_path(code: CodeType, names: Mapping[str, Any]) -> str:
    """The file of a code object.

    A script's may be told relative to a folder left since, and code that travelled by value has
    lost it; the module's globals know better.
    """
    path = code.co_filename
    if os.path.isabs(path):
        return path
    known = _module_path(names)
    is_known = known is not None and (path == _BY_VALUE or os.path.basename(path) == os.path.basename(known))
    return known if known is not None and is_known else path


def find_module_file(name: str) -> str | None:
    """The source file of a module, found without importing it."""
    module = sys.modules.get(name)
    if module is not None:
        return _module_path(vars(module))
    spec = _find_spec(name)
    return spec.origin if spec is not None and spec.has_location else None


def is_namespace(name: str) -> bool:
    """Whether a module is a package without a file of its own; found without importing it."""
    spec = _find_spec(name)
    return spec is not None and not spec.has_location and bool(spec.submodule_search_locations)


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    parent = name.rpartition(".")[0]
    path: list[str] | None = None
    if parent in sys.modules:
        path = list(getattr(sys.modules[parent], "__path__", []))
    elif parent:
        above = _find_spec(parent)
        path = list(above.submodule_search_locations or []) if above is not None else []
    try:
        return importlib.machinery.PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return None


def _module_path(names: Mapping[str, Any]) -> str | None:
    file = names.get("__file__")
    return os.path.abspath(file) if isinstance(file, str) and file.endswith((".py", ".pyw")) else None


def module_globals(name: str) -> dict[str, Any]:
    """The globals of a loaded module; empty if it is not loaded."""
    module = sys.modules.get(name)
    return vars(module) if isinstance(module, ModuleType) else {}


def _methods_of(names: Mapping[str, Any]) -> list[FunctionType]:
    """The methods of a module's classes, but for those that other code made (as of a dataclass)."""
    stack = [thing for thing in names.values() if isinstance(thing, type)]
    found: list[FunctionType] = []
    seen: set[type] = set()
    while stack:
        cls = stack.pop()
        if cls in seen or cls.__module__ != names.get("__name__"):
            continue
        seen.add(cls)
        for member in vars(cls).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                if function.__globals__ is names and function.__code__.co_qualname == function.__qualname__:
                    found.append(function)
            elif isinstance(member, type):
                stack.append(member)
    return found


def _state(path: str) -> object:
    """What tells that a file did not change; one written just now may yet, within the same tick."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    # The time of the change of the inode is the one that can't be set back.
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _TICK_NANOSECONDS:
        return object()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev


def _new_digest() -> Any:
    return hashlib.blake2b(digest_size=16)


def _parse(path: str) -> SourceFile | None:
    text: bytes | str
    try:
        with open(path, "rb") as stream:
            text = stream.read()
    except (OSError, ValueError):
        text = "".join(linecache.getlines(path))  # a notebook's cells have no file
        if not text:
            return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return SourceFile(text, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _begins(node: Function) -> int:
    return node.lineno if isinstance(node, ast.Lambda) else first_line(node)


def _spans(node: ast.ClassDef, line: int) -> bool:
    return first_line(node) <= line <= (node.end_lineno or node.lineno)
