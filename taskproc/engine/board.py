"""What a run posts, so that others can tell from another terminal how it is going.

Decides what is said and how often. It asks when it posts, so that a job costs nothing here;
where and how posts are kept is the cache backend's. It only observes: whatever a backend
raises here ends the posting, and never the run.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from taskproc.core.records import JSON, Event, Outcome, Plan, RunStats, TaskKey
from taskproc.engine.opened_run import spool_of_thread, spool_of_worker
from taskproc.engine.versions import user_name, who_we_are
from taskproc.interfaces import CacheBackend

_EVERY_SECONDS = 0.5
_IN_PLACE_SECONDS = 0.05
_LONGEST_SECONDS = 5.0
_COST_FACTOR = 50
"""Posts take at most the 50th part of a run's time, or there are fewer of them."""
_LONGEST_ARGUMENT = 400
_LONGEST_TEXT = 300
_LOG = logging.getLogger("taskproc")


class UnderWay(NamedTuple):
    """A job that runs now.

    Attributes:
        key: the task.
        started: when it began (`time.monotonic()`); None: some time after the batch it is in.
        pid: the process it runs in, where that is known.
        spool: where its output is meanwhile (`.out` and `.err` behind it), if not where jobs of
            the executor have it.
        label: the label that chose its launcher; "" for a job of the executor.
    """

    key: TaskKey
    started: float | None
    pid: int | None = None
    spool: str | None = None
    label: str = ""


class AtWork(NamedTuple):
    """All jobs that run now; `settled` if the answer stays as it is until a job starts or ends."""

    jobs: Sequence[UnderWay]
    settled: bool


@dataclass(frozen=True)
class Subject:
    """The run that a board tells of.

    Attributes:
        run: its id.
        plan: what it is to do.
        counts: how many of its tasks are in each state, as the scheduler has it.
        statistics: what it came to so far.
        args_of: the arguments of a task.
        captured: whether output is kept of the executor's jobs (not by the serial one).
    """

    run: str
    plan: Plan
    counts: Callable[[], Mapping[str, int]]
    statistics: Callable[[], RunStats]
    args_of: Callable[[TaskKey], Mapping[str, JSON]]
    captured: bool


