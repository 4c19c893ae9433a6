"""What a Task is: its identity, its upstreams, its names.

A task talks to the world through its binding, the Cache it was made in. This module
knows nothing of files, processes or of how a result is computed and stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeVar, cast

from taskproc.core.arguments import Encodable, Encoder, fresh
from taskproc.core.arguments.canonical import canonical
from taskproc.core.arguments.names import find_named, named_code
from taskproc.core.binding import BUILDING, NEW, READY, Binding, TaskState
from taskproc.core.definition import TaskClass, check_definition
from taskproc.core.future import Indexable, futures_in
from taskproc.core.records import (
    JSON,
    CodeMode,
    Explanation,
    Plan,
    Record,
    RunStats,
    TaskKey,
    content_digest,
)
from taskproc.errors import CycleError, NoCacheError, TaskDefinitionError
from taskproc.modules import canonical_name

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from taskproc.cli.defaults import DefaultArguments

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


_NAMELESS = {"__task__": ""}


class Scope(NamedTuple):
    """The open binding, and the chain of tasks that are just being constructed in it."""

    binding: Binding
    building: Task | None = None
    depth: int = 0
    outer: Scope | None = None


# The one piece of module-level state: which Cache is open here, per thread and context.
_scope: ContextVar[Scope | None] = ContextVar("taskproc_scope", default=None)


def open_scope() -> Scope | None:
    """The innermost open scope of this context."""
    return _scope.get()


def enter_scope(binding: Binding) -> None:
    """Open a binding in this context, inside the one that is open."""
    _scope.set(Scope(binding, outer=_scope.get()))


def leave_scope() -> None:
    """Close the innermost open binding of this context."""
    scope = _scope.get()
    _scope.set(scope.outer if scope is not None else None)


class Runs(Protocol[T_co]):
    """Whatever has a `run_task`; how the checkers learn a task's result type."""

    def run_task(self) -> T_co: ...


class _NameOfTask:
    """`task_name`, on the class as well as on a task (no classmethod-property: gone in 3.13)."""

    def __get__(self, instance: Task | None, owner: type[Task]) -> str:
        return owner._task_name

    def __set__(self, instance: Task, value: object) -> None:
        raise AttributeError("task_name is a built-in name of Task; call the attribute something else")


