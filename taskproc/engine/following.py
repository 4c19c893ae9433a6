"""Follow what a task prints while it runs: from its spool files, and from its logs at the end.

Decides which bytes are the task's own. A worker's spool file serves one task after the other,
and a post of a run is a moment old; but a spool file that holds anything becomes the log of the
task it is of. So what may be another task's is held back until a later post tells.
Knows nothing of who reads it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskproc.core.overview import running_jobs
from taskproc.core.records import JSON, TaskKey
from taskproc.engine.plain_files import open_plain
from taskproc.interfaces import CacheBackend

StreamName = Literal["stdout", "stderr"]
Sink = Callable[[StreamName, bytes], None]

ASK_SECONDS = 0.2
"""How often the runs are asked how they are going."""
_POLL_SECONDS = 0.1
_SLACK_SECONDS = 0.5
_CHUNK = 1 << 16
_SUFFIXES: Mapping[StreamName, str] = {"stdout": ".out", "stderr": ".err"}


@dataclass(frozen=True)
class RunningJob:
    """A job as a run has posted it.

    Attributes:
        run: the run's id; `key` and `args`: the task.
        since: Unix time at which it began.
        spool: where its output is meanwhile (`.out` and `.err` behind it), or None.
        is_shared: whether other tasks of the same worker have the same spool.
        every: after so many seconds at most the run posts what has changed.
    """

    run: str
    key: TaskKey
    args: Mapping[str, JSON]
    since: float
    spool: str | None
    is_shared: bool
    every: float


def jobs_of(posts: Iterable[Mapping[str, JSON]], location: str) -> list[RunningJob]:
    """The jobs that run now, of all posts of a cache that lies at `location`."""
    return [_job(post, fact, location) for post in posts for fact in running_jobs(post)]


def _job(post: Mapping[str, JSON], fact: Mapping[str, JSON], location: str) -> RunningJob:
    key = TaskKey(str(fact["task"]), str(fact["key"]))
    log, since, every = fact.get("log"), fact.get("since"), post.get("every")
    spool = os.path.join(location, log) if isinstance(log, str) else None
    return RunningJob(
        run=str(post.get("run")),
        key=key,
        args=fact.get("args") or {},
        since=float(since) if isinstance(since, int | float) else 0.0,
        spool=spool,
        is_shared=spool is not None and not fact.get("label") and not spool.endswith(f"-{key.digest}"),
        every=float(every) if isinstance(every, int | float) else _SLACK_SECONDS,
    )


def follow(
    backend: CacheBackend,
    job: RunningJob,
    streams: Sequence[StreamName],
    before: Mapping[StreamName, Mark],
    sink: Sink,
    to_the_end: bool = True,
) -> None:
    """Hand on all that a job prints, as it comes, until it has ended.

    Args:
        before: the task's logs as they were before the job was known to run (see `marks_of`).
        sink: gets every byte once, in the order of each stream.
        to_the_end: if not, stop when all that it printed so far was handed on.
    """
    with contextlib.ExitStack() as stack:
        followed = [
            stack.enter_context(_Followed(backend, job, name, before[name], sink)) for name in streams
        ]
        asked = ask_again = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= ask_again:
                asked = now
                if not any(_is_same(job, other) for other in jobs_of(backend.posts(), backend.location)):
                    break
                # A cache that is slow to answer is not asked all the time.
                ask_again = now + max(ASK_SECONDS, 10 * (time.monotonic() - now))
            for stream in followed:
                stream.go_on(asked)
            if not to_the_end and all(stream.is_level for stream in followed):
                return
            time.sleep(_POLL_SECONDS)
        for stream in followed:
            stream.finish()


def _is_same(job: RunningJob, other: RunningJob) -> bool:
    return (job.run, job.key, job.since) == (other.run, other.key, other.since)


@dataclass(frozen=True)
class Mark:
    """A file as it was at some moment: which one, and when it was written to; None: it was not there."""

    inode: tuple[int, int] | None
    written: float = 0.0


def marks_of(backend: CacheBackend, key: TaskKey) -> dict[StreamName, Mark]:
    """A task's logs as they are now."""
    paths = backend.log_paths(key)
    return {"stdout": _mark(paths.stdout), "stderr": _mark(paths.stderr)}


def _mark(path: Path | int) -> Mark:
    try:
        state = os.stat(path)
    except OSError:
        return Mark(None)
    return Mark((state.st_ino, state.st_dev), state.st_mtime)


class _Followed:
    """One stream of a job."""

    def __init__(
        self, backend: CacheBackend, job: RunningJob, name: StreamName, before: Mark, sink: Sink
    ) -> None:
        paths = backend.log_paths(job.key)
        self._kept = paths.stdout if name == "stdout" else paths.stderr
        self._spool = f"{job.spool}{_SUFFIXES[name]}" if job.spool is not None else None
        self._job = job
        self._before = before
        self._name: StreamName = name
        self._sink = sink
        self._fd: int | None = None
        self._is_ours = not job.is_shared
        self._seen: float | None = None

    def __enter__(self) -> _Followed:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def go_on(self, asked: float) -> None:
        """The job was still running when the run was `asked`: hand on what is there by now."""
        if self._fd is None and self._spool is not None:
            with contextlib.suppress(OSError):
                self._fd = os.open(self._spool, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if self._fd is None:
            return
        if not self._is_ours and os.fstat(self._fd).st_size:
            self._seen = self._seen if self._seen is not None else time.monotonic()
            # Had the job ended before we saw that, the run would have said so by now.
            self._is_ours = asked > self._seen + self._job.every + _SLACK_SECONDS
        if self._is_ours:
            self._hand_on(self._fd)

    @property
    def is_level(self) -> bool:
        """Whether all that was there at the last look was handed on."""
        return self._is_ours or self._seen is None

    def finish(self) -> None:
        """The job has ended: hand on the rest, or all of it from the log, if it was quick."""
        kept = _mark(self._kept)
        if self._fd is not None and (self._is_ours or _mark(self._fd).inode == kept.inode):
            self._hand_on(self._fd)
            if os.lseek(self._fd, 0, os.SEEK_CUR):
                return
        if kept.inode is not None and (kept != self._before or kept.written >= self._job.since):
            with open_plain(self._kept) as file:
                self._hand_on(file.fileno())

    def _hand_on(self, fd: int) -> None:
        while chunk := os.read(fd, _CHUNK):
            self._sink(self._name, chunk)
