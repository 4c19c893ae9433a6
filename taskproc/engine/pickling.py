"""Turn values into bytes so that another process, or a later run, finds their classes again.

Things of `__main__` travel by reference under their canonical module name where its file
can be loaded; only what has no loadable file goes by value. Knows nothing of jobs or caches.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import PurePath
from types import FunctionType
from typing import Any, NamedTuple

import cloudpickle

from taskproc.core.records import TaskKey
from taskproc.core.task import Task
from taskproc.errors import UnreadableResultError
from taskproc.modules import MAIN, canonical_name, main_reference

PROTOCOL = 5
PLAIN = frozenset({int, str, float, bool, bytes, type(None), complex})
"""Classes whose objects are the same pickled by us as by pickle itself."""
_FOREIGN = sys.stdlib_module_names | {"taskproc", "cloudpickle", "numpy"}
_EXEMPT = frozenset({type(None), type(NotImplemented), type(...)})


class Pickled(NamedTuple):
    """A pickle, and what was noticed while it was made.

    `by_value`: it carries code of classes or functions; `names_root`: it names a path below
    the root that was asked about; `holds`: `module:qualname` of the classes and functions
    outside of the standard library that it refers to by name.
    """

    payload: bytes
    by_value: bool
    names_root: bool
    holds: frozenset[str] = frozenset()


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle with our ideas of `__main__`, and optionally of tasks."""

    def __init__(
        self, file: io.BytesIO, root: str | None = None, task_reducer: Callable[[Task], Any] | None = None
    ) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._roots = _roots(root)
        self._task_reducer = task_reducer
        self.by_value = False
        self.names_root = False
        self.holds: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType):
            if obj in _EXEMPT:
                return super().reducer_override(obj)
            if obj.__module__ == MAIN:
                name = main_reference(obj)
                if name is not None:
                    self.holds.add(f"{name}:{obj.__qualname__}")
                    return _Reference(name, tuple(obj.__qualname__.split("."))).__reduce__()
            public = _public_home(obj)
            if public is not None:
                return _Reference(public, tuple(obj.__qualname__.split("."))).__reduce__()
            reduced = super().reducer_override(obj)
            self.by_value = self.by_value or reduced is not NotImplemented
            if reduced is NotImplemented and str(obj.__module__).partition(".")[0] not in _FOREIGN:
                self.holds.add(f"{canonical_name(obj.__module__)}:{obj.__qualname__}")
            return reduced
        if self._task_reducer is not None and isinstance(obj, Task):
            return self._task_reducer(obj)
        if self._roots and isinstance(obj, PurePath) and str(obj).startswith(self._roots):
            self.names_root = True
        return super().reducer_override(obj)


def dumps(value: Any, root: str | None = None, task_reducer: Callable[[Task], Any] | None = None) -> Pickled:
    """Pickle a value; `root` is a path to look out for."""
    if type(value) in PLAIN:  # the common case, 20 times as quick
        payload = pickle.dumps(value, PROTOCOL)
        return Pickled(payload, False, _mentions(payload, _roots(root)))
    file = io.BytesIO()
    pickler = Pickler(file, root, task_reducer)
    pickler.dump(value)
    payload = file.getvalue()
    names_root = pickler.names_root or _mentions(payload, _roots(root))
    return Pickled(payload, pickler.by_value, names_root, frozenset(pickler.holds))


def loads(payload: bytes) -> Any:
    """Unpickle a value, and leave the classes that are in this process already as they are.

    cloudpickle finds a class that went by value from here again, but sets its attributes anew:
    its methods would be replaced by copies that no longer know the file they are from.
    """
    if _SETS_CLASS not in payload:
        return pickle.loads(payload)
    with _one_at_a_time:  # so that a class that is known has all its attributes
        return _Unpickler(io.BytesIO(payload)).load()


def load_stored(payload: bytes, key: TaskKey) -> Any:
    """Unpickle a stored result.

    Raises:
        UnreadableResultError: it is whole, but can't be unpickled here; the message names the task.
    """
    try:
        return loads(payload)
    except Exception as error:
        raise UnreadableResultError(
            f"the stored result of {key} can't be unpickled here ({type(error).__name__}: {error}); mend "
            "what is in its way, or clear the result (`clear_task()`) to have it computed again"
        ) from error


_SETS_CLASS = b"_class_setstate"
_one_at_a_time = threading.RLock()


class _Unpickler(pickle.Unpickler):
    """Takes the attributes of a class that goes by value only if the class is new here."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known: set[int] = set()

    def find_class(self, module_name: str, name: str) -> Any:
        found = super().find_class(module_name, name)
        if module_name.partition(".")[0] != "cloudpickle":
            return found
        if name.startswith("_make_skeleton_"):
            return lambda *args: self._find_or_make(found, args)
        if name == _SETS_CLASS.decode():
            return lambda cls, state: cls if id(cls) in self._known else found(cls, state)
        return found

    def _find_or_make(self, make: Callable[..., type], args: tuple[Any, ...]) -> type:
        # Of cloudpickle's own module; without it a class is set anew, as cloudpickle has it.
        module = sys.modules.get("cloudpickle.cloudpickle")
        tracked = getattr(module, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
        is_known = any(isinstance(arg, str) and arg in tracked for arg in args)
        cls = make(*args)
        if is_known:
            self._known.add(id(cls))
        return cls


def _public_home(obj: Any) -> str | None:
    """Where the standard library shows what it keeps in a hidden module: other versions hide it elsewhere.

    (`pathlib._local.PosixPath` of Python 3.13 is `pathlib.PosixPath` for all.)
    """
    module = obj.__module__
    if not isinstance(module, str) or "._" not in module:
        return None
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    public = module.partition("._")[0]
    found: Any = sys.modules.get(public)
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return public if found is obj else None


@functools.lru_cache(maxsize=8)
def _roots(root: str | None) -> tuple[str, ...]:
    """A root as it was given and, if that is behind a link, where it really is."""
    return () if root is None else tuple(dict.fromkeys((root, os.path.realpath(root))))


def _mentions(payload: bytes, roots: tuple[str, ...]) -> bool:
    for root in roots:
        # As text, and as the text arrays of numpy hold it.
        if root.encode("utf-8", "surrogateescape") in payload:
            return True
        if len(payload) > 4 * len(root) and root.encode("utf-32-le", "surrogatepass") in payload:
            return True
    return False


class _Reference:
    """Pickles as plain Python that imports a module and follows attributes in it.

    Plain, so that a stored result is read without this library.
    """

    def __init__(self, module: str, path: tuple[str, ...]) -> None:
        self._module = module
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._path:
            return (importlib.import_module, (self._module,))
        return (getattr, (_Reference(self._module, self._path[:-1]), self._path[-1]))


def name_unpicklable(value: Any, where: str = "the result", depth: int = 4) -> str:
    """Say what in a value can't be pickled: the innermost part that fails, by its path."""
    for path, part in _parts(value):
        try:
            dumps(part)
        except Exception:  # noqa: BLE001 - whatever a value's own reducers raise
            if depth:
                return name_unpicklable(part, where + path, depth - 1)
            return f"{where + path}, a {type(part).__module__}.{type(part).__qualname__}"
    return f"{where}, a {type(value).__module__}.{type(value).__qualname__}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, type | FunctionType):
        return []
    kind: Any = type(value)
    state: Any = object.__getstate__(value) if kind.__reduce_ex__ is object.__reduce_ex__ else None
    parts = state if isinstance(state, tuple) else (state,)  # of a class with slots: (attributes, slots)
    return [(f".{name}", part) for one in parts if isinstance(one, dict) for name, part in one.items()]
