"""The thread that reads what worker processes answer, and sees them die.

Decides what a frame means and what a worker died of; what follows from it is the crew's.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import selectors
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from taskproc.default_plugins.pool_executors.worker_process import WorkerProcess
from taskproc.errors import WorkerDiedError

if TYPE_CHECKING:
    from taskproc.default_plugins.pool_executors.worker_crew import Crew, WorkFuture

_PATIENCE = 1.0
"""Seconds that idle workers have to end by themselves."""
_HANG_UP = 0.2
"""Seconds between a worker's hanging up and its end, until it is killed."""
_POLL = 0.2
"""Seconds between looks for dead workers, where the system has no descriptor for that."""

_log = logging.getLogger(__name__)


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: the text of its traceback there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Manager:
    """Watches the crew's workers from a thread of its own, until the crew's work is over."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._owner = os.getpid()
        self._exiting = False
        self._polling = False
        self._selector = selectors.DefaultSelector()
        # Sockets, not a pipe's numbers: one that is closed can't be mistaken for another's.
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        # Daemon, because a pool may be forgotten; so its work is waited for here, as others do.
        self._thread = threading.Thread(target=self._run, name="taskproc-workers", daemon=True)
        atexit.register(self._at_exit)
        self._thread.start()

    def wake(self) -> None:
        """Have the manager look at the crew; from any thread, at any time."""
        with suppress(OSError):  # full: it is awake; closed: it has ended
            self._bell.send(b"\0")

    def join(self) -> None:
        """Wait for the end; not from a future's callback, which the manager itself calls."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _at_exit(self) -> None:
        self._exiting = True
        if os.getpid() == self._owner:  # a fork of the runner has our workers, but no manager
            self._crew.stop()
            self.join()

    def _run(self) -> None:
        try:
            while not self._crew.is_over():
                for key, events in self._selector.select(_POLL if self._polling else None):
                    if key.data is None:
                        self._on_bell()
                    else:
                        self._on_worker(key.data, key.fileobj, events)
                if self._polling:
                    self._look_for_dead()
        except BaseException as error:
            self._crew.give_up(f"the thread that manages the workers failed: {error!r}")
            raise
        finally:
            self._dismiss()

    def _on_bell(self) -> None:
        self._ear.recv(4096)
        for worker in self._crew.take_unheard():
            self._listen(worker)

    def _listen(self, worker: WorkerProcess) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.sending else 0)
        if worker.connection in self._selector.get_map():
            self._selector.modify(worker.connection, events, worker)
            return
        self._selector.register(worker.connection, events, worker)
        if worker.pidfd is None:
            self._polling = True
        else:
            self._selector.register(worker.pidfd, selectors.EVENT_READ, worker)

    def _on_worker(self, worker: WorkerProcess, source: object, events: int) -> None:
        if not self._crew.has(worker):  # its end was seen in this very round
            return
        if source is not worker.connection:
            self._on_end(worker)
            return
        if events & selectors.EVENT_WRITE:
            self._crew.send_more(worker)
            self._listen(worker)
        if events & selectors.EVENT_READ:
            for frame in worker.receive():
                self._on_frame(worker, frame)
            if worker.hung_up:
                self._on_end(worker)

    def _on_frame(self, worker: WorkerProcess, frame: bytes) -> None:
        if frame[:1] == b"M":
            work = self._crew.work_of(worker)
            if work is not None and work.on_message is not None:
                try:
                    work.on_message(frame[1:])
                except Exception:  # noqa: BLE001 - the caller's, and no reason to leave the others
                    _log.exception("on_message failed with a message of worker %d", worker.pid)
            return
        # The worker gets its next work before the future is resolved: it need not wait for that.
        work = self._crew.answered(worker)
        if work is not None:
            _resolve(work.future, frame)

    def _on_end(self, worker: WorkerProcess) -> None:
        """A worker died, or hung up, for which it is killed."""
        asked = self._crew.doom(worker)
        if worker.connection in self._selector.get_map():
            self._selector.unregister(worker.connection)
            if worker.pidfd is not None:
                self._selector.unregister(worker.pidfd)
        # A process that ends closes its socket a moment before.
        fault = "" if worker.has_ended(_HANG_UP) else "closed its connection to the runner and was killed"
        worker.kill()  # the processes it leaves behind too
        for frame in worker.receive_all():
            self._on_frame(worker, frame)
        position, begun = worker.position(), worker.begun()
        returncode = worker.end()
        message = f"the worker process (pid {worker.pid}) {fault or _cause_of_death(returncode)}"
        self._crew.buried(worker, WorkerDiedError(message, returncode, position, worker.pid), begun, asked)

    def _look_for_dead(self) -> None:
        for worker in self._crew.workers():
            if worker.pidfd is None and worker.has_ended():
                self._on_end(worker)

    def _dismiss(self) -> None:
        """Let the workers end by themselves, kill what does not or was left behind, give back everything."""
        workers = self._crew.workers()
        for worker in workers:
            worker.hang_up()
        deadline = time.monotonic() + _PATIENCE
        for worker in workers:
            worker.has_ended(max(0.0, deadline - time.monotonic()))
            worker.kill()  # the processes that its works left behind too
            worker.end()
        self._selector.close()
        self._ear.close()
        self._bell.close()
        if not self._exiting:
            atexit.unregister(self._at_exit)


def _resolve(future: WorkFuture, frame: bytes) -> None:
    try:
        value = pickle.loads(memoryview(frame)[1:])
    except Exception as fault:  # noqa: BLE001 - unpickling runs code of the result's classes
        future.set_exception(fault)
        return
    if frame[:1] == b"R":
        future.set_result(value)
        return
    error, text = value
    error.__cause__ = RemoteTraceback(text)
    future.set_exception(error)


def _cause_of_death(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"died of {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"died of signal {-returncode}"
