"""Decide what a module is called, whichever way it came to run, and load task files.

A module's canonical name is its import name as seen from its first parent folder without
`__init__.py`. `__main__`, an imported module and a FILE given to the command so get one
name. Knows nothing of tasks, caches or workers. The name found is kept on the module itself.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType

from taskproc.errors import TaskFileError
from taskproc.tracebacks import own_lines

MAIN = "__main__"
_MARK = "__taskproc_name__"
_SOURCE_SUFFIXES = (".py", ".pyw")
# Names that are taken wherever this library runs, whatever happens to be imported just now.
TAKEN_NAMES = sys.stdlib_module_names | {"taskproc", "cloudpickle", "pluggy", "click", "rich"}
_INSTALLED_FOLDERS = frozenset({"site-packages", "dist-packages"})


def canonical_name(module_name: str) -> str:
    """The canonical name of a loaded module; one that is not loaded keeps its own."""
    module = sys.modules.get(module_name)
    if module is None:
        return module_name
    known = module.__dict__.get(_MARK)
    if known is not None:
        return str(known)
    file = module_file(module)
    if file is None or (module_name != MAIN and is_installed(file)):
        name = module_name
    else:
        name = _name_of_file(file)
        if name != module_name:
            if module_name != MAIN and _another_is_importable(name, file):
                name = _name_with_digits(name, file)
            _alias(module, name, _root_and_name(file)[0])
    module.__dict__[_MARK] = name
    return name


def module_file(module: ModuleType) -> str | None:
    """The absolute path of the source a module was loaded from, if there is one to load again."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(_SOURCE_SUFFIXES) or not os.path.isfile(file):
        return None
    return os.path.abspath(file)


def load_file(path: str) -> ModuleType:
    """Load the file at `path`, and no other, as a module of its canonical name.

    The file's folder becomes `sys.path[0]`, as with `python FILE`.

    Raises:
        TaskFileError: there is no such file, or it raises; `details` then holds the
            traceback, from the file's own first line on.
    """
    file = os.path.abspath(path)
    if os.path.isdir(file):
        raise TaskFileError(f"{path!r} is a directory; give the path of a Python file")
    if not os.path.isfile(file):
        raise TaskFileError(f"there is no task file {path!r} (looked at {file})")
    if not file.endswith(_SOURCE_SUFFIXES):
        raise TaskFileError(f"{path!r} is not a Python file: its name must end in .py")
    root, name = _root_and_name(file)
    for folder in dict.fromkeys((root, os.path.dirname(file))):
        if sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
    name = _name_of_file(file)
    loaded = sys.modules.get(name)
    if loaded is not None and _same_file(loaded, file):
        return loaded
    if "." in name:
        importlib.import_module(name.rpartition(".")[0])
    return load_file_as(name, file)


class FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles what the file holds now.

    Python's own cache of bytecode knows times in seconds only: an edit within the second that
    keeps the file's size would run the old code.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_file_as(name: str, file: str) -> ModuleType:
    """Load a file as the module `name`, whatever the path has under that name.

    Raises:
        TaskFileError: the file raises.
    """
    loader = FreshLoader(name, file)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:  # for the type checkers: never None with a loader given
        raise TaskFileError(f"can't load {file!r}")
    module = importlib.util.module_from_spec(spec)
    module.__dict__[_MARK] = name
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except KeyboardInterrupt:
        sys.modules.pop(name, None)
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        cause = f"{type(error).__name__}: {error}".rstrip(": ")
        raise TaskFileError(f"the task file {file} raised {cause}", own_lines(error)) from error
    return module


def files_to_load(module_names: Iterable[str]) -> list[tuple[str, str]]:
    """(canonical name, file) of those modules that another process can't import by name alone.

    `__main__` is among them if its file may be loaded again (see `main_is_loadable`).
    """
    found: dict[str, str] = {}
    for name in module_names:
        module = sys.modules.get(name)
        file = module_file(module) if module is not None else None
        if module is None or file is None or (name == MAIN and not main_is_loadable()):
            continue
        known_as = canonical_name(name) if name == MAIN else name
        if not _import_finds(known_as, file):
            found[known_as] = file
    return list(found.items())


def main_is_loadable() -> bool:
    """Whether the running script may be loaded as a module: it has a file and a main guard."""
    return _main_guarded_names() is not None


