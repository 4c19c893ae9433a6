"""Cache: what binds tasks to a cache backend and to plugins.

Tasks are constructed inside it and remember it. It decides nothing about what is stale or
how jobs run: freshness and the runner do.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from taskproc.core.arguments import Encoder
from taskproc.core.arguments.names import find_named
from taskproc.core.binding import NEW, READY, TaskState
from taskproc.core.freshness import Circumstances, make_plan
from taskproc.core.graph import TaskGraph, build_graph
from taskproc.core.records import Plan, Record, RunStats, TaskKey, content_digest
from taskproc.core.task import Task, enter_scope, leave_scope
from taskproc.engine.pickling import dumps, loads
from taskproc.engine.reachable_code import CodeReader
from taskproc.engine.versions import python_minor
from taskproc.errors import CacheError, MissingResultError, TaskDefinitionError
from taskproc.interfaces import CacheBackend
from taskproc.registry import Registry

_DEEP = 40
_DEEPEST = 100_000  # about 2 GB of stacks: an endless one must not take all memory
_WAIT_SECONDS = 0.001


class Survey(NamedTuple):
    """A graph, the records now stored of it, what holds for the look, and what is to be done."""

    graph: TaskGraph
    records: dict[TaskKey, Record]
    now: Circumstances
    plan: Plan


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Do not look for garbage while only things that last are made: it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Cache(contextlib.ContextDecorator):
    """A place for results, open while `with Cache(path):` lasts; also a decorator.

    Args:
        where: a path, "NAME:REST" for the cache backend NAME, a URL, or a CacheBackend.
        plugins: plugins to load beside the installed ones: a name, the path of a Python
            file, "no:NAME" to leave one out, or a plugin object.

    Raises:
        CacheError: the path is a file, or holds something that is not a cache.
        PluginError: a plugin that was asked for can't be loaded.
    """

    def __init__(
        self, where: str | os.PathLike[str] | CacheBackend, *, plugins: Sequence[str | object] = ()
    ) -> None:
        self.registry = Registry(plugins)
        self.backend = (
            where if isinstance(where, CacheBackend) else self.registry.cache_backend(_checked(where))
        )
        self.location = self.backend.location
        self.instances: dict[tuple[type, str], Task] = {}
        self._code = CodeReader()
        self._codes: dict[tuple[type, tuple[str, ...]], str] = {}
        self.encoder = Encoder(lambda function: self._code.encode_function(function))
        self._runs = 0
        self._runs_lock = threading.Lock()
        self.backend.open()

    def __enter__(self) -> Self:
        enter_scope(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave_scope()

    def activate(self) -> None:
        """Open this Cache for the rest of the running thread, which starts with none open."""
        enter_scope(self)

    def __repr__(self) -> str:
        return f"Cache({self.location!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a Cache can't be pickled; pass its path and open it where it is needed")

    # --- what a task asks of its Cache ---

    def initialise(self, depth: int, call: Callable[[], None]) -> None:
        """Run an `__init__`; a deep one on a fresh stack, so that depth costs no recursion."""
        if depth >= _DEEPEST:
            raise TaskDefinitionError(
                f"tasks construct tasks, {_DEEPEST:,} deep; an `__init__` seems to construct its own task "
                "again and again: give it a case that ends"
            )
        if depth % _DEEP != _DEEP - 1:
            call()
            return
        context = contextvars.copy_context()
        raised: list[BaseException] = []

        def run() -> None:
            try:
                context.run(call)
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)

        thread = threading.Thread(target=run, name="taskproc-construct", daemon=True)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    def wait_until_built(self, state: TaskState) -> None:
        """Another thread is constructing the same task: wait for it."""
        while state.phase not in (NEW, READY):
            time.sleep(_WAIT_SECONDS)

    def load_result(self, task: Task) -> Any:
        key = task._task.key
        record = self.backend.look_up([key]).get(key)
        if record is None:
            raise MissingResultError(
                f"{task!r} has no stored result in {self.location}; run it first, with run_graph() "
                "on it or on a task that has it as an upstream"
            )
        if record.python is not None and record.python != python_minor():
            raise MissingResultError(
                f"the stored result of {task!r} holds code of Python {record.python} and can't be read by "
                f"{python_minor()}; run it again"
            )
        payload = self.backend.load(key, record.digest)
        enter_scope(self)  # a task inside the result is one of this Cache
        try:
            return loads(payload)
        finally:
            leave_scope()

    def run_graph(self, task: Task, **options: Any) -> tuple[Any, RunStats]:
        from taskproc.engine.options import RunOptions
        from taskproc.engine.runner import run

        return run(self, task, RunOptions(**options))

    def plan(self, task: Task, *, detect_source_change: bool = True, force: bool = False) -> Plan:
        return self.survey(task, detect_source_change, force).plan

    def clear(self, task: Task) -> None:
        self.backend.discard([task._task.key])

    def clear_all(self, task_name: str) -> None:
        self.backend.discard_all(task_name)

    def data_directory(self, task: Task, create: bool) -> Path:
        return self.backend.data_directory(task._task.key, create)

    def log_path(self, task: Task, stream: Literal["stdout", "stderr"]) -> Path:
        paths = self.backend.log_paths(task._task.key)
        return paths.stdout if stream == "stdout" else paths.stderr

    # --- what a run asks of the Cache ---

    def survey(self, task: Task, detect_source_change: bool, force: bool) -> Survey:
        """Look at all that a task needs, and at what is stored of it; writes nothing."""
        self.backend.open()
        with _no_garbage_collection():
            graph = build_graph(task, self.encoder, lambda value: content_digest(dumps(value).payload))
            now = self.circumstances(detect_source_change, force)
            records = self.backend.look_up(list(graph.nodes))
            return Survey(graph, records, now, make_plan(graph, records, now))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Use the backend for a run; when the last of the runs under way has ended it is closed."""
        with self._runs_lock:
            self._runs += 1
        try:
            yield
        finally:
            with self._runs_lock:
                self._runs -= 1
                if not self._runs:
                    self.backend.close()

    def circumstances(self, detect_source_change: bool, force: bool) -> Circumstances:
        """What holds for a look at a graph of this Cache, now."""
        self._code, self._codes = self._code.refreshed(), {}
        return Circumstances(
            location=self.location,
            python=python_minor(),
            code_of=self._code_of,
            code_scheme=self._code.scheme,
            detect_source_change=detect_source_change,
            force=force,
        )

    def _code_of(self, task: Task) -> str:
        """The fingerprint of a task's class, and of the functions and classes among its arguments."""
        cls, named = type(task), task._task.named_code
        if not named:
            return self._code.fingerprint(cls)
        code = self._codes.get((cls, named))
        if code is None:
            found = [thing for thing in map(find_named, named) if thing is not None]
            code = self._codes[cls, named] = self._code.fingerprint_with(cls, found)
        return code


def _checked(where: Any) -> str | os.PathLike[str]:
    if not isinstance(where, str | os.PathLike) or not os.fspath(where):
        raise CacheError(f"Cache({where!r}): give a path, a URL or a cache backend")
    return where