class Task(Indexable, Encodable):
    """A computation whose result is cached; its attributes that are Futures are its upstreams.

    Subclass it, set the upstreams in `__init__`, compute in `run_task`. Construct it inside a
    `Cache`; there, equal arguments give the same object. `definition.BUILT_IN_NAMES`
    lists what a subclass may not override.

    Class attributes to set:
        task_label: a label, or several, for rate limits, prefixes and launchers.
        task_compress_level: gzip level of the stored result, 0 to 9 (default 9).
        task_timeout: how long a job may run until it is ended and fails: seconds, or a text such as
            "90s", "10m", "2h" or "1d"; None (default): no limit.
        task_code: how much code counts: "deep" (all that the class reaches), "class" (its own
            body and its bases'), "off" (none), or None (default): what the run says.
        task_version: any value that an argument may have; another one makes the task stale.
        task_depends_on: what else the result depends on, in any mode: functions, classes and
            modules (their code), paths (a file's content), names of installed distributions
            (their version).
    """

    task_label: ClassVar[str | Sequence[str]] = ()
    task_compress_level: ClassVar[int] = 9
    task_timeout: ClassVar[float | str | None] = None
    task_code: ClassVar[CodeMode | None] = None
    task_version: ClassVar[Any] = None
    task_depends_on: ClassVar[Sequence[Any]] = ()
    task_name = _NameOfTask()
    """What the task class is called: `module.Qualname`, the module by its canonical name."""

    _task: TaskState
    _task_name: ClassVar[str] = "taskproc.Task"
    _task_class: ClassVar[TaskClass | None] = None
    _task_serial: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_definition(cls, Task)
        # Kept as a plain string, so that a class that travels by value keeps its name.
        cls._task_name = f"{canonical_name(cls.__module__)}.{cls.__qualname__}"
        cls._task_class = None
        # Tells which of two classes of one name was made later (a notebook's cell run again).
        cls._task_serial = Task._task_serial = Task._task_serial + 1

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        scope = _scope.get()
        if scope is None:
            raise NoCacheError(
                f"{cls._task_name} is constructed with no Cache open; construct tasks inside "
                "`with Cache('path/to/cache'):` (in another thread, call cache.activate() first)"
            )
        binding = scope.binding
        bound = task_class(cls).binder.bind(args, kwargs)
        encoded = binding.encode_arguments(cls._task_name, bound)
        text = canonical(encoded)
        key = content_digest(text)
        # Of tasks, functions and classes among the arguments the key tells the names; what stands
        # under a name may have been replaced since (another class of that name, a module reloaded).
        named = named_code(text)
        meant: tuple[object, ...] = _classes_in(bound) if b'"__task__"' in text else ()
        meant += tuple(map(find_named, named))
        while True:
            task = binding.instances.get((cls, key))
            if task is not None and task._task.phase == READY and task._task.meant != meant:
                binding.instances.pop((cls, key), None)
                task = None
            if task is None:
                task = cast("Task", super().__new__(cls))
                state = TaskState(binding, TaskKey(cls._task_name, key), encoded, NEW)
                state.bound = [bound]
                state.named_code, state.meant = named, meant
                object.__setattr__(task, "_task", state)
                task = binding.instances.setdefault((cls, key), task)
            if task._task.phase != BUILDING:
                return cast("Self", task)
            _refuse_cycle(task, scope)
            binding.wait_until_built(task._task)

    def __init__(self) -> None:
        pass

    if not TYPE_CHECKING:
        # Hidden from the checkers, to whom it would say that a task has every attribute.

        def __getattr__(self, name: str) -> Any:
            state = self.__dict__.get("_task") if not name.startswith("__") else None
            if state is not None and state.attributes is not None:
                load, state.attributes = state.attributes, None
                for key, value in load().items():
                    object.__setattr__(self, key, value)
                return getattr(self, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def run_task(self) -> Any:
        """Compute the result, from the attributes and the upstreams' `get_result()`. Override it."""
        raise TaskDefinitionError(f"{type(self)._task_name} has no run_task method; define it")

    def run_graph(
        self: Runs[T],
        *,
        executor: str | Executor | Any | None = None,
        max_workers: int | None = None,
        rate_limits: Mapping[str, int] | None = None,
        prefixes: Mapping[str, str | Sequence[str]] | None = None,
        launchers: Mapping[str, Any] | None = None,
        reporters: Sequence[Any] = (),
        detect_source_change: bool = True,
        code: CodeMode = "deep",
        early_cutoff: bool = False,
        on_error: Literal["stop", "continue"] = "stop",
        show_progress: bool = False,
        force: bool = False,
        timeouts: Mapping[str, float | str | None] | None = None,
    ) -> tuple[T, RunStats]:
        """Run this task after whatever upstream is stale, and store the results.

        Args:
            executor: "process" (default), "thread", "serial" or a plugin's, with options
                as "name:opt=val"; an ExecutorProvider; or a running
                `concurrent.futures.Executor`, which is not shut down.
            max_workers: how many jobs at once on an executor of ours (default: the cores).
            rate_limits: for each label, how many of its tasks run at once.
            prefixes: for each label, a command in front of the jobs: text or a list.
            launchers: for each label, a Launcher or "name:opt=val,...".
            reporters: Reporters, or "name:opt=val,...", that hear of this run.
            detect_source_change: whether a task whose code changed is stale; False is code="off".
            code: how much code counts for the classes whose `task_code` does not say: "deep" (all
                that the class reaches), "class" (its own body and its bases'), "off" (none, for
                any class). What `task_version` and `task_depends_on` state counts always.
            early_cutoff: whether an upstream that was run again and came to the same content
                leaves the stored results below it standing.
            on_error: "stop" starts nothing after a failure; "continue" runs what can be run.
            show_progress: show progress on stderr.
            force: run this task itself even if its result is stored.
            timeouts: for each label, how long a job of its tasks may run until it is ended and fails:
                as `task_timeout`, which these go before; None: no limit. A task's own name goes
                before its labels, then their order decides. In threads nothing can end a task.

        Returns:
            The result, and the statistics of the run (a RunStats).

        Raises:
            FailedTaskError: a task failed (with on_error="continue": an ExceptionGroup of them).
            UsageError: the graph or an option is wrong; nothing was run.
            KeyboardInterrupt, Terminated: SIGINT, or SIGTERM or SIGHUP, came; see docs/howto-stop.md.
        """
        task = cast("Task", self)
        return task._task.binding.run_graph(
            task,
            executor=executor,
            max_workers=max_workers,
            rate_limits=rate_limits,
            prefixes=prefixes,
            launchers=launchers,
            reporters=reporters,
            detect_source_change=detect_source_change,
            code=code,
            early_cutoff=early_cutoff,
            on_error=on_error,
            show_progress=show_progress,
            force=force,
            timeouts=timeouts,
        )

    def plan(
        self, *, detect_source_change: bool = True, code: CodeMode = "deep", force: bool = False
    ) -> Plan:
        """What `run_graph` would do with these options, and why; runs and writes nothing."""
        return self._task.binding.plan(
            self, detect_source_change=detect_source_change, code=code, force=force
        )

    def why(self, *, detect_source_change: bool = True, code: CodeMode = "deep") -> Explanation:
        """Why `run_graph` would run this task, and what changed; its text is for people."""
        return self._task.binding.why(self, detect_source_change=detect_source_change, code=code)

    def is_cached(self, *, detect_source_change: bool = True, code: CodeMode = "deep") -> bool:
        """Whether `run_graph` would answer from the cache, without running this task."""
        plan = self.plan(detect_source_change=detect_source_change, code=code)
        return self._task.key not in plan.run and self._task.key not in plan.blocked

    def get_record(self) -> Record | None:
        """What is known of the stored result, whether it stands or not; None if there is none."""
        return self._task.binding.get_record(self)

    def get_arguments(self) -> dict[str, Any]:
        """The arguments by parameter, defaults included, with the types they were given in.

        Raises:
            UndecodableError: one of them is known by its digest only (an array, a lambda, ...).
        """
        return self._task.binding.decode_arguments(self)

    def get_result(self: Runs[T]) -> T:
        """The stored result, loaded anew at each call.

        Raises:
            MissingResultError: there is none.
        """
        task = cast("Task", self)
        return cast("T", task._task.binding.load_result(task))

    def get_upstreams(self) -> Iterable[Task]:
        """The tasks whose results `get_result` reads: this one."""
        return (self,)

    def to_json(self) -> dict[str, Any]:
        """A reference to this task: its name and the digest of its arguments."""
        return {"__task__": self._task.key.name, "__key__": self._task.key.digest}

    def encode_with(self, encoder: Encoder) -> JSON:
        return _NAMELESS if self._task.key in encoder.known_elsewhere else self.to_json()

    def clear_task(self) -> None:
        """Forget the stored result; a data directory stays at its path, empty.

        Raises:
            CacheError: another run is computing the task just now.
        """
        self._task.binding.clear(self)

    @classmethod
    def clear_all_tasks(cls) -> None:
        """Forget every stored result of this class in the open Cache.

        Raises:
            NoCacheError: no Cache is open.
        """
        scope = _scope.get()
        if scope is None:
            raise NoCacheError(
                f"{cls._task_name}.clear_all_tasks() with no Cache open; call it inside `with Cache(...):`"
            )
        scope.binding.clear_all(cls._task_name)

    @classmethod
    def cli(cls, args: Sequence[str] | None = None, defaults: DefaultArguments | None = None) -> None:
        """Run this class as a command: `python -m your.module -o CACHE`.

        Args:
            args: the words of the command line; None: those of this process.
            defaults: what the command line leaves open; None: what was populated.

        Raises:
            SystemExit: the run did not succeed, or the words were wrong.
        """
        # The one place where the core names the command, lazily: see the import contracts.
        from taskproc.cli.run import run_task_class

        run_task_class(cls, args, defaults)

    @property
    def task_id(self) -> int:
        """An integer, unique among the tasks of this class."""
        return int(self._task.key.digest, 16)

    @property
    def task_args(self) -> dict[str, Any]:
        """The arguments as JSON; types that JSON lacks are marked (`{"__tuple__": [...]}`)."""
        return dict(self._task.args)

    @property
    def task_directory(self) -> Path:
        """The task's data directory, made when first asked for outside `__init__`."""
        return self._task.binding.data_directory(self, self._task.phase == READY)

    @property
    def task_stdout(self) -> Path:
        """Where the task's standard output is kept; the file exists if there was any."""
        return self._task.binding.log_path(self, "stdout")

    @property
    def task_stderr(self) -> Path:
        """Where the task's standard error is kept; the file exists if there was any."""
        return self._task.binding.log_path(self, "stderr")

    def __reduce__(self) -> tuple[Any, ...]:
        return (restore_task, (type(self), self._task.key.digest, dict(self._task.args)))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def __copy__(self: T) -> T:
        return self

    def __deepcopy__(self: T, memo: Any) -> T:
        return self

    def __repr__(self) -> str:
        args = ", ".join(f"{name}={_brief(value)}" for name, value in self._task.args.items())
        return f"{type(self).__qualname__}({args})"


def restore_task(cls: type[Task], key: str, args: Mapping[str, JSON]) -> Task:
    """What a pickled task becomes: the task of this key in the open scope."""
    scope = _scope.get()
    if scope is not None:
        known = scope.binding.instances.get((cls, key))
        if known is not None:
            return known
        return scope.binding.restore(cls, key, args)
    raise NoCacheError(
        f"a reference to {cls._task_name} was unpickled with no Cache open; "
        "unpickle it inside `with Cache(...):`"
    )


def make_reference(cls: type[Task], key: str, args: Mapping[str, JSON], binding: Binding) -> Task:
    """An instance made without `__init__`: it knows its key and its binding, nothing else."""
    task: Task = object.__new__(cls)
    state = TaskState(binding, TaskKey(cls._task_name, key), args, READY)
    object.__setattr__(task, "_task", state)
    return task


def _classes_in(bound: Mapping[str, Any]) -> tuple[type[Task], ...]:
    """The classes of the tasks that arguments stand for, in order."""
    futures = [future for name, value in bound.items() for _, future in futures_in(value, name)]
    return tuple([type(task) for future in futures for task in future.get_upstreams()])


def task_class(cls: type[Task]) -> TaskClass:
    """The facts of a class, worked out when it is first used (dataclass adds __init__ late)."""
    known = cls.__dict__.get("_task_class")
    if known is None:
        if cls.run_task is Task.run_task:
            raise TaskDefinitionError(f"{cls._task_name} has no run_task method; define `def run_task(self)`")
        if not hasattr(cls.__init__, "_taskproc_wrapped"):
            type.__setattr__(cls, "__init__", _run_once(cls.__init__))
        known = TaskClass(cls)
        cls._task_class = known
    return cast("TaskClass", known)


def plain_attributes(task: Task) -> dict[str, Any]:
    """The attributes a user gave the task: all but ours and what a cached_property keeps."""
    facts = task_class(type(task))
    values = {name: value for name, value in task.__dict__.items() if name != "_task"}
    for name in facts.slots:
        if hasattr(task, name):
            values[name] = getattr(task, name)
    for name in facts.cached_properties:
        values.pop(name, None)
    return values


def _run_once(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def __init__(self: Task, *args: Any, **kwargs: Any) -> None:
        _initialise(self, init, args, kwargs)

    __init__._taskproc_wrapped = True  # type: ignore[attr-defined]
    return __init__


def _initialise(task: Task, init: Callable[..., None], args: Any, kwargs: Any) -> None:
    """Run the first `__init__` of a task on fresh arguments, and no other."""
    state = task._task
    if state.phase == READY:
        return
    scope = _scope.get()
    if scope is None:  # for the type checkers: __new__ has seen one
        raise NoCacheError(f"{state.key.name} is constructed with no Cache open")
    if state.phase == BUILDING and _is_building(task, scope):  # super().__init__(...) of a wrapped class
        init(task, *args, **kwargs)
        return
    taken = _take_arguments(task, scope.binding)
    if taken is None:
        return
    state.phase = BUILDING
    token = _scope.set(Scope(scope.binding, task, scope.depth + 1, scope))
    try:
        bound = {name: fresh(value) for name, value in taken.items()}
        binder = task_class(type(task)).binder
        scope.binding.initialise(scope.depth, lambda: binder.call(init, task, bound))
    except BaseException:
        scope.binding.instances.pop((type(task), state.key.digest), None)
        state.bound.append(taken)
        state.phase = NEW
        raise
    finally:
        _scope.reset(token)
    state.phase = READY


def _take_arguments(task: Task, binding: Binding) -> dict[str, Any] | None:
    """The arguments to run `__init__` on; None if another thread took them and is through."""
    state = task._task
    while state.phase != READY:
        try:
            return state.bound.pop()
        except IndexError:
            binding.wait_until_built(state)
    return None


def _is_building(task: Task, scope: Scope | None) -> bool:
    """Whether `task` is being constructed in this very chain, and not by another thread."""
    while scope is not None:
        if scope.building is task:
            return True
        scope = scope.outer
    return False


def _refuse_cycle(task: Task, scope: Scope) -> None:
    """Raise if `task` is being constructed further out in this very chain."""
    chain: list[str] = [repr(task)]
    inner: Scope | None = scope
    while inner is not None and inner.building is not None:
        chain.append(repr(inner.building))
        if inner.building is task:
            raise CycleError("tasks wait for each other in a circle: " + " -> ".join(reversed(chain)))
        inner = inner.outer


def _brief(value: JSON) -> str:
    text = repr(value) if not (isinstance(value, dict) and "__task__" in value) else f"<{value['__task__']}>"
    return text if len(text) <= 60 else text[:57] + "..."
