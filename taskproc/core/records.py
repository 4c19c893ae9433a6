"""The frozen records that core, engine and plugins hand to each other.

Knows nothing of how they are stored or shown.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any, Literal, NamedTuple, TypedDict

JSON = Any
"""A JSON value: None, bool, int, float, str, list of JSON, dict of str to JSON."""


def content_digest(data: bytes | memoryview) -> str:
    """The digest by which contents are told apart, in records too: 32 hex digits of blake2b."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def content_hasher() -> hashlib.blake2b:
    """What comes to the same digest as `content_digest`, fed piece by piece."""
    return hashlib.blake2b(digest_size=16)


class TaskKey(NamedTuple):
    """What a task is called: its task name and the digest (32 hex digits) of its arguments."""

    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.digest}"


class UpstreamRecord(NamedTuple):
    """One direct upstream of a stored result: where it stood, which task, which content.

    If the task looked at attributes of the upstream as well, `version` is `VERSION+SEEN` (see
    `seen_digest`). What a task read without having it as an upstream
    stands behind the others, with the path `ALSO_READ`.
    """

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
        code: fingerprint of the code that computed it (see `core.fingerprint`); `code_scheme`
            numbers how it was made.
        attributes: digest of the plain attributes that `__init__` left.
        upstreams: the direct upstreams and the versions that were read. An input file is one of
            them, under the task name `INPUT_FILE`.
        digest: `content_digest` of the uncompressed pickle of the result.
        version: digest of the result's whole content: `digest`, and the data files if any.
        data: the files of the data directory.
        root: the cache's root if the result names a path below it, else None.
        python: minor version ("3.11") if the pickle carries code by value, else None.
        provenance: who computed it, when and how long (`job`: a random id of the job that
            saved it; `seconds`: float; `started`: Unix time; `host`, `pid`, `python`, `taskproc`;
            `packages`: the versions of what else is installed that the code names; `put`: who
            put the value in by hand; `accepted`: who took which edit of the code for harmless).
        left: of the attributes, for people, those that are not plainly arguments: their JSON, or
            a digest of it if it is long.
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
    left: Mapping[str, JSON] = field(default_factory=dict[str, JSON])


CodeMode = Literal["deep", "class", "off"]
"""How much of a task's code counts: all it reaches, its class and bases alone, or none."""

INPUT_FILE = "taskproc.InputFile"
"""The task name under which a record lists an input file among its upstreams."""

CHANGED_MEANWHILE = "changed while the task ran"
"""In a record, the version of an input file of which nobody can tell what the task read."""


ALSO_READ = "(read)"
"""The path of a task whose result was read by one that does not have it as an upstream."""


_RENAMED = "a cache in which "


def seen_digest(record: Record) -> str:
    """A digest of what a downstream sees in a task's attributes, the tasks and files there among it."""
    if not record.upstreams:
        return record.attributes
    shown = [
        f"{up.path} {up.key} {up.version if up.key.name == INPUT_FILE else ''}"
        for up in record.upstreams
        if up.path != ALSO_READ
    ]
    return content_digest("\n".join([record.attributes, *shown]).encode("utf-8", "surrogatepass"))


def root_of_renamed(name: str) -> str:
    """What stands as its root in the record of a result that holds a name which became another."""
    return f"{_RENAMED}{name} had that name"


def is_root_of_renamed(root: str | None) -> bool:
    """Whether that stands there: such a result counts nowhere."""
    return root is not None and root.startswith(_RENAMED)


def input_record(path: str, file: str, version: str) -> UpstreamRecord:
    """What a record says of an input file: the attribute path, the file as given, its content."""
    return UpstreamRecord(path, TaskKey(INPUT_FILE, file), version)


ReasonKind = Literal[
    "missing",
    "code",
    "attributes",
    "upstreams",
    "upstream_runs",
    "forced",
    "python",
    "moved",
    "damaged",
    "input_missing",
    "upstream_blocked",
]


class Reason(NamedTuple):
    """Why a task is stale: the kind, for programs, and the words, for people."""

    kind: ReasonKind
    text: str


@dataclass(frozen=True)
class Plan:
    """What a run would do: which tasks would run, and why, which are cached, which can't run.

    Attributes:
        root: the task that was asked about.
        run: the tasks that would run, in an order in which they could run one after the other.
        cached: the tasks that the cache answers.
        blocked: the tasks that can't run, for an input file of theirs or above them is missing.
        seconds: how long the tasks in `run` are expected to take, by task name: the sum over
            its tasks of what was recorded for each or, where nothing was, for others of the name.
        untimed: the task names in `run` of which no duration is recorded.
    """

    root: TaskKey
    run: Mapping[TaskKey, Reason]
    cached: Sequence[TaskKey]
    blocked: Mapping[TaskKey, Reason] = field(default_factory=dict[TaskKey, Reason])
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    untimed: Sequence[str] = ()

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
        return _reason_counts(self.run)

    @property
    def blocked_counts(self) -> dict[str, int]:
        """How many tasks can't run, by task name."""
        return dict(Counter(key.name for key in self.blocked))

    @property
    def blocked_reason_counts(self) -> dict[str, dict[str, int]]:
        """For each task name, how many can't run for each reason."""
        return _reason_counts(self.blocked)

    @property
    def is_idle(self) -> bool:
        """Whether nothing but the entry task, which is run in any case, would run."""
        return not self.blocked and all(reason.kind == "forced" for reason in self.run.values())


