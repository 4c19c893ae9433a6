"""Cache: what binds tasks to a cache backend and to plugins.

Tasks are constructed inside it and remember it. It decides nothing about what is stale or
how jobs run: freshness and the runner do.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from taskproc.core.arguments import Encoder
from taskproc.core.freshness import code_mode
from taskproc.core.records import (
    JSON,
    CodeMode,
    Event,
    Explanation,
    Finding,
    Plan,
    Record,
    RunStats,
    TaskKey,
)
from taskproc.core.task import Task, enter_scope, leave_scope, open_scope
from taskproc.engine.codes import Codes
from taskproc.engine.construction import Constructing
from taskproc.engine.input_files import InputFiles
from taskproc.engine.jobs import FindsTasks
from taskproc.engine.pickling import load_stored
from taskproc.engine.surveying import Surveying
from taskproc.engine.versions import python_minor, who_we_are
from taskproc.errors import CacheError, MissingResultError
from taskproc.interfaces import CacheBackend
from taskproc.registry import Registry
from taskproc.registry.components import with_options

T = TypeVar("T", bound=Task)

_CLEAR_SECONDS = 1.0
"""Who only puts a value, or verifies, holds a task for less."""


class Cache(Constructing, Surveying, contextlib.ContextDecorator):
    """A place for results, open while `with Cache(path):` lasts; also a decorator.

    Args:
        where: a path, "NAME:REST" for the cache backend NAME, a URL, or a CacheBackend.
        plugins: plugins to load beside the installed ones: a name, the path of a Python
            file, "no:NAME" to leave one out, or a plugin object.
        shared: "group" for a cache that the members of a group read and write. None: the
            cache is for its owner alone.
        trust: use a cache that another user owns or that others can write to. Reading a
            result can run whatever code its writer put in.

    Raises:
        CacheError: the path is a file, holds something that is not a cache, or is not safe
            to read; or the cache backend knows nothing of `shared` or `trust`.
        PluginError: a plugin that was asked for can't be loaded.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | CacheBackend,
        *,
        plugins: Sequence[str | object] = (),
        shared: Literal["group"] | None = None,
        trust: bool = False,
    ) -> None:
        self.registry = Registry(plugins)
        backend = where if isinstance(where, CacheBackend) else self.registry.cache_backend(_checked(where))
        self.backend = with_options(backend, shared=shared, trust=trust)
        self.location = self.backend.location
        self.instances: dict[tuple[type, str], Task] = {}
        self.inputs = InputFiles()
        self.slow_arguments: set[str] = set()
        self.newest_class = Task._task_serial
        self.codes = Codes(self.backend)
        self.encoder = Encoder(self.codes.encode_function, self.registry.argument_type)
        self.encoder.class_code = self.codes.of_made_class
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

    @property
    def folder(self) -> str:
        return os.getcwd()

    def restore(self, cls: type[Task], digest: str, args: Mapping[str, JSON]) -> Task:
        from taskproc.engine.stored_tasks import task_of

        return task_of(self, cls, digest, args)

    def load_result(self, task: Task, record: Record | None = None) -> Any:
        """The stored result; with `record`, the very one that this record is of."""
        key = task._task.key
        record = record or self.get_record(task)
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
        scope = open_scope()
        job: Any = scope.binding if scope is not None else None
        if isinstance(job, FindsTasks) and job.location == self.location:
            job.note_reading(key)  # it reaches this task some other way than by its attributes
        payload = self.backend.load(key, record.digest)
        enter_scope(self)  # a task inside the result is one of this Cache
        try:
            return load_stored(payload, key)
        finally:
            leave_scope()

    def run_graph(self, task: Task, **options: Any) -> tuple[Any, RunStats]:
        from taskproc.engine.options import RunOptions
        from taskproc.engine.runner import run

        return run(self, task, RunOptions(**options))

    def plan(
        self,
        task: Task,
        *,
        detect_source_change: bool = True,
        code: CodeMode = "deep",
        force: bool = False,
    ) -> Plan:
        plan = self.survey(task, code_mode(detect_source_change, code), force).plan
        if not plan.untimed:
            return plan
        from taskproc.engine.durations import with_typical_seconds

        return with_typical_seconds(plan, self.backend)

    def why(self, task: Task, *, detect_source_change: bool = True, code: CodeMode = "deep") -> Explanation:
        from taskproc.engine.explain import explain

        return explain(self, task, code_mode(detect_source_change, code))

    def get_record(self, task: Task) -> Record | None:
        return self.backend.look_up([task._task.key]).get(task._task.key)

    def decode_arguments(self, task: Task) -> dict[str, Any]:
        from taskproc.engine.stored_tasks import decoded_arguments

        return decoded_arguments(self, task._task.args)

    def clear(self, task: Task) -> None:
        deadline = time.monotonic() + _CLEAR_SECONDS
        while (holder := self.backend.holder(task._task.key)) is not None:
            if time.monotonic() > deadline:  # its data directory would be emptied under its hands
                raise CacheError(
                    f"{task!r} is not cleared, as it is being computed just now ({holder.words}); wait for"
                    " that run or stop it, and clear it then"
                )
            time.sleep(0.02)
        self.backend.discard([task._task.key])
        self.backend.note(Event("cleared", task._task.key, time.time(), who_we_are()))

    def clear_all(self, task_name: str) -> None:
        self.backend.discard_all(task_name)
        self.backend.note(Event("cleared", TaskKey(task_name, ""), time.time(), who_we_are()))

    # --- what users ask of what is stored ---

    def tasks(self, cls: type[T]) -> Iterator[T]:
        """The tasks of a class whose results are stored here; runs nothing.

        Each is the task that its stored arguments make, so that its attributes, arguments
        (`get_arguments()`), result (`get_result()`) and record (`get_record()`) can be asked
        for. One that can't be made any more (its arguments are known by digests only, or its
        `__init__` raises) has no attributes but all of the rest.

        Raises:
            CacheError: the cache backend can't list what it holds.
        """
        from taskproc.engine.stored_tasks import stored_tasks

        return stored_tasks(self, cls)

    def verify(self, *, repair: bool = True) -> list[Finding]:
        """Check every stored result against its record, as `taskproc cache verify` does.

        Nothing is unpickled. With `repair` what is damaged is set aside, so that the next run
        computes it anew, and what killed runs left is cleared away; without it nothing is written.
        What a run holds is left alone. Returns what was found: all is well if each finding is
        `repaired` or `harmless`.

        Raises:
            CacheError: nothing was stored here yet, or the backend can't check what it holds.
        """
        with self.in_use():
            return list(self.backend.verify(repair))

    def put(self, task: Task, value: Any) -> None:
        """Store a value as the result of a task, as if it had been computed now.

        Raises:
            MissingResultError: an upstream of the task has no stored result that stands, so
                nobody could tell what the value rests on.
            CacheError: the task is being computed just now.
            UnpicklableResultError: the value can't be pickled.
        """
        from taskproc.engine.stored_tasks import put

        put(self, task, value)

    def data_directory(self, task: Task, create: bool) -> Path:
        return self.backend.data_directory(task._task.key, create)

    def log_path(self, task: Task, stream: Literal["stdout", "stderr"]) -> Path:
        paths = self.backend.log_paths(task._task.key)
        return paths.stdout if stream == "stdout" else paths.stderr

    # --- what a run asks of the Cache ---

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


def _checked(where: Any) -> str | os.PathLike[str]:
    if not isinstance(where, str | os.PathLike) or not os.fspath(where):
        raise CacheError(f"Cache({where!r}): give a path, a URL or a cache backend")
    return where
