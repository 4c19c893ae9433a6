"""The protocols a plugin implements, and the records it is handed.

A component is a frozen dataclass with a class-level `name`; its fields are its options,
typed and documented. Plugins import this module, `taskproc.hookspecs` and
`taskproc.errors`, and nothing else of taskproc.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from taskproc.core.arguments import ArgumentType
from taskproc.core.arguments import digest as _digest
from taskproc.core.masking import mask_text, mask_words
from taskproc.core.records import (
    JSON,
    DataFile,
    Event,
    EventKind,
    Failure,
    Finding,
    Holder,
    Job,
    Outcome,
    Plan,
    Reason,
    Record,
    RunReport,
    RunStats,
    StoredEntry,
    TaskKey,
    UpstreamRecord,
    Usage,
    UsageKind,
    content_digest,
    content_hasher,
)
from taskproc.errors import CacheError

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = [
    "JSON",
    "PLAYED_OWNER",
    "Announcer",
    "AnnouncingExecutor",
    "ArgumentType",
    "CacheBackend",
    "DataFile",
    "Event",
    "EventKind",
    "ExecutorProvider",
    "Failure",
    "Finding",
    "Holder",
    "Job",
    "Launcher",
    "LogPaths",
    "Outcome",
    "Plan",
    "Reason",
    "Record",
    "Reporter",
    "RunReport",
    "RunStats",
    "StoredEntry",
    "TaskKey",
    "UpstreamRecord",
    "Usage",
    "UsageKind",
    "arguments_digest",
    "content_digest",
    "content_hasher",
    "mask_text",
    "mask_words",
]


PLAYED_OWNER = "TASKPROC_PLAYED_OWNER"
"""The variable `UID:PATH` by which `taskproc.testing.played_owner` plays another owner of a cache.

A backend that looks at owners takes what is at or below PATH for that user's. It can only take
trust away: a user whom the backend would trust is not played.
"""


def arguments_digest(args: Mapping[str, JSON]) -> str:
    """The digest in the key of a task that has these arguments, as its record tells them.

    Raises:
        ValueError: no task has them: a number among them is not finite.
    """
    return _digest(dict(args))


class LogPaths(NamedTuple):
    """Where a task's own output is kept; a file exists only if there was any output."""

    stdout: Path
    stderr: Path