def _reason_counts(reasons: Mapping[TaskKey, Reason]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for key, reason in reasons.items():
        counts.setdefault(key.name, Counter())[reason.text] += 1
    return {name: dict(counter) for name, counter in counts.items()}


@dataclass(frozen=True)
class Explanation:
    """Why a task would be run again, or what its stored result rests on.

    Attributes:
        key: the task.
        args: its arguments as `task_args` shows them.
        is_cached: whether the stored result stands; False also if the task can't run.
        reason: why not, or None.
        details: what is known beyond the reason, a paragraph each: diffs of the code, what was
            before and what is now, when a result was cleared.
        origins: if the task runs because others above it do: the explanations of those with
            which it begins.
    """

    key: TaskKey
    args: Mapping[str, JSON]
    is_cached: bool
    reason: Reason | None = None
    details: Sequence[str] = ()
    origins: Sequence[Explanation] = ()

    def __str__(self) -> str:
        told = "its stored result stands" if self.reason is None else self.reason.text
        inside = "\n".join([*self.details, *map(str, self.origins)])
        args = ", ".join(f"{name}={_brief(value)}" for name, value in self.args.items())
        return f"{self.key.name}({args}): {told}\n{indent(inside, '  ')}".rstrip()


def _brief(value: JSON) -> str:
    is_task = isinstance(value, dict) and "__task__" in value
    text = f"<{value['__task__']}>" if is_task else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


EventKind = Literal["cleared", "damaged", "removed", "failed", "renamed"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a stored result, or in place of one.

    Attributes:
        kind: "cleared" on request, found "damaged", "removed" from the disk by hand, a job that
            "failed", or "renamed".
        key: the task; its digest is "" if all tasks of the name are meant.
        when: Unix time in seconds, for people; None if it is not known.
        who: user, host and process ("ann@node7, process 4711"), or "".
        text: what else there is to say, in words.
        record: the record of the result that is gone, where that is still known.
        args: the arguments of the task, of a job that failed.
    """

    kind: EventKind
    key: TaskKey
    when: float | None = None
    who: str = ""
    text: str = ""
    record: Record | None = None
    args: Mapping[str, JSON] | None = None


@dataclass(frozen=True)
class StoredEntry:
    """What a cache holds of one task: a whole result, or the trace of a failure, or both.

    Attributes:
        key: the task.
        record: of the whole stored result, or None.
        size: bytes of the result and of its data files.
        failure: how the last job failed, if no result was stored since.
    """

    key: TaskKey
    record: Record | None
    size: int
    failure: Event | None = None


@dataclass(frozen=True)
class Finding:
    """Something that `verify` found in a cache and that is not as it should be.

    Attributes:
        key: the task, or None where it is not that of one task, or not known.
        path: where it is.
        fault: what is the matter, in words.
        repaired: whether it was put right: what is damaged is out of use, so that the next run
            computes it anew, and what dead runs left is away.
        harmless: whether nothing rests on it, so that nothing is wrong even if it stays.
    """

    key: TaskKey | None
    path: str
    fault: str
    repaired: bool = False
    harmless: bool = False


UsageKind = Literal[
    "results", "data", "logs", "failures", "damaged", "leftovers", "code", "bookkeeping", "other"
]
"""What bytes in a cache are of: see `Usage`."""


@dataclass(frozen=True)
class Usage:
    """How many bytes something in a cache takes.

    Attributes:
        kind: "results" with their records, "data" directories, "logs", notes of "failures",
            "damaged" results that were set aside, "leftovers" of jobs that run or were killed,
            texts of "code", "bookkeeping" (the index, the journal, what runs share), "other".
        bytes: the sum of the sizes of the files.
        key: the task, or None where it is not that of one task, or not known.
    """

    kind: UsageKind
    bytes: int
    key: TaskKey | None = None


@dataclass(frozen=True)
class Holder:
    """Who holds a claim on a key.

    Attributes:
        host: the name of its host.
        pid: its process there.
        is_job: whether it is a job in a process of its own, not a runner.
        words: all this for people, as in "pid 4711 on host node7, which is stopped".
    """

    host: str
    pid: int
    is_job: bool
    words: str


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


OutcomeKind = Literal["finished", "failed", "cancelled", "done elsewhere", "unchanged", "damaged", "returned"]


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Reporters hear of "finished", "failed", "cancelled", "done elsewhere" and "unchanged" (with
    `early_cutoff`: nothing was run, as the upstreams came to the same content). The engine
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
