"""Run launched jobs: one client process a job, all watched by one thread.

The record on disk decides success, never the exit code; the exit code only explains a
missing record. Knows nothing of scheduling.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskproc.core.records import Failure, Job, Outcome, TaskKey
from taskproc.engine.failure import describe, last_lines, launched_failure
from taskproc.engine.jobs import unpack_answers
from taskproc.engine.opened_run import spool_of_launched
from taskproc.engine.worker import ORDERS_FILE, OUTCOME_FILE
from taskproc.errors import PluginError
from taskproc.interfaces import Launcher

_POLL_SECONDS = 0.02
_LATE_RECORD_SECONDS = 5.0
_LATE_FAILURE_SECONDS = 0.5


@dataclass
class Client:
    """One launched job under way."""

    job: Job
    launcher: Launcher
    argv: list[str]
    process: subprocess.Popen[bytes]
    started: float
    ended: float | None = None
    done: bool = False


class Launches:
    """The launched jobs of one run.

    Args:
        finished: called with each outcome, on the watching thread.
        is_saved: tells, of a job without an outcome file, whether its record is there.
        keep_logs: keeps what a task that left no record printed, from its spool.
    """

    def __init__(
        self,
        finished: Callable[[Outcome], None],
        is_saved: Callable[[Job], Outcome | None],
        keep_logs: Callable[[TaskKey, Path], None],
    ) -> None:
        self._finished = finished
        self._is_saved = is_saved
        self._keep_logs = keep_logs
        self._clients: list[Client] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._cancelled = False
        self._thread: threading.Thread | None = None

    def start(self, job: Job, launcher: Launcher, argv: list[str], orders: bytes) -> None:
        """Write a job's orders and start its client.

        Raises OSError where the directory can't be written or the command not started.
        """
        directory = Path(job.job_directory)
        directory.mkdir(mode=0o700, parents=True)
        orders_file = directory / ORDERS_FILE
        with open(os.open(orders_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(orders)
        command = _command_of(launcher, argv, job)
        with open(job.stdout, "wb") as stdout, open(job.stderr, "wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **launcher.environment(job)},
                start_new_session=True,
            )
        with self._lock:
            self._clients.append(Client(job, launcher, command, process, time.monotonic()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="taskproc-launches", daemon=True)
                self._thread.start()
        self._wake.set()

    def cancel(self) -> None:
        """End all clients, and through their launchers what outlives a client."""
        self._cancelled = True
        with self._lock:
            clients = list(self._clients)
        by_launcher: dict[int, list[Client]] = {}
        for client in clients:
            by_launcher.setdefault(id(client.launcher), []).append(client)
            _signal_group(client.process, signal.SIGTERM)
        for group in by_launcher.values():
            with contextlib.suppress(Exception):
                group[0].launcher.cancel([client.job for client in group])
        deadline = time.monotonic() + 2.0
        for client in clients:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.process.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(client.process, signal.SIGKILL)

    def close(self) -> None:
        """Stop watching. Every client has ended by then, unless a second Ctrl-C ended `cancel`."""
        self._closing = True
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            self._cancelled = True
            _signal_group(client.process, signal.SIGKILL)
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._lock:
                clients = list(self._clients)
            if not clients:
                if self._closing:
                    return
                self._wake.wait()
                self._wake.clear()
                continue
            for client in clients:
                try:
                    self._look_at(client)
                except Exception as error:  # noqa: BLE001 - a cache's or a launcher's mistake fails this job only
                    client.done = True
                    seconds = time.monotonic() - client.started
                    self._finished(Outcome(client.job.key, "failed", seconds, failure=describe(error)))
            with self._lock:
                self._clients = [client for client in self._clients if not client.done]
            time.sleep(_POLL_SECONDS)

    def _look_at(self, client: Client) -> None:
        """See whether a client has ended and its outcome is known, or can't come any more."""
        returncode = client.process.poll()
        if returncode is None:
            return
        now = time.monotonic()
        client.ended = client.ended if client.ended is not None else now
        outcome = self._outcome(client)
        patience = _LATE_RECORD_SECONDS if returncode == 0 else _LATE_FAILURE_SECONDS
        if outcome is None and now - client.ended < patience and not self._cancelled:
            return
        if outcome is None:
            outcome = self._no_record(client, returncode)
        client.done = True
        # A failed one stays for a look at what its client printed; a damaged one is launched again.
        if outcome.kind in ("finished", "damaged"):
            shutil.rmtree(client.job.job_directory, ignore_errors=True)
        self._finished(outcome)

    def _outcome(self, client: Client) -> Outcome | None:
        folder = Path(client.job.job_directory)
        # Listing the parent makes a network file system look again.
        with contextlib.suppress(OSError):
            os.listdir(folder)
        try:
            (answer,) = unpack_answers((folder / OUTCOME_FILE).read_bytes())
        except Exception:  # noqa: BLE001 - half a file can raise anything, another version's too
            return self._is_saved(client.job)
        return answer.outcome

    def _no_record(self, client: Client, returncode: int) -> Outcome:
        job = client.job
        seconds = time.monotonic() - client.started
        if self._cancelled:
            return Outcome(job.key, "cancelled", seconds)
        self._keep_logs(job.key, spool_of_launched(job.job_directory))
        stderr = last_lines(Path(job.stderr))
        try:
            explanation = client.launcher.explain(returncode, stderr)
        except Exception as error:  # noqa: BLE001 - a plugin's mistake must not hide the failure
            explanation = f"(the launcher could not explain it: {type(error).__name__}: {error})"
        failure: Failure = launched_failure(job, client.argv, returncode, explanation)
        if stderr:
            failure = Failure(failure.type, f"{failure.message}; its stderr ends with:\n{stderr}")
        return Outcome(job.key, "failed", seconds, failure=failure)


def _command_of(launcher: Launcher, argv: Sequence[str], job: Job) -> list[str]:
    """The command line that a launcher answers, checked: it may be a plugin's."""
    answer: Any = launcher.command(argv, job)
    words = list(answer) if isinstance(answer, Sequence) and not isinstance(answer, str) else []
    if not words or not all(isinstance(word, str | os.PathLike) for word in words):
        raise PluginError(f"launcher {launcher.name!r}: command() gave {answer!r}, not a list of words")
    return [os.fspath(word) for word in words]


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
