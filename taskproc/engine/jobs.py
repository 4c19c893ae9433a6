"""What is sent to a worker and back, in small payloads and never the graph.

The runner makes payloads (`Payloads`), the worker reads them (`read_batch`) and packs its
outcomes. Knows nothing of how they travel or what a worker does with them.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskproc.core.graph import Node
from taskproc.core.records import (
    JSON,
    DataFile,
    Outcome,
    Record,
    TaskKey,
    UpstreamRecord,
    seen_digest,
)
from taskproc.core.task import Task, open_scope, plain_attributes
from taskproc.engine.code_checks import Check
from taskproc.engine.pickling import PLAIN, PROTOCOL, dumps, name_unpicklable
from taskproc.engine.time_limits import TimeLimit
from taskproc.errors import ArgumentError
from taskproc.interfaces import CacheBackend

_KEPT_ATTRIBUTES = 4096
SMALL_RESULT = 512
"""Bytes of a pickled result up to which it comes back with the outcome, for the jobs below it."""
_KEPT_RESULTS = 65536


class UpstreamOrder(NamedTuple):
    """What a job is told of one direct upstream: enough to load its result and its attributes.

    `result` is the pickled result itself where it is small and was computed in this run;
    `seen` is the digest of what its attributes show.
    """

    path: str
    key: TaskKey
    version: str
    digest: str
    args: Mapping[str, JSON]
    attributes: bytes | None
    result: bytes | None
    seen: str


class InputOrder(NamedTuple):
    """What a job is told of one input file: where it stands, as given and absolute, and its reading."""

    path: str
    file: str
    place: str
    version: str
    state: tuple[int, ...] | None


class JobOrder(NamedTuple):
    """One job: the task, the content its record will name, and a token that marks its record.

    `left` shows the attributes to people; `notes` join the record's provenance. `ticket` is the
    proof of the claim under which the job saves.
    """

    key: TaskKey
    args: Mapping[str, JSON]
    attributes: bytes
    upstreams: tuple[UpstreamOrder, ...]
    code: str
    attributes_digest: str
    token: str
    inputs: tuple[InputOrder, ...] = ()
    left: Mapping[str, JSON] | None = None
    notes: Mapping[str, JSON] | None = None
    ticket: str = ""


@dataclass(frozen=True)
class RunOrder:
    """What holds for all jobs of one run.

    Attributes:
        run: a random id of the run.
        backend: where results go.
        classes: pickles of the task classes, by task name.
        sys_path: the runner's import path.
        files: (module name, file) to load before anything is unpickled.
        folder: the runner's current folder.
        pid, host: the runner's; how a worker finds out its own isolation.
        captured: whether output is kept of jobs in the runner's process (False: the serial executor).
        code_scheme: number of the fingerprint scheme.
        budget: seconds after which a batch hands back what it did not start.
        checks: by task name, the code that a worker has to have (see `code_checks`); it holds
            for the same minor version of Python, `python`.
        limits: by task name, the time limits that workers keep themselves, as nobody else can.
    """

    run: str
    backend: CacheBackend
    classes: Mapping[str, bytes]
    sys_path: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    folder: str
    pid: int
    host: str
    captured: bool
    code_scheme: int
    budget: float
    checks: Mapping[str, Sequence[Check]]
    python: str
    limits: Mapping[str, TimeLimit]


class Batch(NamedTuple):
    """What is sent: the run's order, still pickled, and jobs to do one after the other."""

    order: bytes
    jobs: list[JobOrder]


class Answer(NamedTuple):
    """How a job ended, and its pickled result if that is small."""

    outcome: Outcome
    result: bytes | None = None