def main_reference(thing: type | FunctionType) -> str | None:
    """The canonical module name under which a class or function of `__main__` is found again.

    None if it travels by value: a notebook, a script without a main guard, a thing that is
    defined below the guard, or that came here by value itself.
    """
    guarded = _main_guarded_names()
    path = thing.__qualname__.split(".")
    if guarded is None or path[0] in guarded:
        return None
    found: object = sys.modules.get(MAIN)
    for part in path:
        found = getattr(found, part, None)
    return canonical_name(MAIN) if found is thing else None


def _main_guarded_names() -> frozenset[str] | None:
    """Names defined below the main guard of the running script; None if it has no guard."""
    main = sys.modules.get(MAIN)
    if main is None:
        return None
    mark = "__taskproc_guarded__"
    if mark not in main.__dict__:
        file = module_file(main)
        main.__dict__[mark] = _guarded_names(file) if file is not None else None
    names: frozenset[str] | None = main.__dict__[mark]
    return names


def _guarded_names(file: str) -> frozenset[str] | None:
    with open(file, "rb") as stream:
        tree = ast.parse(stream.read(), file)
    names: set[str] = set()
    has_guard = False
    for node in tree.body:
        if isinstance(node, ast.If) and any(
            isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
        ):
            has_guard = True
            names.update(_defined_names(node.body))
    return frozenset(names) if has_guard else None


def _defined_names(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name


def _name_of_file(file: str) -> str:
    """The canonical name of a file: its import name, or with digits if another file owns that."""
    _, name = _root_and_name(file)
    top = name.partition(".")[0]
    if top not in TAKEN_NAMES and top != MAIN:
        owner = sys.modules.get(name)
        if owner is None or _same_file(owner, file):
            return name
    return _name_with_digits(name, file)


def _name_with_digits(name: str, file: str) -> str:
    digits = hashlib.blake2b(os.fsencode(os.path.realpath(file)), digest_size=4).hexdigest()
    return f"{name.rpartition('.')[2]}_{digits}"


def _root_and_name(file: str) -> tuple[str, str]:
    """The first parent folder without `__init__.py`, and the import name seen from there."""
    folder, base = os.path.split(file)
    stem = os.path.splitext(base)[0].replace(".", "_")
    parts = [stem]
    while os.path.isfile(os.path.join(folder, "__init__.py")) and os.path.dirname(folder) != folder:
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    if stem == "__init__" and len(parts) > 1:
        parts.pop()
    return folder, ".".join(parts)


def _same_file(module: ModuleType, file: str) -> bool:
    other = getattr(module, "__file__", None)
    return isinstance(other, str) and os.path.realpath(other) == os.path.realpath(file)


def is_installed(file: str) -> bool:
    """Whether a file belongs to the standard library or to an installed distribution."""
    if not _INSTALLED_FOLDERS.isdisjoint(file.split(os.sep)):
        return True
    return file.startswith(installed_folders())


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """Where this interpreter keeps what is installed: they stay the same, and are slow to ask for."""
    paths = sysconfig.get_paths()
    return tuple({paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def is_on_path_of_others(folder: str) -> bool:
    """Whether other interpreters of this environment look for modules in a folder by themselves.

    They do if PYTHONPATH names it, or a `.pth` file, as an editable installation leaves one.
    """
    if folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        return True
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        try:
            names = [name for name in os.listdir(site) if name.endswith(".pth")]
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError, UnicodeDecodeError), open(os.path.join(site, name)) as file:
                if folder in file.read().splitlines():
                    return True
    return False


def _alias(module: ModuleType, name: str, root: str) -> None:
    """Let `import NAME` elsewhere find the running script instead of loading it twice."""
    sys.modules.setdefault(name, module)
    parent, _, child = name.rpartition(".")
    if parent and root not in sys.path:
        sys.path.append(root)  # as `python -m NAME` from there would have it
    package = sys.modules.get(parent)
    if package is not None and not hasattr(package, child):
        setattr(package, child, module)


def _importable_file(name: str) -> str | None:
    """The real path of what a plain import of `name` on this `sys.path` would load."""
    path: list[str] | None = None
    parent = name.rpartition(".")[0]
    if parent:
        path = list(getattr(sys.modules.get(parent), "__path__", []))
    try:
        spec = importlib.machinery.PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return None
    return os.path.realpath(spec.origin) if spec is not None and spec.origin is not None else None


def _import_finds(name: str, file: str) -> bool:
    return _importable_file(name) == os.path.realpath(file)


def _another_is_importable(name: str, file: str) -> bool:
    return _importable_file(name) not in (None, os.path.realpath(file))
