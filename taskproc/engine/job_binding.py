"""What a task is bound to inside a job: it may load its upstreams' results, and that is all.

Knows nothing of how the job is run or its result kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from taskproc.core.arguments import Encoder
from taskproc.core.graph import InputVersion
from taskproc.core.records import (
    ALSO_READ,
    CHANGED_MEANWHILE,
    JSON,
    Record,
    TaskKey,
    UpstreamRecord,
    input_record,
)
from taskproc.core.task import Task, make_reference
from taskproc.engine.input_files import Reading, read_input
from taskproc.engine.jobs import FindsTasks, JobOrder
from taskproc.engine.opened_run import OpenedRun
from taskproc.engine.pickling import load_stored, loads
from taskproc.errors import ArgumentError, DamagedEntryError, MissingResultError, NoCacheError


class JobBinding(FindsTasks):
    """What a task is bound to inside a job: it may load results, and that is all."""

    def __init__(self, run: OpenedRun, job: JobOrder) -> None:
        self.run = run
        self.instances: dict[tuple[type, str], Task] = {}
        self.encoder = Encoder()
        self.location = run.backend.location
        self.unsound: list[TaskKey] = []
        # What the task saw beside the results of its upstreams: the record has to say so.
        self.looked_at: set[TaskKey] = set()
        self.also_read: dict[TaskKey, str] = {}
        self._job = job
        self._upstreams = {up.key: up for up in job.upstreams}
        self._tasks: dict[TaskKey, Task] = {}

    def find(self, key: TaskKey) -> Task:
        """The task of this key: with its attributes if it is a direct upstream."""
        task = self._tasks.get(key)
        if task is None:
            cls = self.run.task_class(key.name)
            upstream = self._upstreams.get(key)
            task = make_reference(cls, key.digest, upstream.args if upstream is not None else {}, self)
            self._tasks[key] = task
            self.instances[cls, key.digest] = task
            if upstream is not None and upstream.attributes is not None:
                self._give_attributes(task, upstream.attributes)
        return task

    def rests_on(self) -> tuple[UpstreamRecord, ...]:
        """What the job's record says of its upstreams and input files, and of what else was read."""
        found = [
            UpstreamRecord(
                up.path,
                up.key,
                f"{up.version}+{up.seen}" if up.key in self.looked_at else up.version,
            )
            for up in self._job.upstreams
        ]
        for path, file, place, version, state in self._job.inputs:
            known = Reading(InputVersion(version), state)
            if read_input(place, known).now.version != version:
                # Nobody can tell which content the task read, so no content vouches for the result.
                version = CHANGED_MEANWHILE
            found.append(input_record(path, file, version))
        found += [UpstreamRecord(ALSO_READ, key, version) for key, version in self.also_read.items()]
        return tuple(found)

    def main_task(self) -> Task:
        """The task of the job itself, with all its attributes in place."""
        job = self._job
        cls = self.run.task_class(job.key.name)
        task = make_reference(cls, job.key.digest, job.args, self)
        self._tasks[job.key] = task
        self.instances[cls, job.key.digest] = task
        for name, value in loads(job.attributes).items():
            object.__setattr__(task, name, value)
        return task

    def _give_attributes(self, task: Task, blob: bytes) -> None:
        key = task._task.key

        def load() -> Mapping[str, Any]:
            self.looked_at.add(key)
            attributes: dict[str, Any] = loads(blob)
            return attributes

        if type(task).__getattr__ is Task.__getattr__:  # type: ignore[attr-defined]
            task._task.attributes = load
        else:  # a class that looks up attributes its own way gets them at once
            for name, value in load().items():
                object.__setattr__(task, name, value)

    def restore(self, cls: type[Task], digest: str, args: Mapping[str, JSON]) -> Task:
        return self.instances.setdefault((cls, digest), make_reference(cls, digest, args, self))

    def load_result(self, task: Task) -> Any:
        key = task._task.key
        upstream = self._upstreams.get(key)
        if upstream is not None and upstream.result is not None:
            return load_stored(upstream.result, key)
        if upstream is None:
            self.note_reading(key)
        try:
            payload = self.run.backend.load(key, upstream.digest if upstream is not None else None)
        except (DamagedEntryError, MissingResultError):
            self.unsound.append(key)
            raise
        return load_stored(payload, key)

    def note_reading(self, key: TaskKey) -> None:
        """Note that the task reads what another one stored, which it does not have as an upstream."""
        if key not in self.also_read and key != self._job.key:
            record = self.run.backend.look_up([key]).get(key)
            if record is not None:
                self.also_read[key] = record.version

    def data_directory(self, task: Task, create: bool) -> Path:
        if task._task.key not in self._upstreams:
            self.note_reading(task._task.key)
        return self.run.backend.data_directory(task._task.key, create)

    def log_path(self, task: Task, stream: Literal["stdout", "stderr"]) -> Path:
        paths = self.run.backend.log_paths(task._task.key)
        return paths.stdout if stream == "stdout" else paths.stderr

    @property
    def folder(self) -> str:
        return self.run.order.folder

    def get_record(self, task: Task) -> Record | None:
        return self.run.backend.look_up([task._task.key]).get(task._task.key)

    def encode_arguments(self, task_name: str, bound: Mapping[str, Any]) -> dict[str, JSON]:
        try:
            return {
                name: self.encoder.encode(value, f"{task_name}({name}=...)") for name, value in bound.items()
            }
        except ArgumentError as error:
            # A lambda, or what a plugin knows: here are neither the reader of code nor the plugins.
            raise self._constructed_here() from error

    def initialise(self, depth: int, call: Callable[[], None]) -> None:
        raise self._constructed_here()

    def _constructed_here(self) -> NoCacheError:
        return NoCacheError(
            f"a task is constructed inside the run_task of {self._job.key.name}; construct upstream "
            "tasks in __init__ (a pipeline of its own needs `with Cache(...)` around it)"
        )

    def wait_until_built(self, state: Any) -> None:
        raise NoCacheError("tasks can't be constructed inside run_task")

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NoCacheError(
            "run_graph, plan, why and clear can't be called on an upstream inside a run_task "
            f"({self._job.key.name})"
        )

    run_graph = plan = why = decode_arguments = clear = clear_all = _refuse