class Payloads:
    """Makes the payloads of one run."""

    def __init__(self, order: RunOrder, classes: Mapping[str, type[Task]]) -> None:
        self._classes = classes
        # What must be set up before anything of the user's is unpickled stands outside.
        before = (order.sys_path, order.files, order.pid, order.host)
        self._order = pickle.dumps((before, dumps(order).payload), PROTOCOL)
        self._kept: OrderedDict[TaskKey, bytes] = OrderedDict()
        self._results: OrderedDict[TaskKey, tuple[str, bytes]] = OrderedDict()
        self._seen_of: dict[TaskKey, tuple[Record, str]] = {}

    def remember(self, answer: Answer) -> None:
        """Keep a small result that came back, for the jobs below it; the latest many thousand."""
        if answer.result is not None and answer.outcome.record is not None:
            self._results[answer.outcome.key] = (answer.outcome.record.digest, answer.result)
            if len(self._results) > _KEPT_RESULTS:
                self._results.popitem(last=False)

    def batch(self, jobs: Sequence[JobOrder]) -> bytes:
        """The payload of jobs that are done one after the other."""
        return pickle.dumps((self._order, [_plain(job) for job in jobs]), PROTOCOL)

    def job(self, node: Node, records: Mapping[TaskKey, Record], nodes: Mapping[TaskKey, Node],
            **facts: Any) -> JobOrder:  # fmt: skip
        """The order for one job; its upstreams' records must be there.

        `facts` are the fields of the order that do not follow from these.

        Raises:
            ArgumentError: an attribute can't be pickled.
        """
        key = node.task._task.key
        upstreams = tuple(
            [
                UpstreamOrder(
                    path,
                    up,
                    records[up].version,
                    records[up].digest,
                    nodes[up].task._task.args,
                    self._attributes_or_none(nodes[up].task),
                    self._result(up, records[up].digest),
                    self._seen(up, records[up]),
                )
                for path, up in node.upstreams
            ]
        )
        return JobOrder(
            key,
            node.task._task.args,
            self._attributes(node.task),
            upstreams,
            **facts,
        )

    def _seen(self, key: TaskKey, record: Record) -> str:
        known = self._seen_of.get(key)
        if known is None or known[0] is not record:
            known = self._seen_of[key] = (record, seen_digest(record))
        return known[1]

    def _result(self, key: TaskKey, digest: str) -> bytes | None:
        kept = self._results.get(key)
        return kept[1] if kept is not None and kept[0] == digest else None

    def _attributes(self, task: Task) -> bytes:
        """The pickled attributes of a task; the latest few thousand are kept."""
        key = task._task.key
        known = self._kept.get(key)
        if known is None:
            values = plain_attributes(task)
            if all(type(value) in PLAIN for value in values.values()):
                known = pickle.dumps(values, PROTOCOL)
            else:
                known = self._pickled(values)
            self._kept[key] = known
            if len(self._kept) > _KEPT_ATTRIBUTES:
                self._kept.popitem(last=False)
        return known

    def _pickled(self, values: Mapping[str, Any]) -> bytes:
        try:
            return dumps(values, task_reducer=self._reduce_task).payload
        except Exception as error:
            culprit = name_unpicklable(values, "its attributes")
            raise ArgumentError(
                f"an attribute can't be pickled for the task's worker: {culprit} "
                f"({type(error).__name__}: {error}); make it in run_task instead"
            ) from error

    def _attributes_or_none(self, task: Task) -> bytes | None:
        try:
            return self._attributes(task)
        except Exception:  # noqa: BLE001 - its result is there; only its attributes can't be seen
            return None

    def _reduce_task(self, task: Task) -> Any:
        name = task._task.key.name
        if self._classes.get(name) is type(task):
            return (find_task, (name, task._task.key.digest))
        return task.__reduce__()


def find_task(name: str, digest: str) -> Task:
    """What a task inside a job's attributes becomes in the worker."""
    scope = open_scope()
    if scope is None or not isinstance(scope.binding, FindsTasks):
        raise RuntimeError(f"a job's reference to {name} was read outside of its job")
    return scope.binding.find(TaskKey(name, digest))


class FindsTasks:
    """A binding that knows the tasks of one job by their keys, and what the job reads."""

    location: str

    def find(self, key: TaskKey) -> Task:
        raise RuntimeError(f"no task {key} here")

    def note_reading(self, key: TaskKey) -> None:
        """Note that the task reads what another one stored, which it does not have as an upstream."""


def read_batch(payload: bytes) -> Batch:
    """Read a payload as far as that needs nothing of the user's."""
    order, jobs = pickle.loads(payload)
    return Batch(order, [_from_plain(job) for job in jobs])


def _plain(job: JobOrder) -> tuple[Any, ...]:
    """A job as tuples alone, which pickle several times quicker than named ones."""
    ups = [(up.path, *up.key, *up[2:]) for up in job.upstreams]
    files = [tuple(file) for file in job.inputs]
    return (*job.key, ups, *job[1:3], *job[4:7], files, *job[8:])


def _from_plain(job: tuple[Any, ...]) -> JobOrder:
    name, digest, ups, args, attributes, code, attributes_digest, token, inputs, *rest = job
    upstreams = tuple([UpstreamOrder(up[0], TaskKey(up[1], up[2]), *up[3:]) for up in ups])
    files = tuple([InputOrder(*file) for file in inputs]) if inputs else ()
    return JobOrder(
        TaskKey(name, digest), args, attributes, upstreams, code, attributes_digest, token, files, *rest
    )


def pack_answers(answers: Sequence[Answer]) -> bytes:
    """Answers on their way back, as tuples alone."""
    return pickle.dumps([_plain_answer(answer.outcome, answer.result) for answer in answers], PROTOCOL)


def unpack_answers(payload: bytes) -> list[Answer]:
    """What `pack_answers` packed."""
    return [_answer_from_plain(*plain) for plain in pickle.loads(payload)]


def _plain_answer(one: Outcome, result: bytes | None) -> tuple[Any, ...]:
    record = _plain_record(one.record) if one.record is not None else None
    return (*one.key, one.kind, one.seconds, record, one.failure, one.damaged, result)


def _answer_from_plain(
    name: str, digest: str, kind: Any, seconds: float, plain: Any, failure: Any, damaged: Any, result: Any
) -> Answer:
    record = _record_from_plain(plain) if plain is not None else None
    return Answer(Outcome(TaskKey(name, digest), kind, seconds, 0.0, record, failure, damaged), result)


def _plain_record(record: Record) -> tuple[Any, ...]:
    upstreams = [(up.path, *up.key, up.version) for up in record.upstreams]
    data = [tuple(file) for file in record.data]
    return (
        *record.key, record.args, record.code, record.code_scheme, record.attributes, upstreams,
        record.digest, record.version, data, record.root, record.python, record.provenance, record.left,
    )  # fmt: skip


def _record_from_plain(record: tuple[Any, ...]) -> Record:
    name, key, args, code, scheme, attributes, ups, digest, version, data, *rest = record
    upstreams = tuple([UpstreamRecord(up[0], TaskKey(up[1], up[2]), up[3]) for up in ups])
    files = tuple([DataFile(*file) for file in data])
    return Record(
        TaskKey(name, key), args, code, scheme, attributes, upstreams, digest, version, files, *rest
    )
