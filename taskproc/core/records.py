"""The frozen records that core, engine and plugins hand to each other.

Knows nothing of how they are stored or shown.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

JSON = Any
"""A JSON value: None, bool, int, float, str, list of JSON, dict of str to JSON."""


def content_digest(data: bytes | memoryview) -> str:
    """The digest by which contents are told apart, in records too: 32 hex digits of blake2b."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class TaskKey(NamedTuple):
    """What a task is called: its task name and the digest (32 hex digits) of its arguments."""

    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.digest}"


class UpstreamRecord(NamedTuple):
    """One direct upstream of a stored result: where it stood, which task, which content."""

    path: str
    key: TaskKey
    version: str


class DataFile(NamedTuple):
    """One file of a task's data directory: posix path below it, size in bytes, digest (hex)."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Record:
    """What is known of a stored result.

    Attributes:
        key: the task.
        args: the arguments as `task_args` shows them.
        code: fingerprint of the code that computed it; `code_scheme` numbers how it was made.
        attributes: digest of the plain attributes that `__init__` left.
        upstreams: the direct upstreams and the versions that were read.
        digest: `content_digest` of the uncompressed pickle of the result.
        version: digest of the result's whole content: `digest`, and the data files if any.
        data: the files of the data directory.
        root: the cache's root if the result names a path below it, else None.
        python: minor version ("3.11") if the pickle carries code by value, else None.
        provenance: who computed it, when and how long (`job`: a random id of the job that
            saved it; `seconds`: float; `started`: Unix time; `host`, `pid`, `python`, `taskproc`).
    """

    key: TaskKey
    args: Mapping[str, JSON]
    code: str
    code_scheme: int
    attributes: str
    upstreams: tuple[UpstreamRecord, ...]
    digest: str
    version: str
    data: tuple[DataFile, ...] = ()
    root: str | None = None
    python: str | None = None
    provenance: Mapping[str, JSON] = field(default_factory=dict[str, JSON])


ReasonKind = Literal[
    "missing", "code", "attributes", "upstreams", "upstream_runs", "forced", "python", "moved", "damaged"
]


class Reason(NamedTuple):
    """Why a task is stale: the kind, for programs, and the words, for people."""

    kind: ReasonKind
    text: str


@dataclass(frozen=True)
class Plan:
    """What a run would do: which tasks would run, and why, and which are cached.

    `run` keeps the order in which the tasks could run one after the other.
    """

    root: TaskKey
    run: Mapping[TaskKey, Reason]
    cached: Sequence[TaskKey]

    @property
    def run_counts(self) -> dict[str, int]:
        """How many tasks would run, by task name."""
        return dict(Counter(key.name for key in self.run))

    @property
    def cached_counts(self) -> dict[str, int]:
        """How many tasks are answered by the cache, by task name."""
        return dict(Counter(key.name for key in self.cached))

    @property
    def reason_counts(self) -> dict[str, dict[str, int]]:
        """For each task name, how many would run for each reason."""
        counts: dict[str, Counter[str]] = {}
        for key, reason in self.run.items():
            counts.setdefault(key.name, Counter())[reason.text] += 1
        return {name: dict(counter) for name, counter in counts.items()}


@dataclass(frozen=True)
class Job:
    """One execution of a task, as launchers and reporters see it.

    Attributes:
        key: the task; `task_id`: its integer id.
        args: its arguments as JSON.
        labels: its own name first, then its labels in order.
        label: the label that chose the launcher; "" for a job of the executor.
        root: absolute path of the cache.
        project: absolute path of the folder of the task file.
        directory: the task's data directory (made by the task when it asks for it).
        job_directory: where a launched worker finds its orders; "" for a job of the executor.
        stdout, stderr: log files of the launched client; "" for a job of the executor.
        name: a word that names the job to a queue (letters, digits, '-'; at most 60 of them).
    """

    key: TaskKey
    task_id: int
    args: Mapping[str, JSON]
    labels: tuple[str, ...]
    label: str = ""
    root: str = ""
    project: str = ""
    directory: str = ""
    job_directory: str = ""
    stdout: str = ""
    stderr: str = ""
    name: str = ""


@dataclass(frozen=True)
class Failure:
    """How a job failed, in a form that travels between processes.

    `type` and `message` are of the exception; `traceback` is its text, trimmed to the
    user's lines; `pickled` holds the exception itself where that was possible.
    """

    type: str
    message: str
    traceback: str = ""
    pickled: bytes | None = None


OutcomeKind = Literal["finished", "failed", "cancelled", "done elsewhere", "damaged", "returned"]


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Reporters hear of "finished", "failed", "cancelled" and "done elsewhere". The engine
    alone sees "damaged" (an upstream's stored result, named by `damaged`, is not sound: the
    job waits for it) and "returned" (the job was handed back before it started).
    `seconds` is the time it ran; `waited` the time from ready to start.
    """

    key: TaskKey
    kind: OutcomeKind
    seconds: float = 0.0
    waited: float = 0.0
    record: Record | None = None
    failure: Failure | None = None
    damaged: tuple[TaskKey, ...] = ()


class RunStats(TypedDict):
    """The statistics of one run; every mapping is by task name.

    `stats` counts the tasks executed in this run, `cached` those answered by the cache,
    `failed` those that failed. `waiting_seconds` sums the time from ready to start,
    `running_seconds` the time in run_task and saving, `total_seconds` both.
    `elapsed_seconds` is the run's own duration.
    """

    stats: dict[str, int]
    cached: dict[str, int]
    failed: dict[str, int]
    waiting_seconds: dict[str, float]
    running_seconds: dict[str, float]
    total_seconds: dict[str, float]
    elapsed_seconds: float


@dataclass(frozen=True)
class RunReport:
    """What a run came to. `status` is "finished", "failed" or "interrupted"."""

    plan: Plan
    stats: RunStats
    status: Literal["finished", "failed", "interrupted"]
    failures: Sequence[Outcome] = ()
