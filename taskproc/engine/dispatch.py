"""Hand jobs to an executor, in batches, or to a launcher's command; gather their outcomes.

Knows nothing of what is stale or may start: the scheduler decides that, within the room
that is told here.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import taskproc
from taskproc.core.records import JSON, Failure, Holder, Job, Outcome, Record, TaskKey
from taskproc.engine.batches import BatchSizes
from taskproc.engine.board import AtWork, UnderWay
from taskproc.engine.failure import describe
from taskproc.engine.interruption import Interruption
from taskproc.engine.jobs import Answer, JobOrder, Payloads, unpack_answers
from taskproc.engine.launch import Launches
from taskproc.engine.opened_run import spool_of_launched
from taskproc.engine.time_limits import Clocks, TimeLimit
from taskproc.engine.worker import run_batch
from taskproc.errors import ExecutorBrokenError, TimeLimitWarning, WorkerDiedError
from taskproc.interfaces import AnnouncingExecutor, Launcher
from taskproc.modules import is_installed, is_on_path_of_others

EXECUTOR_LANE = ""
_MAX_UNSTARTED_DEATHS = 3
_CANCEL_SECONDS = 3.0


@dataclass(eq=False)
class Batch:
    """Jobs that were submitted together, and those whose outcome is still to come."""

    keys: list[TaskKey]
    tokens: dict[TaskKey, str]
    future: Future[Any] | None = None
    open: dict[TaskKey, None] = field(default_factory=dict[TaskKey, None])
    started: float = 0.0
    recalled: bool = False


class Left(NamedTuple):
    """Jobs that nothing can end: their future, those not over yet, and those of them that run now."""

    future: Future[Any]
    keys: list[TaskKey]
    running: list[TaskKey]


class Dispatch:
    """All jobs under way in one run.

    Args:
        executor: where jobs without a launcher go; `in_place` if it runs them inside submit.
        launchers: by lane (the label that chose each).
        payloads: makes what is sent.
        order_job: the order of one job; raises what can't be pickled.
        describe_job: how a job is shown to launchers and reporters.
        read_records: the records now stored under some keys.
        keep_logs: keeps what a task printed whose worker died: from a spool, or (a number) of that pid;
            the last argument is a time (Unix) at which it had not begun.
        holder: who else holds a task's claim now.
        run_facts: what names the run to those who find its launched jobs when it has died.
        before_in_place: hears that a job, which may take so many seconds, is about to hold up the run.
        signals: after a signal nothing is started any more; a job in place may be broken off by one.
        limits: by task name, how long jobs may run.
    """

    def __init__(
        self,
        executor: Executor,
        in_place: bool,
        max_workers: int,
        launchers: Mapping[str, Launcher],
        payloads: Payloads,
        order_job: Callable[[TaskKey], JobOrder],
        describe_job: Callable[[TaskKey, str], Job],
        read_records: Callable[[Collection[TaskKey]], Mapping[TaskKey, Record]],
        keep_logs: Callable[[TaskKey, Path | int, float], None],
        holder: Callable[[TaskKey], Holder | None],
        run_facts: Callable[[], Mapping[str, JSON]],
        before_in_place: Callable[[float | None], None],
        signals: Interruption,
        limits: Mapping[str, TimeLimit],
    ) -> None:
        self._executor = executor
        # Asked once: it costs as much as a small job's submission.
        self._announcing = executor if isinstance(executor, AnnouncingExecutor) else None
        self._in_place = in_place
        self._max_workers = 1 if in_place else max_workers
        self._launchers = launchers
        self._payloads = payloads
        self._order_job = order_job
        self._describe_job = describe_job
        self._read_records = read_records
        self._keep_logs = keep_logs
        self._before_in_place = before_in_place
        self._signals = signals
        self._limits = limits
        self._clocks = Clocks()
        self._has_warned = False
        self._sizes = BatchSizes(self._max_workers)
        self._batches: set[Batch] = set()
        self._events: queue.SimpleQueue[Callable[[], list[Outcome]]] = queue.SimpleQueue()
        self._launched: dict[str, int] = dict.fromkeys(launchers, 0)
        self._launched_jobs: dict[TaskKey, UnderWay] = {}
        self._tokens: dict[TaskKey, str] = {}
        self._deaths: dict[TaskKey, int] = {}
        self._broken: BaseException | None = None
        self._cancelled = False
        self._cancelling: threading.Thread | None = None
        self._launches = Launches(self._launched_finished, self._saved, keep_logs, holder, run_facts)

    def room(self, count_ready: Callable[[str], int]) -> dict[str, int]:
        """How many more jobs each lane takes, given how many are ready for it."""
        idle = max(0, self._max_workers - len(self._batches))
        ready = count_ready(EXECUTOR_LANE)
        room = {EXECUTOR_LANE: min(idle, 1) if self._in_place else self._sizes.room(idle, ready)}
        for lane, launcher in self._launchers.items():
            most = launcher.max_jobs if launcher.max_jobs is not None else launcher.default_max_jobs
            room[lane] = most - self._launched[lane]
        return room

    def start(
        self,
        keys: Sequence[TaskKey],
        lane_of: Callable[[TaskKey], str],
        started: Callable[[Job], None] | None,
    ) -> None:
        """Submit jobs; failures come out of `wait`. `started` hears of each, if anybody does."""
        orders: dict[TaskKey, JobOrder] = {}
        begun: list[TaskKey] = []
        for key in keys:
            if self._signals.number:
                self._put(Outcome(key, "returned"))
                continue
            begun.append(key)
            lane = lane_of(key)
            try:
                order = self._order_job(key)
            except Exception as error:  # noqa: BLE001 - it is this job's failure, whatever it is
                self._put(Outcome(key, "failed", failure=describe(error)))
                continue
            if lane == EXECUTOR_LANE:
                orders[key] = order
            else:
                self._launch(self._describe_job(key, lane), lane, order)
        idle = max(1, self._max_workers - len(self._batches))
        # One with a time limit goes alone: others must not be ended with it.
        alone = [[key] for key in orders if key.name in self._limits]
        together = [key for key in orders if key.name not in self._limits]
        for part in [*alone, *self._sizes.split(together, idle)]:
            if self._signals.number:
                self._put(*[Outcome(key, "returned") for key in part])
            else:
                self._submit([orders[key] for key in part])
        if started is not None:
            for key in begun:
                started(self._describe_job(key, lane_of(key)))

    def wait(self, timeout: float | None = None) -> list[Outcome]:
        """The next outcomes; waits for one at most `timeout` seconds."""
        outcomes: list[Outcome] = []
        pause = self._clocks.pause
        if pause is not None:
            timeout = pause if timeout is None else min(timeout, pause)
        with contextlib.suppress(queue.Empty):
            outcomes += self._events.get(timeout=timeout)()
            while True:
                outcomes += self._events.get_nowait()()
        if pause is not None:
            self._clocks.look()
        return outcomes

    def wake(self) -> None:
        """Have `wait` come back, if with nothing; from a signal handler too."""
        self._events.put(list)

    def recall(self) -> None:
        """Take back what was submitted and has not begun."""
        for batch in list(self._batches):
            batch.recalled = True
            if batch.future is not None:
                batch.future.cancel()

    def cancel(self) -> None:
        """Begin to end every job under way: outcomes "cancelled" follow for what can be ended."""
        if self._cancelled:
            return
        self._cancelled = True
        self.recall()
        self._kill()
        if any(self._launched.values()):
            # Launchers may take their time, or hang: meanwhile the others are heard of.
            self._cancelling = threading.Thread(
                target=self._launches.cancel, name="taskproc-cancel", daemon=True
            )
            self._cancelling.start()

    def kill_at_once(self) -> None:
        """Kill the launched clients; the workers of our own end with this process. For a signal handler."""
        self._launches.kill_at_once()

    def leave(self) -> list[Left]:
        """What still runs and can't be ended; what is stored of it by now comes out of `wait`."""
        left: list[Left] = []
        for batch in self._batches:
            if batch.future is None or batch.future.done() or hasattr(batch.future, "kill"):
                continue
            outcomes = self._stored(batch)
            self._put(*outcomes)
            for outcome in outcomes:
                batch.open.pop(outcome.key, None)
            running = [job.key for job in _at_work(batch, None).jobs]
            left.append(Left(batch.future, list(batch.open), running))
        return left

    def _kill(self) -> None:
        for batch in list(self._batches):
            kill = getattr(batch.future, "kill", None)
            if kill is not None and batch.open:
                kill()

    @property
    def ending(self) -> bool:
        """Whether jobs are under way that `cancel` ends, so that their outcomes will come."""
        killable = any(hasattr(batch.future, "kill") for batch in self._batches)
        return killable or any(self._launched.values())

    def at_work(self) -> AtWork:
        """What runs now: of each batch the job its worker is at, and every launched job."""
        # What runs beside us in threads, or in place, runs in this process.
        here = os.getpid() if self._in_place or isinstance(self._executor, ThreadPoolExecutor) else None
        batches = [_at_work(batch, here) for batch in self._batches]
        jobs = [job for answer in batches for job in answer.jobs]
        return AtWork([*jobs, *self._launched_jobs.values()], all(answer.settled for answer in batches))

    @property
    def busy(self) -> bool:
        """Whether the executor still has jobs of ours."""
        return any(batch.future is not None and not batch.future.done() for batch in self._batches)

    def close(self) -> None:
        """Stop watching. What is under way still, where a second Ctrl-C ended `cancel`, is killed."""
        self._kill()
        if self._cancelling is not None:
            self._cancelling.join(_CANCEL_SECONDS)  # it also removes what the jobs leave
        self._launches.close()

    def _put(self, *outcomes: Outcome) -> None:
        self._events.put(lambda: list(outcomes))

    # --- the executor's lane ---

    def _submit(self, orders: Sequence[JobOrder]) -> None:
        keys = [order.key for order in orders]
        batch = Batch(keys, {order.key: order.token for order in orders}, started=time.monotonic())
        batch.open = dict.fromkeys(keys)
        payload = self._payloads.batch(orders)
        self._batches.add(batch)
        if self._in_place:
            self._before_in_place(self._sizes.expected(keys[0].name))
        try:
            if self._broken is not None:
                raise self._broken
            future = self._submitted(batch, payload)
            batch.future = future
            if keys[0].name in self._limits:
                self._limit(keys[0], future)
            future.add_done_callback(lambda _: self._events.put(lambda: self._done(batch)))
        except Exception as error:  # noqa: BLE001 - whatever a stranger's submit raises
            broken = error
            self._events.put(lambda: self._lost(batch, broken))
        except KeyboardInterrupt:  # a job in place was broken off; it may just have been saved
            self._cancelled = True
            self._events.put(lambda: self._lost(batch, RuntimeError("broken off")))
            raise

    def _limit(self, key: TaskKey, future: Future[Any]) -> None:
        """See to it that a job keeps its time limit; its worker does that itself where we can't."""
        kill = getattr(future, "kill", None)
        tell = getattr(future, "progress", None)
        if kill is not None and tell is not None:

            def has_begun() -> float | None:
                known = tell()
                return time.monotonic() if known is not None and known[1] is not None else None

            self._clocks.start(key, self._limits[key.name], has_begun, lambda _: kill())
        elif (
            self._announcing is not None
            or isinstance(self._executor, ThreadPoolExecutor)
            or (self._in_place and threading.current_thread() is not threading.main_thread())
        ):
            self._warn_of_limit(key)

    def _warn_of_limit(self, key: TaskKey) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the time limit of {key.name} ({self._limits[key.name].seconds:g} s) can't be kept: its "
                "tasks run in threads, which nothing can end; use processes, or a launcher",
                TimeLimitWarning,
                stacklevel=2,
            )

    def _submitted(self, batch: Batch, payload: bytes) -> Future[Any]:
        if self._announcing is not None:
            return self._announcing.submit_work(
                run_batch,
                payload,
                lambda message: self._events.put(lambda: self._reported(batch, message)),
            )
        if self._in_place:
            with self._signals.free():
                return self._executor.submit(run_batch, payload)
        return self._executor.submit(run_batch, payload)

    def _reported(self, batch: Batch, message: bytes) -> list[Outcome]:
        return self._close(batch, unpack_answers(message))

    def _close(self, batch: Batch, answers: list[Answer]) -> list[Outcome]:
        for answer in answers:
            outcome = answer.outcome
            self._payloads.remember(answer)
            batch.open.pop(outcome.key, None)
            if outcome.kind == "finished":
                self._sizes.saw(outcome.key, outcome.seconds)
            limit = self._limits.get(outcome.key.name)
            if limit is not None:
                self._clocks.stop(outcome.key)
                if outcome.kind == "finished" and outcome.seconds > 1 + 2 * limit.seconds:
                    self._warn_of_limit(outcome.key)  # some thread of somebody's executor
        return [answer.outcome for answer in answers]

    def _done(self, batch: Batch) -> list[Outcome]:
        future = batch.future
        self._batches.discard(batch)
        if future is None or future.cancelled():
            return self._lost(batch, CancelledError())
        error = future.exception()
        if error is not None:
            return self._lost(batch, error)
        try:
            outcomes = self._close(batch, unpack_answers(future.result()))
        except Exception as garbled:  # noqa: BLE001 - a stranger's executor may return anything
            return self._lost(batch, _garbled(garbled))
        # Else nobody would ever hear of these.
        return outcomes + self._lost(batch, _garbled("jobs are missing")) if batch.open else outcomes

    def _lost(self, batch: Batch, error: BaseException) -> list[Outcome]:
        """What became of a batch that did not answer: its records tell, then the error."""
        self._batches.discard(batch)
        if isinstance(error, CancelledError):
            return [self._taken_back(batch, key) for key in batch.open]
        seconds = time.monotonic() - batch.started
        too_long = self._clocks.stop(batch.keys[0])
        outcomes = self._stored(batch)
        stored = {outcome.key for outcome in outcomes}
        for key in batch.open:
            if key in stored:
                if isinstance(error, WorkerDiedError):
                    self._keep_lost_output(batch, key, error)
                continue
            if self._cancelled:
                outcomes.append(Outcome(key, "cancelled", seconds if _was_begun(batch, key, error) else 0.0))
            else:
                outcomes.append(self._unsaved(batch, key, error, seconds, too_long))
        return outcomes

    def _keep_lost_output(self, batch: Batch, key: TaskKey, error: WorkerDiedError) -> None:
        """Keep what the job printed that a worker died at: that of those before it is kept."""
        if error.pid is not None and error.position == batch.keys.index(key):
            self._keep_logs(key, error.pid, time.time() - (time.monotonic() - batch.started))

    def _stored(self, batch: Batch) -> list[Outcome]:
        """The outcomes of those jobs of a batch that are not answered, and whose results are stored."""
        seconds = (time.monotonic() - batch.started) / len(batch.keys)
        records = self._read_records(batch.open)
        return [
            Outcome(key, "finished", seconds, record=record)
            for key, record in records.items()
            if record.provenance.get("job") == batch.tokens[key]
        ]

    def _taken_back(self, batch: Batch, key: TaskKey) -> Outcome:
        """A job of a cancelled future; an executor that cancels by itself gets it a few times."""
        if self._cancelled:
            return Outcome(key, "cancelled")
        if not batch.recalled:
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] >= _MAX_UNSTARTED_DEATHS:
                error = ExecutorBrokenError("the executor cancels what it is given")
                return Outcome(key, "failed", failure=describe(error))
        return Outcome(key, "returned")

    def _unsaved(
        self, batch: Batch, key: TaskKey, error: BaseException, seconds: float, too_long: Failure | None
    ) -> Outcome:
        """A job of a lost batch that left no record: the guilty one fails, the rest try again."""
        if isinstance(error, WorkerDiedError):
            position = error.position
            if position is not None and batch.keys.index(key) == position:
                self._keep_lost_output(batch, key, error)
                died = too_long or Failure("worker died", str(error))
                return Outcome(key, "failed", seconds, failure=died)
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] < _MAX_UNSTARTED_DEATHS:
                return Outcome(key, "returned")
            return Outcome(key, "failed", seconds, failure=Failure("worker died", str(error)))
        if isinstance(error, BrokenExecutor):
            self._broken = ExecutorBrokenError(f"executor broken: {type(error).__name__}: {error}")
            return Outcome(key, "failed", seconds, failure=describe(self._broken))
        return Outcome(key, "failed", seconds, failure=describe(error))

    # --- the launchers' lanes ---

    def _launch(self, job: Job, lane: str, order: JobOrder) -> None:
        spool = str(spool_of_launched(job.job_directory))
        self._launched_jobs[job.key] = UnderWay(job.key, time.monotonic(), spool=spool, label=lane)
        self._tokens[job.key] = order.token
        self._launched[lane] += 1
        launcher = self._launchers[lane]
        argv = worker_command(launcher.python)
        try:
            self._launches.start(job, launcher, [*argv, job.job_directory], self._payloads.batch([order]))
            key = job.key
            if key.name in self._limits:
                self._clocks.start(
                    key,
                    self._limits[key.name],
                    lambda: self._launches.started(key),
                    lambda failure: self._launches.end(key, failure),
                )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the command may be a plugin's
            self._launched_finished(Outcome(job.key, "failed", failure=describe(error)))

    def _launched_finished(self, outcome: Outcome) -> None:
        def take() -> list[Outcome]:
            self._clocks.stop(outcome.key)
            self._launched[self._launched_jobs.pop(outcome.key).label] -= 1
            return [outcome]

        self._events.put(take)

    def _saved(self, job: Job) -> Outcome | None:
        """The outcome of a launched job by its record alone."""
        record = self._read_records([job.key]).get(job.key)
        if record is None or record.provenance.get("job") != self._tokens.get(job.key):
            return None
        return Outcome(job.key, "finished", float(record.provenance.get("seconds", 0.0)), record=record)


