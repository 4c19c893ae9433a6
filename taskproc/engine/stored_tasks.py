"""Ask what is stored without running anything, and put in what was computed elsewhere."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from taskproc.core.arguments import decode
from taskproc.core.arguments.canonical import canonical
from taskproc.core.freshness import upstream_records
from taskproc.core.records import JSON, Record, TaskKey, content_digest
from taskproc.core.task import Task, enter_scope, leave_scope, make_reference, task_class
from taskproc.engine.pickling import Pickled, dumps, name_unpicklable
from taskproc.engine.task_classes import task_classes
from taskproc.engine.versions import content_version, python_minor, who_we_are
from taskproc.errors import (
    ArgumentError,
    CacheError,
    ForeignCacheError,
    MissingResultError,
    TaskprocError,
    UndecodableError,
    UnpicklableResultError,
)

if TYPE_CHECKING:
    from taskproc.engine.session import Cache
    from taskproc.engine.surveying import Survey

T = TypeVar("T", bound=Task)
_LOOKED_THROUGH = 1000


def stored_tasks(cache: Cache, cls: type[T]) -> Iterator[T]:
    """The tasks of a class whose results are stored; see `Cache.tasks`."""
    return (task for task, _ in stored_with_records(cache, cls))


def stored_with_records(cache: Cache, cls: type[T]) -> Iterator[tuple[T, Record]]:
    """The same, each with its record."""
    for entry in cache.backend.stored(cls._task_name):
        if entry.record is not None:
            yield task_of(cache, cls, entry.record.key.digest, entry.record.args), entry.record


def is_reference(task: Task) -> bool:
    """Whether a task could not be made, so that it has no attributes of its own."""
    state = task._task
    return state.binding.instances.get((type(task), state.key.digest)) is not task


def task_of(cache: Cache, cls: type[T], digest: str, args: Mapping[str, JSON]) -> T:
    """The task that stored arguments make, or a reference to it if they make it no more."""
    known = cache.instances.get((cls, digest))
    if known is not None:
        return cast("T", known)
    enter_scope(cache)
    try:
        _make_arguments(cache, args)
        return _made(cache, cls, digest, args)
    except Exception:  # noqa: BLE001 - whatever an `__init__` raises on arguments of another time
        # Not among the instances of the Cache: who constructs the task must get a whole one.
        reference: Any = make_reference(cls, digest, args, cache)
        return cast("T", reference)
    finally:
        leave_scope()


def _made(cache: Cache, cls: type[T], digest: str, args: Mapping[str, JSON]) -> T:
    signature = task_class(cls).binder.signature
    bound = signature.bind_partial()
    bound.arguments.update({name: decode(value, _finder(cache)) for name, value in args.items()})
    task = cls(*bound.args, **bound.kwargs)
    if task._task.key.digest != digest:
        raise UndecodableError(f"its stored arguments make another task than {cls.task_name}/{digest}")
    return task


def _finder(cache: Cache) -> Callable[[str, str], Task]:
    """Finds a task by name and key digest: a whole one, or it raises."""

    def find(name: str, digest: str) -> Task:
        cls, args = _stored_arguments(cache, name, digest)
        return cache.instances.get((cls, digest)) or _made(cache, cls, digest, args)

    return find


def _stored_arguments(cache: Cache, name: str, digest: str) -> tuple[type[Task], Mapping[str, JSON]]:
    cls = task_classes().get(name)
    if cls is None:
        raise MissingResultError(f"the class of the task {name}/{digest} is not loaded; import its module")
    known = cache.instances.get((cls, digest))
    if known is not None:
        return cls, known._task.args
    key = TaskKey(name, digest)
    record = cache.backend.look_up([key]).get(key)
    if record is None:
        raise MissingResultError(f"nothing is stored of {key}, so its arguments are not known")
    return cls, record.args


def _make_arguments(cache: Cache, args: Mapping[str, JSON]) -> None:
    """Make the tasks among stored arguments, those below first, so that depth costs no recursion."""
    waiting: list[tuple[TaskKey, bool]] = [(key, False) for key in _tasks_named_in(args)]
    seen: set[TaskKey] = set()
    while waiting:
        key, is_next = waiting.pop()
        cls, stored = _stored_arguments(cache, *key)
        if (cls, key.digest) in cache.instances:
            continue
        if is_next:
            _made(cache, cls, key.digest, stored)
        elif key not in seen:
            seen.add(key)
            waiting.append((key, True))
            waiting.extend((upstream, False) for upstream in _tasks_named_in(stored))


def _tasks_named_in(args: JSON) -> Iterator[TaskKey]:
    waiting = [args]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if value.keys() == {"__task__", "__key__"}:
                yield TaskKey(value["__task__"], value["__key__"])
            else:
                waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def decoded_arguments(cache: Cache, args: Mapping[str, JSON]) -> dict[str, Any]:
    """The values of stored arguments; tasks among them are those that their own records make.

    Raises:
        UndecodableError: an argument is known by its digest only.
        MissingResultError: of a task among them neither the class nor the record is there.
    """

    def find(name: str, digest: str) -> Task:
        cls, stored = _stored_arguments(cache, name, digest)
        return task_of(cache, cls, digest, stored)

    return {name: decode(value, find) for name, value in args.items()}


def put(cache: Cache, task: Task, value: Any) -> None:
    """Store a value as a task's result; see `Cache.put`."""
    if not isinstance(task, Task):
        raise ArgumentError(f"put({task!r}, ...): give a task, and the value that is its result")
    if task._task.binding.location != cache.location:
        raise ForeignCacheError(
            f"{task!r} can't be put into {cache!r}: it is of the Cache at {task._task.binding.location}; "
            "construct it inside the one it is put into"
        )
    key, backend = task._task.key, cache.backend
    survey = cache.survey(task, "deep", force=False)
    _refuse_what_cant_be_put(task, survey)
    with cache.in_use():
        if key not in backend.lease([key]):
            raise CacheError(f"{task!r} is being computed by another run just now; put its result afterwards")
        try:
            _store(cache, task, _pickled(task, value, backend.location), survey)
            backend.keep_logs(key, None, None)  # what an older run printed is not of this result
            backend.index()
        except FileNotFoundError as error:  # it may be cleared at any time, lease or not
            raise CacheError(
                f"{task!r} was cleared while its result was put ({error}); put it again if it is to stand"
            ) from error
        finally:
            backend.release([key])