class CacheBackend(ABC):
    """Where results and their records are kept.

    A backend is a frozen dataclass, made from the text the user gives with `-o` (see
    `from_url`), and it is picklable: workers save their own results through their own copy.
    Construction touches nothing; what a look needs is made by the first write. `Cache(...,
    shared="group", trust=True)` sets its fields of these names; without them that is an error.
    All methods may be called from several threads.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> CacheBackend:
        """Make a backend from the user's text without its `name:` in front (`./cache`)."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The absolute root (a path or URL) as it is shown to people and named in records."""

    @abstractmethod
    def open(self) -> None:
        """Check that the cache can be used; write nothing.

        Raises:
            CacheError: the path is a file, holds something that is not a cache of ours,
                or can't be read.
        """

    @abstractmethod
    def look_up(self, keys: Collection[TaskKey]) -> dict[TaskKey, Record]:
        """The records of those of `keys` that have a whole stored result; writes nothing.

        A result whose data files do not hold what its record says of them does not count.
        """

    @abstractmethod
    def load(self, key: TaskKey, digest: str | None = None) -> bytes:
        """The uncompressed pickle of a result, checked against `digest` (else the record's).

        Raises:
            MissingResultError: nothing is stored.
            DamagedEntryError: what is stored is not what the digest says.
        """

    @abstractmethod
    def begin(self, key: TaskKey) -> None:
        """A job starts: withdraw the record of an entry that has data, then set the data aside."""

    @abstractmethod
    def save(self, record: Record, payload: bytes, compress_level: int, durable: bool) -> None:
        """Store a result and its record (the record last), and forget what `begin` set aside.

        `payload` is the uncompressed pickle whose digest the record holds; `durable` asks
        that it survives a power cut. Raises OSError when it can't be written.
        """

    @abstractmethod
    def abandon(self, key: TaskKey) -> None:
        """A job failed: put back what `begin` set aside."""

    @abstractmethod
    def index(self) -> None:
        """Note for quick look-ups what was saved, or had to be read, since the last call.

        Called by workers after each batch, and by the runner at its end.
        """

    @abstractmethod
    def discard(self, keys: Iterable[TaskKey]) -> None:
        """Forget these tasks' results, logs and data. An existing data directory stays, empty."""

    @abstractmethod
    def discard_all(self, task_name: str) -> None:
        """Forget every result of tasks of this name."""

    @abstractmethod
    def set_aside(self, key: TaskKey) -> None:
        """Take a damaged entry out of use, keeping what is there of it for a look."""

    @abstractmethod
    def lease(self, keys: Collection[TaskKey]) -> set[TaskKey]:
        """Claim keys for this runner; returns those granted (others are held by another runner)."""

    @abstractmethod
    def release(self, keys: Iterable[TaskKey]) -> None:
        """Give back claims. A dead runner's claims end by themselves."""

    # How claims outlast doubt. A backend without these is asked less: nothing of it is fenced.

    def ticket(self) -> str:
        """What a worker shows to `stands`: under which lease this runner holds its claims.

        It is that of the last call of `lease`; "" if there was none, or none that could be lost.
        """
        return ""

    def stands(self, ticket: str) -> bool:
        """Whether the claims of the runner with this ticket still hold.

        They do not if that runner stood still for so long that others took it for dead. Asked
        by each job right before it saves: what it computed is then another's to compute.
        """
        return True

    def lease_for_job(self, key: TaskKey, ticket: str) -> bool:
        """Claim `key` for a job in a process of its own, beside its runner's claim.

        So the claim outlives the runner. It ends with `release`, `close`, or this process, and
        until then `stands(ticket)` tells whether it holds. False if the runner is gone or its
        claims were taken over, or another has the key: then the job is not to be done.
        """
        return True

    def rest(self) -> None:  # noqa: B027 - many backends have nothing to end
        """A run of this process is over: end threads that only a run needs. Claims of others stay."""

    def holder(self, key: TaskKey) -> Holder | None:
        """Who else has claimed `key`, as far as is known; None: nobody. Writes nothing."""
        return None

    @abstractmethod
    def data_directory(self, key: TaskKey, create: bool) -> Path:
        """The task's data directory, made if `create`."""

    @abstractmethod
    def list_data(self, key: TaskKey) -> tuple[DataFile, ...]:
        """The files now in the data directory, sorted by path, each with its content digest."""

    @abstractmethod
    def log_paths(self, key: TaskKey) -> LogPaths:
        """Where the task's output goes."""

    @abstractmethod
    def keep_logs(self, key: TaskKey, stdout: Path | None, stderr: Path | None) -> None:
        """Move these files to the task's log paths; None means no output (an old log goes)."""

    @abstractmethod
    def scratch(self) -> Path:
        """An existing folder for jobs and output in flight, visible to every worker."""

    def close(self) -> None:  # noqa: B027 - many backends hold nothing
        """Give back descriptors and claims. The backend may be used again afterwards."""

    # What people ask of a cache beside its results. A backend without these answers less.

    def must_exist(self) -> None:  # noqa: B027 - not every backend can tell
        """Check, of a cache that was opened, that one was made there; for those who only look after it.

        Raises:
            CacheError: there is no cache.
        """

    def task_names(self) -> list[str]:
        """The names of the tasks of which something is stored, sorted; writes nothing.

        Raises:
            CacheError: this backend can't list what it holds.
        """
        raise CacheError(f"a cache of the kind {self.name!r} can't list what it holds")

    def stored(self, task_name: str) -> Iterable[StoredEntry]:
        """What is stored of the tasks of this name, in no particular order; writes nothing.

        Raises:
            CacheError: this backend can't list what it holds.
        """
        raise CacheError(f"a cache of the kind {self.name!r} can't list what it holds")

    def verify(
        self, repair: bool, checked: Callable[[TaskKey, int], None] | None = None
    ) -> Iterable[Finding]:
        """Look for whatever is not as it should be, everywhere; told while it is found.

        Every result is read and compared with its record, and never unpickled. What a living run
        holds is left alone. With `repair` what is damaged is set aside as a run does it, so that
        the next run computes it anew, and what dead runs left is cleared away; no sound result is
        removed. Without it nothing is written. `checked` is called with the key of each entry
        that was looked through, and the bytes that were read of it.

        Raises:
            CacheError: this backend can't check what it holds, or the root is not a cache.
        """
        raise CacheError(f"a cache of the kind {self.name!r} can't check what it holds")

    def usage(self) -> Iterable[Usage]:
        """What takes how many bytes, in no particular order; writes nothing.

        Raises:
            CacheError: this backend can't tell.
        """
        raise CacheError(f"a cache of the kind {self.name!r} can't tell what takes how much room")

    def prune(self, keys: Iterable[TaskKey], kind: Literal["damaged", "failures"] | None = None) -> None:
        """Remove all that there is of these tasks, to whom nothing of it will be of use any more.

        With `kind` only what is of that kind: the remains of damaged results that were set aside,
        or the traces of failed jobs; a stored result stays. Who calls holds the keys' leases.

        Raises:
            CacheError: this backend can't do that, or the root is not a cache.
        """
        raise CacheError(f"a cache of the kind {self.name!r} can't be pruned")

    def replace_record(self, key: TaskKey, record: Record) -> None:
        """Give the stored result of `key` another record, and by that another key if it has one.

        The result, its data and its logs go along as they are. An entry that stands under the
        new key already is replaced. Repeating a call that was broken off completes it.

        Raises:
            MissingResultError: nothing is stored under either key.
            CacheError: this backend can't do that.
        """
        raise CacheError(f"a cache of the kind {self.name!r} can't change its records")

    def keep_code(self, digest: str, data: bytes) -> None:  # noqa: B027 - an aid for people
        """Keep a text of source code under its digest (hex), for `kept_code`."""

    def kept_code(self, digest: str) -> bytes | None:
        """What was kept under a digest, or None."""
        return None

    def note(self, event: Event) -> None:  # noqa: B027 - an aid for people
        """Remember an event, for `events`. Does nothing where no cache was made yet."""

    def events(self, key: TaskKey) -> list[Event]:
        """What is known to have happened to the result of a task, the latest last."""
        return []

    def post(self, run: str, facts: Mapping[str, JSON]) -> None:  # noqa: B027 - an aid for people
        """Let others see what a run of this process is doing; replaces what it posted before."""

    def unpost(self, run: str) -> None:  # noqa: B027 - an aid for people
        """Take back what a run posted, at its end. A dead runner's posts go by themselves."""

    def posts(self) -> list[Mapping[str, JSON]]:
        """What the runs that are alive have posted; writes nothing."""
        return []