def _at_work(batch: Batch, here: int | None) -> AtWork:
    """The job of a batch that runs: what its future tells, or else the first that is not answered."""
    if not batch.open:
        return AtWork((), settled=True)
    first = next(iter(batch.open))
    tell: Callable[[], tuple[int | None, int | None] | None] | None = getattr(batch.future, "progress", None)
    if tell is None:
        started = batch.started if first == batch.keys[0] else None
        return AtWork([UnderWay(first, started, here)], settled=True)
    known = tell()
    if known is None:  # it waits for a worker, or is over
        return AtWork((), settled=False)
    pid, position = known
    key = batch.keys[position] if position is not None and position < len(batch.keys) else first
    key = key if key in batch.open else first
    started = batch.started if key == batch.keys[0] else None
    return AtWork([UnderWay(key, started, pid)], settled=position is not None and len(batch.open) == 1)


def _was_begun(batch: Batch, key: TaskKey, error: BaseException) -> bool:
    """Whether a job of a batch whose worker died had been begun."""
    if not isinstance(error, WorkerDiedError):
        return True
    return error.position is not None and batch.keys.index(key) <= error.position


def _garbled(fault: object) -> ExecutorBrokenError:
    return ExecutorBrokenError(f"executor broken: what it returned is not a batch's answer: {fault}")


def worker_command(python: str | None = None) -> list[str]:
    """The command that starts a worker, as plain words; it finds this library in any case."""
    # What `-O` leaves out of the runner's code it leaves out of the workers' as well.
    optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    command = [python or sys.executable, *optimised, "-P", "-m", "taskproc.engine.worker"]
    folder = str(Path(taskproc.__file__).parent.parent)
    if is_installed(taskproc.__file__) or is_on_path_of_others(folder):
        return command
    known = os.environ.get("PYTHONPATH")
    return ["env", f"PYTHONPATH={folder}{os.pathsep + known if known else ''}", *command]
