"""Run launched jobs: one client process a job, all watched by one thread.

The record on disk decides success, never the exit code; the exit code only explains a
missing record. A client may hang when its job is done, or end while its job goes on, and a
launcher may hang when it is asked anything: none of it holds up other jobs, and no job is
given up as long as its worker holds its claim. Knows nothing of scheduling.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from taskproc.core.records import JSON, Failure, Holder, Job, Outcome, TaskKey
from taskproc.engine import job_folder
from taskproc.engine.client_starts import ClientStarts
from taskproc.engine.clients import (
    PATIENCE_SECONDS,
    Client,
    end_clients,
    explanation,
    signal_clients,
    start_cancelling,
)
from taskproc.engine.exit_watch import ExitWatch
from taskproc.engine.failure import describe, last_lines, launched_failure
from taskproc.engine.jobs import unpack_answers
from taskproc.engine.opened_run import spool_of_launched
from taskproc.interfaces import Launcher

_LATE_RECORD_SECONDS = 5.0
_LATE_FAILURE_SECONDS = 0.5
_HUNG_CLIENT_SECONDS = 5.0
"""How long a client may take to end when its job has told its outcome."""
_GLANCE_SECONDS = 0.5
_GLANCE_COST = 50
"""Glances take at most the 50th part of the time."""
_FIRST_PAUSE, _LONGEST_PAUSE, _HELD_PAUSE = 0.02, 0.25, 1.0
_MAX_RETURNS = 3
_NO_ANSWER = "(the launcher does not answer when it is asked to explain it)"
_LOG = logging.getLogger("taskproc")


class Launches:
    """The launched jobs of one run.

    Args:
        finished: called with each outcome, on a thread of this object.
        is_saved: tells, of a job without an outcome file, whether its record is there.
        keep_logs: keeps what a task printed whose worker did not tell its outcome, from its spool; the
            last argument is a time (Unix) at which it had not begun.
        holder: who else holds a task's claim now.
        facts: what names the run to those who come after it, written into each job's folder.
    """

    def __init__(
        self,
        finished: Callable[[Outcome], None],
        is_saved: Callable[[Job], Outcome | None],
        keep_logs: Callable[[TaskKey, Path, float], None],
        holder: Callable[[TaskKey], Holder | None] = lambda _: None,
        facts: Callable[[], Mapping[str, JSON]] = dict,
    ) -> None:
        self._finished = finished
        self._is_saved = is_saved
        self._keep_logs = keep_logs
        self._holder = holder
        self._lock = threading.Lock()
        self._clients: dict[TaskKey, Client] = {}
        self._new: list[Client] = []
        self._running: dict[subprocess.Popen[bytes], Client] = {}
        self._ended: list[Client] = []  # of the watching thread alone
        self._glance_at = 0.0
        self._returns: Counter[TaskKey] = Counter()
        self._silent: set[int] = set()  # launchers, by their ids
        self._starts = ClientStarts(self._has_started, self._not_started, facts)
        self._exits: ExitWatch | None = None
        self._watcher: threading.Thread | None = None
        self._closing = False
        self._cancelled = False

    # --- what the run asks ---

    def start(self, job: Job, launcher: Launcher, argv: list[str], orders: bytes) -> None:
        """Write a job's orders and start its client, soon: a launcher may take its time.

        Args:
            argv: the worker's command; `orders`: what it is to do.
        """
        client = Client(job, launcher, argv, orders)
        with self._lock:
            self._clients[job.key] = client
            if self._exits is None:
                self._exits = ExitWatch()
                self._watcher = threading.Thread(target=self._watch, name="taskproc-launches", daemon=True)
                self._watcher.start()
        self._starts.add(client)

    def started(self, key: TaskKey) -> float | None:
        """When the worker of a job under way was first seen to have begun (`time.monotonic()`)."""
        client = self._clients.get(key)
        return client.started if client is not None else None

    def end(self, key: TaskKey, reason: Failure) -> None:
        """End one job; unless its result is stored by then it has failed for this reason."""
        with self._lock:
            client = self._clients.get(key)
            if client is None or client.failure is not None:
                return
            client.failure = reason
        if client.process is None:
            self._tell(client, Outcome(key, "failed", client.seconds, failure=reason))
            return
        threading.Thread(target=self._end_one, args=(client,), name="taskproc-end", daemon=True).start()

    def cancel(self) -> None:
        """End all clients, and through their launchers what outlives a client; within 3 seconds."""
        with self._lock:
            self._cancelled = True
            clients = list(self._clients.values())
        for client in clients:
            if client.process is None:
                self._tell(client, Outcome(client.job.key, "cancelled", client.seconds))
        self._wake()
        for client in end_clients([client for client in clients if client.process is not None]):
            # What a launcher could not end stays for the next run, which needs to know of it.
            job_folder.remove(client.folder)
        self._wake()

    def kill_at_once(self) -> None:
        """SIGKILL for every client, and nothing else: for a signal handler, so without the lock."""
        clients = [*self._clients.values(), *self._running.values()]
        signal_clients([client for client in clients if client.process is not None], signal.SIGKILL)

    def close(self) -> None:
        """Stop watching. Every client has ended by then, unless a second Ctrl-C ended `cancel`."""
        with self._lock:
            self._closing = True
            clients = list(self._clients.values())
            self._cancelled = self._cancelled or bool(clients)
            running = list(self._running.values())
        for client in clients:
            if client.process is None:
                self._tell(client, Outcome(client.job.key, "cancelled", client.seconds))
        if running:
            signal_clients(running, signal.SIGKILL)
        threads = self._starts.close()
        self._wake()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in [*threads, *([self._watcher] if self._watcher is not None else [])]:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            if self._exits is not None and self._watcher is not None and not self._watcher.is_alive():
                self._exits.close()
                self._exits = None

    def _end_one(self, client: Client) -> None:
        end_clients([client])
        client.due = 0.0
        self._wake()
        time.sleep(PATIENCE_SECONDS)
        # A client that even SIGKILL does not end at once hangs in a disk, say: nobody waits for that.
        if not client.is_over:
            self._carefully(self._look_at_ended, client)

    def _wake(self) -> None:
        with self._lock:
            if self._exits is not None:
                self._exits.wake()

    # --- what the threads that start clients tell ---

    def _has_started(self, client: Client) -> None:
        with self._lock:
            self._new.append(client)
        if client.is_over and end_clients([client]):  # it was cancelled meanwhile
            job_folder.remove(client.folder)
        self._wake()

    def _not_started(self, client: Client, error: BaseException) -> None:
        job_folder.remove(client.folder)
        self._tell(client, Outcome(client.job.key, "failed", failure=describe(error)))

    # --- watching, on one thread ---

    def _watch(self) -> None:
        exits = self._exits
        while exits is not None:
            with self._lock:
                new, self._new = self._new, []
                for client in new:
                    if client.process is not None:
                        self._running[client.process] = client
                if self._closing and not self._running and not self._clients:
                    return
            for client in new:
                if client.process is not None:
                    exits.add(client.process)
            for process in exits.wait(self._timeout()):
                with self._lock:
                    client = self._running.pop(process)
                client.ended = time.monotonic()
                if not client.is_over:
                    self._ended.append(client)
            self._look()

    def _timeout(self) -> float | None:
        """How long there is nothing to look at, if no client ends."""
        due = [client.due for client in self._ended]
        if self._running:
            due.append(self._glance_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _look(self) -> None:
        now = time.monotonic()
        for client in self._ended:
            if client.due <= now or self._cancelled:
                self._carefully(self._look_at_ended, client)
        self._ended = [client for client in self._ended if not client.is_over]
        if self._running and now >= self._glance_at:
            for client in list(self._running.values()):
                self._carefully(self._glance_at_running, client)
            after = time.monotonic()
            self._glance_at = after + max(_GLANCE_SECONDS, _GLANCE_COST * (after - now))

    def _carefully(self, look: Callable[[Client], None], client: Client) -> None:
        try:
            look(client)
        except Exception as error:  # noqa: BLE001 - a cache's or a launcher's mistake fails this job only
            self._tell(client, Outcome(client.job.key, "failed", client.seconds, failure=describe(error)))

    def _glance_at_running(self, client: Client) -> None:
        """See whether the worker has begun, and whether a client hangs whose job is over."""
        now = time.monotonic()
        if client.is_over:
            if client.kill_at is not None and now >= client.kill_at:
                signal_clients([client], signal.SIGKILL)
            return
        try:
            names = os.listdir(client.folder)
        except OSError:
            return
        if client.started is None and job_folder.STARTED_FILE in names:
            client.started = now
        if job_folder.OUTCOME_FILE not in names:
            return
        client.answered = client.answered if client.answered is not None else now
        if now - client.answered < _HUNG_CLIENT_SECONDS:
            return
        outcome = self._outcome(client)
        if outcome is not None:
            client.kill_at = now + PATIENCE_SECONDS
            signal_clients([client], signal.SIGTERM)
            self._tell(client, outcome)

    def _look_at_ended(self, client: Client) -> None:
        """See whether the outcome of an ended client is known, or can't come any more."""
        outcome = self._outcome(client)
        if outcome is None and self._may_come(client):
            return
        if outcome is None or (client.failure is not None and outcome.kind != "finished"):
            outcome = self._no_record(client)
        self._tell(client, outcome)

    def _may_come(self, client: Client) -> bool:
        """Whether an outcome may still come: a disk is late, or the job goes on without its client."""
        if self._cancelled or client.failure is not None:
            return False
        now = time.monotonic()
        client.pause = min(2 * client.pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        client.due = now + client.pause
        returncode = client.process.returncode if client.process is not None else 1
        patience = _LATE_FAILURE_SECONDS if returncode else _LATE_RECORD_SECONDS
        if not client.is_orphan and now - client.ended < patience:
            return True
        if self._goes_on(client):
            client.ended, client.due = now, now + _HELD_PAUSE
            return True
        return client.is_orphan and now - client.ended < _LATE_RECORD_SECONDS

    def _goes_on(self, client: Client) -> bool:
        """Whether the job of an ended client still holds its claim."""
        # Before the question: a job that begins after it must not find its orders.
        job_folder.withdraw_orders(client.folder)
        holder = self._holder(client.job.key)
        if holder is None or not holder.is_job:
            return False
        if not client.is_orphan:
            client.is_orphan = True
            _LOG.warning(
                "the client of %s has ended, and its job goes on (%s): waiting for it",
                client.job.name, holder.words,
            )  # fmt: skip
        return True

    def _outcome(self, client: Client) -> Outcome | None:
        """The outcome that a job has told, or else that of its record once nobody is at it any more."""
        told = self._told(client)
        saved = self._is_saved(client.job) if told is None else None
        if saved is None or self._is_about_to_tell(client):
            return told
        told = self._told(client)  # it may have done so before it gave its claim back
        if told is None:
            self._keep_lost_output(client)
        return told or saved

    def _is_about_to_tell(self, client: Client) -> bool:
        """Whether a job whose record is stored still has its output to keep, and its outcome to tell."""
        if self._cancelled or client.failure is not None:
            return False
        holder = self._holder(client.job.key)
        is_held = holder is not None and holder.is_job
        return is_held and not (client.folder / job_folder.OUTCOME_FILE).exists()

    def _told(self, client: Client) -> Outcome | None:
        # Listing the folder makes a network file system look again.
        with contextlib.suppress(OSError):
            os.listdir(client.folder)
        try:
            (answer,) = unpack_answers(job_folder.read_sealed(client.folder / job_folder.OUTCOME_FILE))
        except Exception:  # noqa: BLE001 - half a file can raise anything, another version's too
            return None
        return answer.outcome

    def _keep_lost_output(self, client: Client) -> None:
        since = time.time() - client.seconds
        self._keep_logs(client.job.key, spool_of_launched(client.job.job_directory), since)

    def _no_record(self, client: Client) -> Outcome:
        job = client.job
        if self._cancelled:
            return Outcome(job.key, "cancelled", client.seconds)
        self._keep_lost_output(client)
        if client.failure is not None:
            return Outcome(job.key, "failed", client.seconds, failure=client.failure)
        if not client.folder.exists():
            # Another run took this one for dead, as it was stopped for long, and has ended the job.
            return Outcome(job.key, "returned")
        unwritten = job_folder.why_unwritten(client.folder)
        if unwritten is not None:
            return Outcome(job.key, "failed", client.seconds, failure=describe(unwritten))
        returncode = client.process.returncode if client.process is not None else 1
        if returncode < 0:  # a client that was killed may have left its job in a queue
            start_cancelling([(client.launcher, job)])
        stderr = last_lines(Path(job.stderr))
        explanation = self._explained(client, returncode, stderr)
        failure = launched_failure(job, client.argv, returncode, explanation)
        if stderr:
            failure = Failure(failure.type, f"{failure.message}; its stderr ends with:\n{stderr}")
        return Outcome(job.key, "failed", client.seconds, failure=failure)

    def _explained(self, client: Client, returncode: int, stderr: str) -> str:
        """What the launcher makes of it; one that did not answer is not asked again, as others wait."""
        launcher = client.launcher
        if id(launcher) in self._silent:
            return _NO_ANSWER
        told = explanation(launcher, returncode, stderr)
        if told is None:
            self._silent.add(id(launcher))
        return told if told is not None else _NO_ANSWER

    def _tell(self, client: Client, outcome: Outcome) -> None:
        """Tell the outcome of a job, once."""
        with self._lock:
            if client.is_over:
                return
            client.is_over = True
            self._clients.pop(client.job.key, None)
            if outcome.kind == "returned":
                self._returns[outcome.key] += 1
        if outcome.kind == "returned" and self._returns[outcome.key] >= _MAX_RETURNS:
            outcome = Outcome(outcome.key, "failed", outcome.seconds, failure=_never_done(client))
        # A failed one stays for a look at what its client printed; the others may be launched again.
        if outcome.kind in ("finished", "damaged", "returned"):
            job_folder.remove(client.folder)
        elif outcome.kind == "failed":
            job_folder.withdraw_orders(client.folder)
        self._finished(outcome)


def _never_done(client: Client) -> Failure:
    message = (
        f"the job {client.job.name} came back undone {_MAX_RETURNS} times: its worker could not claim the "
        "task in the cache (does its machine see the same cache, and the same locks there?), or its folder "
        "vanished"
    )
    return Failure("launched job", message)
