"""The client of one launched job, and how many of them are ended together within a few seconds.

A client gets SIGTERM, its launcher is told to cancel the job wherever it runs, and what is left
of the client's session is killed. A launcher that hangs or fails holds up nobody else. Knows
nothing of how a job went.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskproc.core.records import Failure, Job
from taskproc.engine.processes import signal_sessions
from taskproc.errors import PluginError
from taskproc.interfaces import Launcher
from taskproc.registry.components import in_one_line

PATIENCE_SECONDS = 2.0
_POLL_SECONDS = 0.02
_LOG = logging.getLogger("taskproc")


@dataclass(eq=False)
class Client:
    """One launched job under way.

    Attributes:
        words: the worker's command line; `argv`: the whole client's, once it is known.
        orders: what the worker is to do.
        process: the client, once it is started.
        launched: when the job was handed over (all times are `time.monotonic()`).
        started: when its worker was first seen to have begun.
        answered: when its outcome was first seen while the client still ran.
        ended: when the client was found to have ended, or the job that had outlived it.
        due: when to look at an ended client again.
        pause: how long until the look after that.
        kill_at: when to kill a client whose outcome was taken though it did not end.
        failure: why it was ended by us, if it was.
        is_orphan: whether its job was seen to go on without it.
        is_over: whether its outcome was told.
    """

    job: Job
    launcher: Launcher
    words: Sequence[str]
    orders: bytes
    argv: list[str] = field(default_factory=list[str])
    process: subprocess.Popen[bytes] | None = None
    launched: float = field(default_factory=time.monotonic)
    started: float | None = None
    answered: float | None = None
    ended: float = 0.0
    due: float = 0.0
    pause: float = 0.0
    kill_at: float | None = None
    failure: Failure | None = None
    is_orphan: bool = False
    is_over: bool = False

    @property
    def folder(self) -> Path:
        return Path(self.job.job_directory)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.launched


def command_of(launcher: Launcher, argv: Sequence[str], job: Job) -> list[str]:
    """The command line that a launcher answers, checked: it may be a plugin's.

    Raises:
        PluginError: it is no list of words. Whatever else the launcher raises.
    """
    answer: Any = launcher.command(argv, job)
    words = list(answer) if isinstance(answer, Sequence) and not isinstance(answer, str) else []
    if not words or not all(isinstance(word, str | os.PathLike) for word in words):
        raise PluginError(f"launcher {launcher.name!r}: command() gave {answer!r}, not a list of words")
    return [os.fspath(word) for word in words]


class Cancelling:
    """A launcher's `cancel` of some jobs, under way on a thread of its own."""

    def __init__(self, launcher: Launcher, jobs: Sequence[Job]) -> None:
        self._launcher = launcher
        self.jobs = jobs
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="taskproc-cancel", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._launcher.cancel(self.jobs)
        except BaseException as error:  # noqa: BLE001 - it may be a plugin's
            self._error = error

    @property
    def is_under_way(self) -> bool:
        return self._thread.is_alive()

    def succeeded(self) -> bool:
        """Whether it has come to its end; else a warning tells what may go on."""
        if not self.is_under_way and self._error is None:
            return True
        why = in_one_line(self._error) if self._error is not None else "it does not answer"
        names = ", ".join([job.name for job in self.jobs[:3]] + ["..."] * (len(self.jobs) > 3))
        _LOG.warning(
            "launcher %r could not cancel %d job%s (%s): %s. What still waits in a queue ends by itself when "
            "it starts; what runs already may go on, and the next run waits for it or takes its result",
            self._launcher.name, len(self.jobs), "s" * (len(self.jobs) > 1), names, why,
        )  # fmt: skip
        return False


def start_cancelling(jobs: Iterable[tuple[Launcher, Job]]) -> list[Cancelling]:
    """Cancel jobs, those of one launcher in one call, all launchers at once."""
    by_launcher: dict[int, tuple[Launcher, list[Job]]] = {}
    for launcher, job in jobs:
        by_launcher.setdefault(id(launcher), (launcher, []))[1].append(job)
    return [Cancelling(launcher, group) for launcher, group in by_launcher.values()]


def explanation(launcher: Launcher, returncode: int, stderr: str) -> str | None:
    """What a launcher makes of a job that left no result; None if it does not answer in time."""
    told: list[str] = []

    def ask() -> None:
        try:
            told.append(launcher.explain(returncode, stderr))
        except BaseException as error:  # noqa: BLE001 - a plugin's mistake must not hide the failure
            told.append(f"(the launcher could not explain it: {type(error).__name__}: {error})")

    thread = threading.Thread(target=ask, name="taskproc-explain", daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    return told[0] if told else None


def end_clients(clients: Sequence[Client]) -> list[Client]:
    """End started clients and their jobs, within `PATIENCE_SECONDS` and a bit.

    Returns those that are known to be gone: the others' launchers failed, or did not answer.
    """
    if not clients:
        return []
    signal_clients(clients, signal.SIGTERM)
    cancellings = start_cancelling((client.launcher, client.job) for client in clients)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not any(map(_runs, clients)) and not any(one.is_under_way for one in cancellings):
            break
        time.sleep(_POLL_SECONDS)
    # In any case: what a client started may outlive it, and ignore SIGTERM.
    signal_clients(clients, signal.SIGKILL)
    gone = {job.key for one in cancellings if one.succeeded() for job in one.jobs}
    return [client for client in clients if client.job.key in gone]


def signal_clients(clients: Sequence[Client], number: int) -> None:
    """Send a signal to all that these clients started in their sessions, and to themselves."""
    processes = [client.process for client in clients if client.process is not None]
    alive = [process.pid for process in processes if process.poll() is None]
    reaped = [process.pid for process in processes if process.returncode is not None]
    signal_sessions(alive, number, gone=reaped)


def _runs(client: Client) -> bool:
    return client.process is not None and client.process.poll() is None
