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
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

from taskproc.core.arguments import Encoder, canonical
from taskproc.core.binding import NEW, READY, TaskState
from taskproc.core.freshness import Circumstances, code_mode, make_plan, named_code
from taskproc.core.graph import Input, Node, TaskGraph, attributes_now, build_graph, node_of
from taskproc.core.records import (
    ALSO_READ,
    JSON,
    CodeMode,
    Event,
    Explanation,
    Plan,
    Record,
    RunStats,
    TaskKey,
    content_digest,
)
from taskproc.core.task import Task, enter_scope, leave_scope, open_scope
from taskproc.engine.codes import Codes
from taskproc.engine.input_files import InputFiles, place_of
from taskproc.engine.jobs import FindsTasks, InputOrder
from taskproc.engine.pickling import dumps, load_stored
from taskproc.engine.task_classes import task_classes
from taskproc.engine.versions import python_minor, who_we_are
from taskproc.errors import CacheError, MissingResultError, SlowKeyWarning, TaskDefinitionError
from taskproc.interfaces import CacheBackend
from taskproc.registry import Registry

_DEEP = 40
_DEEPEST = 100_000  # about 2 GB of stacks: an endless one must not take all memory
_WAIT_SECONDS = 0.001
_LONGEST_SHOWN = 120
SLOW_KEY_SECONDS = 0.1
"""A key that takes longer to make is warned of."""

T = TypeVar("T", bound=Task)


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
        self._inputs = InputFiles()
        self._slow_arguments: set[str] = set()
        self._newest_class = Task._task_serial
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

    def encode_arguments(self, task_name: str, bound: Mapping[str, Any]) -> dict[str, JSON]:
        if self._newest_class != Task._task_serial:
            self._forget_replaced()
        encode, clock = self.encoder.encode, time.perf_counter
        encoded: dict[str, JSON] = {}
        begun = clock()
        for name, value in bound.items():
            encoded[name] = encode(value, f"{task_name}({name}=...)")
        if clock() - begun > SLOW_KEY_SECONDS:
            self._warn_of_slow_arguments(task_name, bound)
        return encoded

    def _forget_replaced(self) -> None:
        """Forget the tasks made so far if one of their classes was made anew since.

        Else tasks of other classes, which have it as an upstream, would go on with the old one.
        """
        self._newest_class = Task._task_serial
        newest = task_classes()
        known = list(self.instances.items())
        if any(newest.get(cls._task_name, cls) is not cls for cls in {type(task) for _, task in known}):
            for place, task in known:
                if task._task.phase == READY:
                    self.instances.pop(place, None)

    def _warn_of_slow_arguments(self, task_name: str, bound: Mapping[str, Any]) -> None:
        """Warn, once each, of the arguments that are slow a second time: no pause of the machine's."""
        for name, value in bound.items():
            begun = time.perf_counter()
            self.encoder.encode(value)
            seconds = time.perf_counter() - begun
            where = f"{task_name}({name}=...)"
            if seconds > SLOW_KEY_SECONDS and where not in self._slow_arguments:
                self._slow_arguments.add(where)
                warnings.warn(
                    f"{where}: it takes {seconds:.1f} s to make a key of this argument (an object of class "
                    f"{type(value).__qualname__}), each time a task with it is constructed; pass it as the "
                    "output of a task, or as an InputFile, or give its class a short `__task_args__`",
                    SlowKeyWarning,
                    stacklevel=4,
                )

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
        if scope is not None and isinstance(scope.binding, FindsTasks):
            # In a job that reaches this task some other way than by its attributes.
            if scope.binding.location == self.location:
                scope.binding.note_reading(key)
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

    def why(
        self, task: Task, *, detect_source_change: bool = True, code: CodeMode = "deep"
    ) -> Explanation:
        from taskproc.engine.explain import explain

        return explain(self, task, code_mode(detect_source_change, code))

    def get_record(self, task: Task) -> Record | None:
        return self.backend.look_up([task._task.key]).get(task._task.key)

    def decode_arguments(self, task: Task) -> dict[str, Any]:
        from taskproc.engine.stored_tasks import decoded_arguments

        return decoded_arguments(self, task._task.args)

    def clear(self, task: Task) -> None:
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

    def survey(self, task: Task, code: CodeMode, force: bool) -> Survey:
        """Look at all that a task needs, and at what is stored of it; writes nothing."""
        self.backend.open()
        with _no_garbage_collection():
            graph = build_graph(task, self.encoder, _pickle_digest, self._inputs.version_of)
            now = self.circumstances(code, force)
            records = self.backend.look_up(list(graph.nodes))
            # What stored results read beside their upstreams stands last in their records.
            also = {up.key for r in records.values() for up in r.upstreams[-1:] if up.path == ALSO_READ}
            if also:
                also = {up.key for r in records.values() for up in r.upstreams if up.path == ALSO_READ}
                records.update(self.backend.look_up([key for key in also if key not in records]))
            return Survey(graph, records, now, make_plan(graph, records, now))

    def names_of(self, task: Task) -> tuple[str, ...]:
        """The functions and classes whose code counts for a task beside that of its class."""
        node = node_of(task, self.encoder, _pickle_digest, self._inputs.version_of)
        return named_code(node, self.backend.look_up([upstream.key for upstream in node.upstreams]))

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

    def facts_of_job(self, node: Node, records: Mapping[TaskKey, Record]) -> dict[str, Any]:
        """What the order of a job says of its task beside what the graph knows."""
        task = node.task
        names = named_code(node, records)
        attributes, left = attributes_now(node, self.encoder, _pickle_digest)
        notes: dict[str, JSON] = {}
        if packages := self.codes.packages(type(task)):
            notes["packages"] = packages
        if names:
            notes["names"] = list(names)
        return {
            "code": self.codes.of(type(task), names),
            "attributes_digest": attributes,
            "inputs": tuple([self._input_order(file) for file in node.inputs]),
            "left": {name: _brief(value) for name, value in left.items()} if left else None,
            "notes": notes or None,
        }

    def _input_order(self, file: Input) -> InputOrder:
        reading = self._inputs.last(file.file)
        # Another thread's look may have read it anew meanwhile.
        state = reading.state if reading is not None and reading.now == file.now else None
        return InputOrder(file.path, file.file, place_of(file.file), file.now.version, state)

    def circumstances(self, code: CodeMode, force: bool) -> Circumstances:
        """What holds for a look at a graph of this Cache, now."""
        self.codes.refresh()
        return Circumstances(
            location=self.location,
            python=python_minor(),
            code_of=self.codes.of,
            code_scheme=self.codes.scheme,
            code=code,
            force=force,
        )


def _pickle_digest(value: Any) -> str:
    return content_digest(dumps(value).payload)


def _brief(value: JSON) -> JSON:
    """An attribute's JSON for people, or a digest of it if it is long."""
    text = canonical(value)
    return value if len(text) <= _LONGEST_SHOWN else {"__digest__": content_digest(text)}


def _checked(where: Any) -> str | os.PathLike[str]:
    if not isinstance(where, str | os.PathLike) or not os.fspath(where):
        raise CacheError(f"Cache({where!r}): give a path, a URL or a cache backend")
    return where