class Board:
    """The posts of one run, and its notes of what failed."""

    def __init__(self, backend: CacheBackend, subject: Subject) -> None:
        self._backend = backend
        self._subject = subject
        self._at_work: Callable[[], AtWork] = lambda: AtWork((), True)
        self._running: dict[TaskKey, dict[str, JSON]] = {}
        self._constant: dict[str, JSON] | None = None
        self._planned: dict[str, int] = {}
        self._cached: dict[str, int] = {}
        self._scratch: Path | None = None
        # One for all times: the same moment is always told as the same number.
        self._epoch = time.time() - time.monotonic()
        self._posted: dict[str, JSON] | None = None
        self._every = _EVERY_SECONDS
        self._cost = 0.0
        self._last = self._due = 0.0
        self._pending = False
        self._broken = False

    def put_up(self, at_work: Callable[[], AtWork]) -> None:
        """From here on the run can be seen by others; `at_work` tells which jobs run now."""
        self._at_work = at_work
        self._pending = True

    def refresh(self) -> None:
        """Something may have changed: post it, or remember to when it is time."""
        if self._broken:
            return
        if time.monotonic() >= self._due:
            self._post()
        else:
            self._pending = True

    def patience(self, timeout: float | None) -> float | None:
        """How long the run may wait, of the `timeout` it would, until something is to be posted."""
        if not self._pending:
            return timeout
        left = max(0.0, self._due - time.monotonic())
        return left if timeout is None else min(left, timeout)

    def before_in_place(self, expected: float | None) -> None:
        """The run is about to be held up by a job for about `expected` seconds (None: who knows)."""
        price = _COST_FACTOR * self._cost
        since = time.monotonic() - self._last
        if expected is None or expected >= price or since >= max(_IN_PLACE_SECONDS, price):
            self._post()

    def take_down(self) -> None:
        """The run can't be seen any more."""
        self._pending = False
        if self._posted is not None:
            self._posted = None
            self._due = 0.0
            try:
                self._backend.unpost(self._subject.run)
            except Exception as error:  # noqa: BLE001 - an aid for people must not hurt the run
                self._give_up(error)

    def note_failure(self, outcome: Outcome) -> None:
        """Let others count the failures when the run is long over."""
        failure = outcome.failure
        words = f"{failure.type}: {failure.message}" if failure is not None else "failed"
        text = " ".join(words.split()).removesuffix(":")
        if len(text) > _LONGEST_TEXT:
            text = f"{text[: _LONGEST_TEXT - 3]}..."
        try:
            args = self._subject.args_of(outcome.key)
            self._backend.note(Event("failed", outcome.key, time.time(), who_we_are(), text, args=args))
        except Exception as error:  # noqa: BLE001 - an aid for people must not hurt the run
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Post nothing any more, and say so once."""
        if not self._broken:
            self._broken = True
            _LOG.warning(
                "the cache %s can't tell others of this run, which goes on: %s: %s",
                self._backend.location, type(error).__name__, error,
            )  # fmt: skip
        self._pending = False

    def _post(self) -> None:
        if self._broken:
            return
        begun = time.monotonic()
        self._last, self._due = begun, begun + self._every
        try:
            at_work = self._at_work()
            facts = self._facts(at_work.jobs)
            self._pending = not at_work.settled
            if facts == self._posted:
                return
            self._posted = facts  # before the call: what it leaves half done is to be taken down too
            # The promise in it is kept by `_due` above; what this post costs counts for the next.
            self._backend.post(self._subject.run, {**facts, "every": self._every})
        except Exception as error:  # noqa: BLE001 - an aid for people must not hurt the run
            self._give_up(error)
        self._cost = time.monotonic() - begun
        self._every = min(max(_EVERY_SECONDS, _COST_FACTOR * self._cost), _LONGEST_SECONDS)

    def _facts(self, jobs: Sequence[UnderWay]) -> dict[str, JSON]:
        plan = self._subject.plan
        if self._constant is None:
            self._constant = {
                "run": self._subject.run,
                "host": os.uname().nodename,
                "pid": os.getpid(),
                "user": user_name(),
                "started": time.time(),
                "entry": plan.root.name,
            }
            self._planned, self._cached = plan.run_counts, plan.cached_counts
            self._scratch = self._backend.scratch()
        counts = self._subject.counts()
        self._running = {job.key: self._running_fact(job) for job in jobs}
        return {
            **self._constant,
            "counts": {
                "total": sum(counts.values()),
                "finished": counts["done"],
                "failed": counts["failed"],
                "cached": len(plan.cached),
            },
            "left": self._not_begun(),
            "running": list(self._running.values()),
        }

    def _not_begun(self) -> dict[str, int]:
        """How many tasks of each name the run may still come to."""
        stats = self._subject.statistics()
        running = Counter(key.name for key in self._running)
        left: dict[str, int] = {}
        for name, planned in self._planned.items():
            elsewhere = max(0, stats["cached"].get(name, 0) - self._cached.get(name, 0))
            over = stats["stats"].get(name, 0) + stats["failed"].get(name, 0) + elsewhere + running[name]
            if planned > over:
                left[name] = planned - over
        return left

    def _running_fact(self, job: UnderWay) -> dict[str, JSON]:
        known = self._running.get(job.key)
        if job.started is not None:
            since = self._epoch + job.started
        else:
            since = known["since"] if known is not None else time.time()
        return {
            "task": job.key.name,
            "key": job.key.digest,
            "args": known["args"] if known is not None else _short(self._subject.args_of(job.key)),
            "since": since,
            "pid": job.pid,
            "log": self._spool(job),
            "label": job.label,
        }

    def _spool(self, job: UnderWay) -> str | None:
        """Where a job's output is, as a path below the cache: others may see that under another path."""
        run, scratch, root = self._subject.run, self._scratch, self._backend.location
        if job.spool is not None:
            spool = job.spool
        elif scratch is None or not self._subject.captured:
            return None
        elif job.pid is not None and job.pid != os.getpid():
            spool = str(spool_of_worker(scratch, run, job.pid))
        else:
            spool = str(spool_of_thread(scratch, run, job.key))
        return spool.removeprefix(root + os.sep)


def _short(args: Mapping[str, JSON]) -> dict[str, JSON]:
    """The arguments as they are, but for those that nobody would read."""
    return {name: _short_value(value) for name, value in args.items()}


def _short_value(value: Any) -> JSON:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= _LONGEST_ARGUMENT else f"{text[: _LONGEST_ARGUMENT - 3]}..."
