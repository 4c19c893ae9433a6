"""One run: the loop between the scheduler on one side, and dispatch, cache and hooks on the other.

Decides nothing itself: freshness says what is stale, the scheduler what may start.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from taskproc.core.definition import task_labels
from taskproc.core.freshness import code_mode, is_unchanged, named_code
from taskproc.core.records import (
    Event,
    Failure,
    Job,
    Outcome,
    Record,
    RunReport,
    RunStats,
    TaskKey,
)
from taskproc.core.schedule import Scheduler
from taskproc.core.task import Task
from taskproc.engine.board import Board, Subject
from taskproc.engine.dispatch import EXECUTOR_LANE, Dispatch, Left, worker_command
from taskproc.engine.doubts import Doubts, refuse_blocked
from taskproc.engine.elsewhere import RETRY_SECONDS, Elsewhere
from taskproc.engine.failure import failed_task_error, how_far
from taskproc.engine.interruption import Interruption, interruptible
from taskproc.engine.jobs import JobOrder, Payloads
from taskproc.engine.launched_jobs import Leftovers
from taskproc.engine.lost_output import keep_lost_output, remove_spools
from taskproc.engine.opened_run import spool_of_worker
from taskproc.engine.options import (
    RunOptions,
    RunSetup,
    check_commands,
    read_options,
    warn_unknown_labels,
)
from taskproc.engine.orders import launched_job, order_of_run, plain_job
from taskproc.engine.session import Cache
from taskproc.engine.statistics import Statistics
from taskproc.engine.time_limits import time_limit_of
from taskproc.engine.versions import who_we_are
from taskproc.errors import (
    DamagedEntryError,
    DamagedEntryWarning,
    FailedTaskError,
    MissingResultError,
    PluginError,
    TaskprocError,
)
from taskproc.imports import no_stale_bytecode, refuse_stale_modules
from taskproc.interfaces import AnnouncingExecutor
from taskproc.registry.components import in_one_line
from taskproc.registry.listeners import RunListeners

_DRAIN_SECONDS = 4.0
_THREADS_SECONDS = 2.0
_TELL_SECONDS = 1.0
_LOG = logging.getLogger("taskproc")


def run(cache: Cache, task: Task, options: RunOptions) -> tuple[Any, RunStats]:
    """Run a task after whatever upstream is stale; see `Task.run_graph`."""
    with interruptible() as signals:
        signals.check()  # somebody may have swallowed what it raised
        setup = read_options(options, cache.registry)
        refuse_stale_modules()
        cache.registry.load_all()
        one = Run(cache, task, options, setup, signals)
        return one.execute()


class Run:
    """The state of one run."""

    def __init__(
        self, cache: Cache, task: Task, options: RunOptions, setup: RunSetup, signals: Interruption
    ) -> None:
        self._signals = signals
        self._cache = cache
        self._backend = cache.backend
        self._task = task
        self._options = options
        self._setup = setup
        survey = cache.survey(task, code_mode(options.detect_source_change, options.code), options.force)
        self._graph, self._records, self._now, self._plan = survey
        refuse_blocked(self._plan)
        self._nodes = self._graph.nodes
        self._classes = {key.name: type(node.task) for key, node in self._nodes.items()}
        self._labels = {name: task_labels(cls) for name, cls in self._classes.items()}
        self._limits = {
            name: limit
            for name, cls in self._classes.items()
            if (limit := time_limit_of(cls, self._labels[name], setup.timeouts)) is not None
        }
        self._lanes = {name: self._lane(labels) for name, labels in self._labels.items()}
        warn_unknown_labels(setup, (label for labels in self._labels.values() for label in labels))
        check_commands(setup.launchers, {self._lanes[key.name] for key in self._plan.run})
        self._id = secrets.token_hex(8)
        self._leftovers = Leftovers(self._backend, self._id)
        self._left: list[Left] = []
        self._cancelled: list[TaskKey] = []
        self._jobs = 0
        self._listeners: RunListeners = cache.registry.listen(setup.reporters)
        # Asked once: a moment for each job costs nothing where nobody hears it.
        self._tell_started: Callable[[Job], None] | None = None
        if self._listeners.hears("taskproc_job_started"):
            self._tell_started = lambda job: self._listeners.notify("taskproc_job_started", job)
        self._statistics = Statistics(self._plan)
        self._failures: list[Outcome] = []
        self._elsewhere = Elsewhere(self._backend.holder)
        self._leased: set[TaskKey] = set()
        self._doubts = Doubts()
        # By the number of a job's order it is told whether what it found damaged was before its time.
        self._order_numbers: dict[TaskKey, int] = {}
        self._set_aside_at: dict[TaskKey, int] = {}
        self._refused: dict[TaskKey, Record] = {}  # of which the result was found damaged
        self._scheduler = Scheduler(
            self._plan.run,
            upstreams_of=lambda key: [up.key for up in self._nodes[key].upstreams],
            labels_of=lambda key: self._labels[key.name],
            lane_of=self._lane_of,
            rate_limits=setup.rate_limits,
            on_error=options.on_error,
        )

        self._board = Board(
            self._backend,
            Subject(
                run=self._id,
                plan=self._plan,
                counts=lambda: self._scheduler.counts,
                statistics=self._statistics.result,
                args_of=lambda key: self._nodes[key].task._task.args,
                captured=not self._in_place,
            ),
        )

    def execute(self) -> tuple[Any, RunStats]:
        """Run to the end; returns the answer and the statistics."""
        status: Literal["finished", "failed", "interrupted"] = "interrupted"
        try:
            # What a task imports in this process is the code of now as well.
            with self._cache.in_use(), no_stale_bytecode():
                try:
                    self._signals.check()
                    self._listeners.notify("taskproc_run_started", self._plan)
                    answer = self._run_and_load()
                finally:
                    with self._signals.held(_nothing):
                        self._backend.release(list(self._leased))  # of jobs that were interrupted
                        self._backend.index()
                        self._backend.rest()
            self._signals.check()
            status = "finished"
        except Exception:
            status = "interrupted" if self._signals.number else "failed"
            raise
        except BaseException:
            self._tell_interrupted()
            raise
        finally:
            stats = self._statistics.result()
            report = RunReport(self._plan, stats, status, tuple(self._failures))
            with self._signals.held(_nothing):  # reporters give the terminal back
                self._listeners.notify("taskproc_run_finished", report)
        return answer, stats

    def _run_and_load(self) -> Any:
        if self._plan.run:
            self._loop()
        while True:
            self._raise_failures()
            try:
                # The very result of this run, or of its look: another run may store its own meanwhile.
                return self._cache.load_result(self._task, self._records.get(self._graph.root))
            except (DamagedEntryError, MissingResultError):
                root = self._graph.root
                self._set_aside([root])
                if self._scheduler.damaged(None, [root]) is not None:
                    raise
                self._loop()

    def _loop(self) -> None:
        signals = self._signals
        with contextlib.ExitStack() as ends:  # all of them, whatever a second Ctrl-C interrupts
            ends.enter_context(signals.held(_nothing))
            executor, close = self._open_executor()
            ends.callback(setattr, signals, "kill", _nothing)
            ends.callback(self._tidy)
            ends.callback(close)
            dispatch = self._dispatch(executor)
            ends.callback(self._board.take_down)
            ends.callback(dispatch.close)
            signals.kill = dispatch.kill_at_once
            if self._in_place:
                ends.enter_context(signals.listening_in_c())
            self._board.put_up(dispatch.at_work)
            with signals.held(dispatch.wake):
                self._work(dispatch)
                self._leftovers.tidy()
        signals.check()

    def _work(self, dispatch: Dispatch) -> None:
        scheduler = self._scheduler
        signals = self._signals
        try:
            while not scheduler.finished:
                signals.check()
                more = self._start(dispatch)
                self._board.refresh()
                patience = 0 if more else RETRY_SECONDS if self._elsewhere else None
                for outcome in dispatch.wait(self._board.patience(patience)):
                    if signals.number:  # before anything is told of it: others may take their time
                        self._stop(dispatch)
                    self._take(outcome, dispatch)
        except BaseException:
            self._stop(dispatch)
            self._drain(dispatch)
            raise

    def _start(self, dispatch: Dispatch) -> bool:
        """Submit what may start, as far as the leases are ours.

        Returns whether some of it was found done or under way elsewhere: then more may start at
        once, and there may be nothing of ours to wait for.
        """
        scheduler = self._scheduler
        retried = self._elsewhere.due()
        for key in retried:
            scheduler.retry(key)
        keys = scheduler.ready(dispatch.room(scheduler.count_ready))
        if not keys:
            return False
        if self._options.early_cutoff:
            spared = dict.fromkeys(key for key in keys if self._is_spared(key))
            for key in spared:
                self._take(Outcome(key, "unchanged", record=self._records[key]), dispatch)
            keys = [key for key in keys if key not in spared]
            if not keys:
                return True
        granted = self._backend.lease(keys)
        self._leased.update(granted)
        stored = self._backend.look_up(keys)
        mine: list[TaskKey] = []
        for key in keys:
            # Who stored it may hold its claim still: stopped, or not there yet.
            if self._done_elsewhere(key, stored.get(key)):
                self._take(Outcome(key, "done elsewhere", record=stored[key]), dispatch)
                self._elsewhere.moved()
            elif key in granted:
                mine.append(key)
            else:
                scheduler.postponed(key)
                self._elsewhere.add(key)
        # What we waited for and is not done is ours now, as its holder died or gave up.
        self._leftovers.end_jobs(self._setup.launchers.values(), again=not set(retried).isdisjoint(mine))
        dispatch.start(mine, self._lane_of, self._tell_started)
        if mine:
            self._elsewhere.moved()
        self._elsewhere.tell(has_own_jobs=bool(self._leased))
        return len(mine) < len(keys)

    def _done_elsewhere(self, key: TaskKey, record: Record | None) -> bool:
        """Whether another runner stored, since our look, just what this job would store."""
        if record is None:
            return False
        known = self._records.get(key) or self._refused.get(key)
        if known is not None and known.provenance.get("job") == record.provenance.get("job"):
            return False
        return is_unchanged(self._nodes[key], record, self._records, self._now)

    def _is_spared(self, key: TaskKey) -> bool:
        """Whether a task was to run only for upstreams that have come to the same content again."""
        reason = self._plan.run.get(key)
        if reason is None or reason.kind != "upstream_runs":
            return False
        if self._now.force and key == self._graph.root:
            return False
        return is_unchanged(self._nodes[key], self._records.get(key), self._records, self._now)

    def _take(self, outcome: Outcome, dispatch: Dispatch) -> None:
        """Tell the scheduler, the statistics and the listeners how a job ended."""
        key = outcome.key
        scheduler = self._scheduler
        number = self._order_numbers.pop(key, 0)
        if outcome.kind == "damaged":
            # What was set aside since this job was ordered is computed again in any case.
            damaged = [up for up in outcome.damaged if self._set_aside_at.get(up, -1) < number]
            self._set_aside(damaged)
            culprit = scheduler.damaged(key, damaged)
            if culprit is None:
                self._release(key)
                return
            failure = Failure(
                "DamagedEntryError", f"the stored result of {culprit} was damaged again and again"
            )
            outcome = Outcome(key, "failed", outcome.seconds, failure=failure)
        self._release(key)
        if outcome.kind == "returned":
            scheduler.returned(key)
            return
        if outcome.kind == "cancelled" and outcome.seconds:  # else it had not begun
            self._cancelled.append(key)
        if outcome.kind in ("finished", "done elsewhere", "unchanged"):
            if outcome.record is not None:
                self._records[key] = outcome.record
                self._doubts.raised_by(self._nodes[key], outcome.record)
            scheduler.succeeded(key)
        else:
            if outcome.kind == "failed":
                self._failures.append(outcome)
                self._board.note_failure(outcome)
            scheduler.failed(key)
            if scheduler.stopped:
                dispatch.recall()
        waited = self._statistics.ended(outcome, [up.key for up in self._nodes[key].upstreams])
        if self._listeners.hears("taskproc_job_finished"):
            self._listeners.notify("taskproc_job_finished", replace(outcome, waited=waited))

    def _release(self, key: TaskKey) -> None:
        self._leased.discard(key)
        self._backend.release([key])

    def _stop(self, dispatch: Dispatch) -> None:
        """Start nothing any more, and end what runs."""
        self._signals.heed()
        self._scheduler.stop()
        dispatch.cancel()

    def _drain(self, dispatch: Dispatch) -> None:
        """After a cancellation: hear of every job that was under way, within a few seconds."""
        begun = time.monotonic()
        seconds = min(_DRAIN_SECONDS, self._signals.left) if self._signals.number else _DRAIN_SECONDS
        told = False
        while (waited := time.monotonic() - begun) < seconds:
            # What nothing can end, and nobody else waits for, may just be about to finish.
            ours = dispatch.busy and self._setup.executor is None and waited < _THREADS_SECONDS
            if not (dispatch.ending or ours):
                break
            if waited > _TELL_SECONDS and not told and self._signals.number:
                told = True
                _LOG.warning("ending what runs; a second Ctrl-C leaves at once")
            for outcome in dispatch.wait(0.1):
                self._take(outcome, dispatch)
        self._leave(dispatch)

    def _leave(self, dispatch: Dispatch) -> None:
        """Let jobs that nothing can end, in threads and in executors of others, keep their claims."""
        self._left = dispatch.leave()
        for outcome in dispatch.wait(0):
            self._take(outcome, dispatch)
        for future, keys, _ in self._left:
            self._leased.difference_update(keys)
            stay = contextlib.ExitStack()
            stay.enter_context(self._cache.in_use())
            stay.callback(self._backend.release, keys)
            future.add_done_callback(partial(_close, stay))
            if self._setup.executor is None:
                self._signals.before_leaving.append(stay.close)

    def _tell_interrupted(self) -> None:
        """Say how far the run came: to the command, which tells it, or in the log."""
        signals = self._signals
        signals.heed()
        left = [key for one in self._left for key in one.running]
        signals.summary = how_far(
            self._statistics.result(), self._scheduler.counts, self._cancelled, left, len(self._failures)
        )
        if not signals.of_command:
            _LOG.warning("interrupted%s: %s", f" by {signals.name}" if signals.name else "", signals.summary)

    def _set_aside(self, keys: Collection[TaskKey]) -> None:
        """Take stored results out of use that could not be read as their records have it."""
        for key in keys:
            known = self._records.pop(key, None)
            if known is None or self._scheduler.status(key) not in (None, "done"):
                continue
            if not self._is_replaced(key, known):
                self._set_one_aside(key, known)
            self._set_aside_at[key] = self._jobs
            if self._scheduler.status(key) is None:
                self._statistics.uncached(key)

    def _set_one_aside(self, key: TaskKey, known: Record) -> None:
        """The same for one, unless another run is at work there: it may just be replacing it."""
        self._refused[key] = known
        granted = self._backend.lease([key])
        try:
            if granted and not self._is_replaced(key, known):
                warnings.warn(
                    f"the stored result of {self._nodes[key].task!r} is damaged or gone; it is set aside in "
                    f"{self._backend.location} and computed again",
                    DamagedEntryWarning,
                    stacklevel=3,
                )
                self._backend.set_aside(key)
                self._backend.note(Event("damaged", key, time.time(), who_we_are()))
        finally:
            self._backend.release(granted)

    def _is_replaced(self, key: TaskKey, known: Record) -> bool:
        """Whether another run has stored a sound result of its own since our look."""
        record = self._backend.look_up([key]).get(key)
        if record is None or record.provenance.get("job") == known.provenance.get("job"):
            return False
        try:
            self._backend.load(key, record.digest)
        except (DamagedEntryError, MissingResultError):
            return False
        return True

    def _raise_failures(self) -> None:
        """Raise what failed: the first with notes of the others, or all of them as a group."""
        errors = [self._error_of(outcome) for outcome in self._failures]
        if not errors:
            return
        if self._options.on_error == "continue":
            raise ExceptionGroup(f"{len(errors)} task{'s' * (len(errors) > 1)} failed", errors)
        first, *others = errors
        for other in others:
            first.add_note(f"also failed: {other}")
        raise first

    def _error_of(self, outcome: Outcome) -> FailedTaskError:
        paths = self._backend.log_paths(outcome.key)
        args = self._nodes[outcome.key].task.task_args
        # Where nothing was captured, or nothing began, the logs are those of an older run.
        uncaptured = self._in_place and self._lane_of(outcome.key) == EXECUTOR_LANE
        captured = outcome.seconds > 0 and not uncaptured
        logs = [("stdout", paths.stdout), ("stderr", paths.stderr)] if captured else []
        return failed_task_error(outcome, args, logs)

    # --- what dispatch needs ---

    def _open_executor(self) -> tuple[Executor, Callable[[], None]]:
        setup = self._setup
        if setup.executor is not None:
            return setup.executor, lambda: None
        if setup.provider is None:  # for the type checkers: one of the two is given
            raise RuntimeError("no executor")
        name = setup.provider.name
        try:
            executor: Any = setup.provider.open(setup.max_workers, worker_command())
        except (Exception, SystemExit) as error:
            raise PluginError(f"executor {name!r} could not be opened: {in_one_line(error)}") from error
        if not isinstance(executor, Executor):
            raise PluginError(
                f"executor {name!r}: open() gave {executor!r}, not a concurrent.futures.Executor"
            )
        return executor, lambda: executor.shutdown(wait=not self._left, cancel_futures=True)

    @property
    def _in_place(self) -> bool:
        return self._setup.provider is not None and self._setup.provider.in_place

    def _dispatch(self, executor: Executor) -> Dispatch:
        runner_ends = isinstance(executor, AnnouncingExecutor)
        # Jobs in this very process run the code that is here.
        stale: dict[str, set[str]] = {}
        for key in () if self._in_place else self._plan.run:
            names = named_code(self._nodes[key], self._records)
            stale.setdefault(key.name, set()).update(names)
        order = order_of_run(
            self._id,
            self._backend,
            self._classes,
            self._now.code_scheme,
            captured=not self._in_place,
            checks={
                name: self._cache.codes.checks(self._classes[name], names) for name, names in stale.items()
            },
            limits={} if runner_ends else self._limits,
        )
        payloads = Payloads(order, self._classes)
        return Dispatch(
            executor=executor,
            in_place=self._in_place,
            max_workers=self._setup.max_workers,
            launchers=self._setup.launchers,
            payloads=payloads,
            order_job=lambda key: self._order_job(payloads, key),
            describe_job=self._describe_job,
            read_records=self._backend.look_up,
            keep_logs=self._keep_logs,
            holder=self._backend.holder,
            run_facts=lambda: {"run": self._id, "ticket": self._backend.ticket()},
            before_in_place=self._board.before_in_place,
            signals=self._signals,
            limits=self._limits,
        )

    def _order_job(self, payloads: Payloads, key: TaskKey) -> JobOrder:
        self._jobs += 1
        self._order_numbers[key] = self._jobs
        node = self._nodes[key]
        token = f"{self._id}-{self._jobs}"
        facts = self._cache.facts_of_job(node, self._records, self._now)
        self._cache.codes.keep(type(node.task), named_code(node, self._records), facts["code"])
        ticket = self._backend.ticket()
        return payloads.job(node, self._records, self._nodes, token=token, ticket=ticket, **facts)

    def _keep_logs(self, key: TaskKey, spool: Path | int, since: float) -> None:
        """Keep what a task printed whose worker could not: it died."""
        if isinstance(spool, int):
            spool = spool_of_worker(self._backend.scratch(), self._id, spool)
        keep_lost_output(self._backend, key, spool, since)

    def _tidy(self) -> None:
        """Remove what jobs have left that were ended, or died: what they printed, and their claims."""
        ended = [*self._cancelled, *(outcome.key for outcome in self._failures)]
        launched = [key for key in ended if self._lane_of(key) != EXECUTOR_LANE]
        with contextlib.suppress(OSError, TaskprocError):
            if launched:  # a look at claims removes those of jobs that are dead by now
                self._backend.release(self._backend.lease(launched))
        with contextlib.suppress(OSError):
            remove_spools(self._backend.scratch(), self._id)

    def _lane(self, labels: Sequence[str]) -> str:
        return next((label for label in labels if label in self._setup.launchers), EXECUTOR_LANE)

    def _lane_of(self, key: TaskKey) -> str:
        return self._lanes[key.name]

    def _describe_job(self, key: TaskKey, lane: str) -> Job:
        task = self._nodes[key].task
        labels = self._labels[key.name]
        if lane == EXECUTOR_LANE:
            return plain_job(task, labels)
        return launched_job(task, labels, lane, self._backend, self._id)


def _nothing() -> None:
    return None


def _close(stay: contextlib.ExitStack, future: object) -> None:
    stay.close()