class Announcer(Protocol):
    """What work in a worker process may tell the runner while it is under way."""

    def announce(self, position: int) -> None:
        """Note where the work is; read by the runner only if the worker dies. Costs about 1 us."""

    def send(self, message: bytes) -> None:
        """Hand a message to the runner's `on_message`."""


@runtime_checkable
class AnnouncingExecutor(Protocol):
    """What an executor may offer beyond `concurrent.futures.Executor`.

    `submit_work(function, payload, on_message)` calls `function(payload, announcer)` in a
    worker, with an `Announcer`. `on_message` is called with each message, on any thread,
    before the future is done. The future may offer `kill()`, which ends the worker that runs
    it; if the worker dies the future's exception is a `WorkerDiedError` with the last position.
    It may offer `progress()`: the pid of that worker and the last position, or None. Where
    running work can't be killed, the announcer may have a `recalled`: True once the future was
    cancelled, so that the work begins nothing more.
    """

    def submit_work(
        self,
        function: Callable[[bytes, Announcer], Any],
        payload: bytes,
        on_message: Callable[[bytes], None],
    ) -> Future[Any]: ...


class ExecutorProvider(ABC):
    """Opens an executor for one run; the run shuts it down at its end."""

    name: ClassVar[str]
    in_place: ClassVar[bool] = False
    """Whether jobs run inside `submit`, on the caller's thread (the serial executor)."""

    @abstractmethod
    def open(self, max_workers: int, worker_argv: Sequence[str]) -> Executor:
        """Open an executor of at most `max_workers` workers.

        `worker_argv` is the command that starts a worker process of taskproc. With the words
        `--pool SOCKET STATUS LIFELINE` (three inherited file descriptors) behind it, it serves.
        On the socket go frames: 8 bytes of length, little endian, then a body that begins with
        a letter. To the worker: `P` + pickle of the `sys.path` to take over (no answer), `C` or
        `W` + pickle of `(function, args, kwargs)`; with `W` the function gets an `Announcer`
        after its arguments. Back, for each `C` or `W`: any number of `M` + message, then one of
        `R` + pickle of the result or `X` + pickle of `(exception, text of its traceback)`.
        STATUS is a file of 16 bytes, little endian and signed: the position the work announced
        last (-1: none), and how many works were begun. The worker ends when the socket closes,
        and is killed, with its process group, when LIFELINE (a pipe's read end) hangs up.
        """


@dataclass(frozen=True, kw_only=True)
class Launcher(ABC):
    """Starts a job behind a command of the user's choice.

    A subclass is a frozen dataclass that has a `name` and a `command`; the rest has defaults.
    It is asked for commands on one thread of its own, and cancels on another. One that has a
    `cancel` is also kept, pickled, beside each job under way: if the run is killed, the next one
    cancels by it what still waits in a queue.

    Attributes:
        python: the interpreter inside; None: the running one.
        max_jobs: how many clients run at once; None: `default_max_jobs`.
    """

    name: ClassVar[str]

    python: str | None = None
    max_jobs: int | None = None

    @abstractmethod
    def command(self, argv: Sequence[str], job: Job) -> Sequence[str]:
        """The command line that runs `argv` (plain words) where this launcher runs jobs."""

    def environment(self, job: Job) -> Mapping[str, str]:
        """Variables set for the client, beside the runner's own environment."""
        return {}

    @property
    def default_max_jobs(self) -> int:
        """How many clients at once where the user says nothing: the number of cores."""
        return os.cpu_count() or 1

    @property
    def needs(self) -> tuple[str, ...]:
        """Commands that must be on PATH, checked before anything is submitted."""
        return ()

    def cancel(self, jobs: Sequence[Job]) -> None:  # noqa: B027 - for many, ending the client is enough
        """End these jobs wherever they run, in as few calls as possible.

        The engine ends the clients themselves; this is for what outlives its client. It is waited
        for at most 2 seconds. A job may have ended by itself, or never have come to its queue.
        """

    def explain(self, returncode: int, stderr: str) -> str:
        """Why a client may have left no record, in words; "" if nothing is known."""
        return ""


class Reporter:
    """Hears the moments of one run: any of the four methods of `taskproc.hookspecs`.

    A subclass is a frozen dataclass with a `name`; its methods carry `@hookimpl`.
    """

    name: ClassVar[str]