def _refuse_what_cant_be_put(task: Task, survey: Survey) -> None:
    node = survey.graph.nodes[task._task.key]
    for upstream in node.upstreams:
        if upstream.key in survey.plan.run or upstream.key in survey.plan.blocked:
            reason = survey.plan.run.get(upstream.key) or survey.plan.blocked[upstream.key]
            raise MissingResultError(
                f"{task!r} can't be put: its upstream {upstream.key} at {upstream.path} has no result that "
                f"stands ({reason.text}); run it, or put it first"
            )
    for file in node.inputs:
        if file.now.fault:
            raise MissingResultError(f"{task!r} can't be put: its input file {file.file!r} {file.now.fault}")


def _store(cache: Cache, task: Task, pickled: Pickled, survey: Survey) -> None:
    """Save a value as the result of a task, as a job would save its own."""
    key, backend = task._task.key, cache.backend
    node = survey.graph.nodes[key]
    facts = cache.facts_of_job(node, survey.records)
    notes: dict[str, JSON] = facts["notes"] or {}
    data = backend.list_data(key)
    digest = content_digest(pickled.payload)
    record = Record(
        key=key,
        args=task._task.args,
        code=facts["code"],
        code_scheme=survey.now.code_scheme,
        attributes=facts["attributes_digest"],
        upstreams=upstream_records(node, survey.records),
        digest=digest,
        version=content_version(digest, data),
        data=data,
        root=backend.location if pickled.names_root else None,
        python=python_minor() if pickled.by_value else None,
        provenance={
            "job": f"put-{secrets.token_hex(8)}",
            "put": who_we_are(),
            "started": time.time(),
            **notes,
            **({"holds": sorted(pickled.holds)} if pickled.holds else {}),
        },
        left=facts["left"] or {},
    )
    cache.codes.keep(type(task), tuple(notes.get("names", ())), facts["code"])
    backend.save(record, pickled.payload, type(task).task_compress_level, durable=True)


def _pickled(task: Task, value: Any, root: str) -> Pickled:
    try:
        return dumps(value, root=root)
    except Exception as error:
        raise UnpicklableResultError(
            f"the value for {task!r} can't be pickled: {name_unpicklable(value, 'the value')} "
            f"({type(error).__name__}: {error})"
        ) from error


def likely_old_names(cache: Cache, key: TaskKey) -> Iterator[str]:
    """Task names of which a result with the very arguments of `key` is stored, and no class is loaded.

    Only of the same module or of the same class name: many tasks have equal arguments.
    """
    module, _, name = key.name.rpartition(".")
    loaded = task_classes()
    try:
        names = cache.backend.task_names()
    except CacheError:
        return
    for other in names:
        other_module, _, other_name = other.rpartition(".")
        if other in loaded or (other_module != module and other_name != name):
            continue
        if cache.backend.look_up([TaskKey(other, key.digest)]):
            yield other


def nearest_record(cache: Cache, task_name: str, args: Mapping[str, JSON]) -> Record | None:
    """Of the stored results of a task name, one that differs in the fewest arguments."""
    best: tuple[int, Record] | None = None
    try:
        for entry in islice(cache.backend.stored(task_name), _LOOKED_THROUGH):
            if entry.record is None:
                continue
            names = {*args, *entry.record.args}
            count = sum(canonical(args.get(name)) != canonical(entry.record.args.get(name)) for name in names)
            if count and (best is None or count < best[0]):
                best = (count, entry.record)
    except TaskprocError:
        return None
    return best[1] if best is not None else None
