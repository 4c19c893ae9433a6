"""Ask what is stored without running anything, and put in what was computed elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from taskproc.core.arguments import decode
from taskproc.core.arguments.canonical import canonical
from taskproc.core.freshness import upstream_records
from taskproc.core.records import JSON, Record, TaskKey, content_digest
from taskproc.core.task import Task, enter_scope, leave_scope, make_reference
from taskproc.engine.pickling import Pickled, dumps, name_unpicklable
from taskproc.engine.task_classes import task_classes
from taskproc.engine.versions import content_version, python_minor, who_we_are
from taskproc.errors import CacheError, MissingResultError, TaskprocError, UnpicklableResultError

if TYPE_CHECKING:
    from taskproc.engine.session import Cache

T = TypeVar("T", bound=Task)
_LOOKED_THROUGH = 1000


def stored_tasks(cache: Cache, cls: type[T]) -> Iterator[T]:
    """The tasks of a class whose results are stored; see `Cache.tasks`."""
    for entry in cache.backend.stored(cls._task_name):
        if entry.record is not None:
            yield _task_of(cache, cls, entry.record)


def _task_of(cache: Cache, cls: type[T], record: Record) -> T:
    """The task that the stored arguments make, or a reference to it."""
    enter_scope(cache)
    try:
        args = decoded_arguments(cache, record.args)
        task = _constructed(cls, args)
        if task._task.key == record.key:
            return task
    except Exception:  # noqa: BLE001 - whatever an `__init__` raises on arguments of another time
        pass
    finally:
        leave_scope()
    reference: Any = make_reference(cls, record.key.digest, record.args, cache)
    return reference


def _constructed(cls: type[T], args: Mapping[str, Any]) -> T:
    from taskproc.core.task import task_class

    signature = task_class(cls).binder.signature
    bound = signature.bind_partial()
    bound.arguments.update(args)
    return cls(*bound.args, **bound.kwargs)


def decoded_arguments(cache: Cache, args: Mapping[str, JSON]) -> dict[str, Any]:
    """The values of stored arguments; tasks among them are those that their own records make.

    Raises:
        UndecodableError: an argument is known by its digest only.
    """

    def of_task(name: str, digest: str) -> Task:
        cls = task_classes().get(name)
        if cls is None:
            raise MissingResultError(f"the class of the task {name} is not loaded")
        known = cache.instances.get((cls, digest))
        if known is not None:
            return known
        key = TaskKey(name, digest)
        record = cache.backend.look_up([key]).get(key)
        if record is None:
            raise MissingResultError(f"nothing is stored of {key}, so its arguments are not known")
        return _task_of(cache, cls, record)

    return {name: decode(value, of_task) for name, value in args.items()}


def put(cache: Cache, task: Task, value: Any) -> None:
    """Store a value as a task's result; see `Cache.put`."""
    key = task._task.key
    survey = cache.survey(task, "deep", force=False)
    node = survey.graph.nodes[key]
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
    backend = cache.backend
    with cache.in_use():
        if key not in backend.lease([key]):
            raise CacheError(f"{task!r} is being computed by another run just now; put its result afterwards")
        try:
            pickled = _pickled(task, value, backend.location)
            facts = cache.facts_of_job(node, survey.records)
            data = backend.list_data(key)
            digest = content_digest(pickled.payload)
            record = Record(
                key=key,
                args=task._task.args,
                code=facts["code"],
                code_scheme=survey.now.code_scheme,
                attributes=node.attributes,
                upstreams=upstream_records(node, survey.records),
                digest=digest,
                version=content_version(digest, data),
                data=data,
                root=backend.location if pickled.names_root else None,
                python=python_minor() if pickled.by_value else None,
                provenance={
                    "put": who_we_are(),
                    "started": time.time(),
                    **(facts["notes"] or {}),
                    **({"holds": sorted(pickled.holds)} if pickled.holds else {}),
                },
                left=facts["left"] or {},
            )
            backend.save(record, pickled.payload, type(task).task_compress_level, durable=True)
            backend.index()
        finally:
            backend.release([key])


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
            count = sum(
                canonical(args.get(name)) != canonical(entry.record.args.get(name)) for name in names
            )
            if count and (best is None or count < best[0]):
                best = (count, entry.record)
    except TaskprocError:
        return None
    return best[1] if best is not None else None
