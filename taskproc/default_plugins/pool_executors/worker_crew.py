"""The workers of a pool and the work: who does what, and what becomes of each future.

Work waits in one line; a free worker takes the next; workers are started only as there is
work for them. Knows nothing of tasks; what the workers answer is read by `worker_manager`.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from taskproc.default_plugins.pool_executors.worker_manager import Manager
from taskproc.default_plugins.pool_executors.worker_process import WorkerProcess
from taskproc.errors import ExecutorBrokenError, WorkerDiedError

_STARTS = 3
"""How many workers may die before they begin a work (or serve at all) until we give up."""


class WorkFuture(Future[Any]):
    """A future whose work can be watched, and killed, while it runs."""

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self._crew = crew

    def kill(self) -> bool:
        """Cancel the work, or kill the worker that runs it, with all processes of its group.

        Returns:
            Whether there was anything to end; a future that is done stays as it is.
        """
        return self.cancel() or self._crew.kill(self)

    def progress(self) -> tuple[int, int | None] | None:
        """Who does the work now, and how far it is.

        Returns:
            The pid of the worker, and the position that the work announced last (None: none
            yet); None if no worker has the work now, be it that it waits or that it is done.
        """
        return self._crew.progress(self)


@dataclass(slots=True, eq=False)
class Work:
    """A call on its way: how it is packed, and whom it is for.

    `kind` is "C" for a call, "W" for one that gets an announcer; `body` its pickle; `path` the
    `sys.path` it needs; `starts` how many workers died with it before they began it.
    """

    future: WorkFuture
    kind: bytes
    body: bytes
    path: list[str]
    on_message: Callable[[bytes], None] | None = None
    starts: int = 0


class Crew:
    """The workers and the work. Holds no reference to its pool, so that that one can be dropped."""

    def __init__(self, max_workers: int, argv: Sequence[str]) -> None:
        self._max_workers = max_workers
        self._argv = list(argv)
        self._lock = threading.Lock()  # for all below; never held when a future is resolved
        self._waiting: deque[Work] = deque()
        self._doing: dict[WorkerProcess, Work | None] = {}
        self._free: list[WorkerProcess] = []
        self._doomed: set[WorkerProcess] = set()
        self._failed: deque[tuple[Work, Exception]] = deque()
        self._unheard: list[WorkerProcess] = []
        self._failed_starts = 0
        self._broken = ""
        self._stopping = False
        self._manager: Manager | None = None

    # For callers, on their threads.

    def add(self, work: Work) -> WorkFuture:
        """Take on a work. Raises RuntimeError after `stop`."""
        with self._lock:
            if self._stopping:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(work)
            self._advance()
        self._settle()
        return work.future

    def kill(self, future: WorkFuture) -> bool:
        """Kill the worker that runs this; the manager sees its death. Whether there was one."""
        with self._lock:
            for worker, work in self._doing.items():
                if work is not None and work.future is future:
                    self._doomed.add(worker)
                    worker.kill()
                    return True
        return False

    def progress(self, future: WorkFuture) -> tuple[int, int | None] | None:
        """Which worker (its pid) does this now, and its position; None if none does."""
        with self._lock:
            for worker, work in self._doing.items():
                # A doomed one may have given back its descriptors, whose numbers are others' then.
                if work is not None and work.future is future and worker not in self._doomed:
                    return worker.pid, worker.position_now()
        return None

    def stop(self) -> None:
        """Take no more work; the manager ends when there is none left."""
        # No lock: the garbage collector may call this from within any line of ours.
        self._stopping = True
        if self._manager is not None:
            self._manager.wake()

    def cancel_waiting(self) -> None:
        """Cancel what no worker was given yet."""
        with self._lock:
            works = [work for work in self._waiting if not work.starts]
            self._waiting = deque(work for work in self._waiting if work.starts)
        for work in works:
            work.future.cancel()
            work.future.set_running_or_notify_cancel()
        self.stop()

    def join(self) -> None:
        """Wait until all is done and the workers have ended."""
        if self._manager is not None:
            self._manager.join()

    # For the manager, on its thread.

    def is_over(self) -> bool:
        """Whether nothing is left to do and nothing will come."""
        if not self._stopping:
            return False
        with self._lock:
            return not self._waiting and not any(self._doing.values())

    def workers(self) -> list[WorkerProcess]:
        return list(self._doing)

    def work_of(self, worker: WorkerProcess) -> Work | None:
        return self._doing.get(worker)

    def has(self, worker: WorkerProcess) -> bool:
        return worker in self._doing

    def take_unheard(self) -> list[WorkerProcess]:
        """The workers that are new, or have more to be sent, since the last call."""
        with self._lock:
            unheard, self._unheard = self._unheard, []
        return [worker for worker in unheard if worker in self._doing]

    def send_more(self, worker: WorkerProcess) -> None:
        with self._lock:
            worker.send_more()

    def answered(self, worker: WorkerProcess) -> Work | None:
        """A worker is done with its work, which is returned; it gets the next one at once."""
        with self._lock:
            work = self._doing[worker]
            self._doing[worker] = None
            self._failed_starts = 0
            if worker not in self._doomed:
                self._free.append(worker)
                self._advance()
        self._settle()
        return work

    def doom(self, worker: WorkerProcess) -> bool:
        """Give this worker no more work; returns whether it was to be killed on request."""
        with self._lock:
            asked = worker in self._doomed
            self._doomed.add(worker)
            if worker in self._free:
                self._free.remove(worker)
        return asked

    def buried(self, worker: WorkerProcess, error: WorkerDiedError, begun: int, asked: bool) -> None:
        """A worker has ended, of `error`, having begun `begun` works; `asked` for or not."""
        with self._lock:
            work = self._doing.pop(worker)
            self._doomed.discard(worker)
            if work is not None:
                self._judge(work, error, begun, asked or begun == worker.given)
            self._advance()
        self._settle()

    def give_up(self, why: str) -> None:
        """The manager itself failed, which is a fault of ours: leave nobody waiting."""
        with self._lock:
            self._stopping = True
            self._broken = why
            self._fail_waiting()
            for worker, work in self._doing.items():
                self._doomed.add(worker)
                worker.kill()
                if work is not None:
                    self._failed.append((work, ExecutorBrokenError(why)))
        self._settle()

    # Under the lock.

    def _advance(self) -> None:
        """Give waiting work to workers as long as there are any."""
        while self._waiting and not self._broken:
            worker = self._next_worker()
            if worker is None:
                break
            work = self._waiting.popleft()
            if work.starts or work.future.set_running_or_notify_cancel():
                self._give(worker, work)
            else:
                self._free.append(worker)
        if self._broken:
            self._fail_waiting()

    def _next_worker(self) -> WorkerProcess | None:
        if self._free:
            return self._free.pop()
        if len(self._doing) >= self._max_workers:
            return None
        try:
            worker = WorkerProcess(self._argv)
        except OSError as error:
            if not self._doing:  # else the others do the work
                self._broken = f"a worker process can't be started ({' '.join(self._argv)}): {error}"
            return None
        self._doing[worker] = None
        self._call_manager(worker)
        return worker

    def _give(self, worker: WorkerProcess, work: Work) -> None:
        self._doing[worker] = work
        worker.given += 1
        if work.path != worker.path:
            worker.path = work.path
            worker.send(b"P", pickle.dumps(work.path))
        worker.send(work.kind, work.body)
        if worker.sending:
            self._call_manager(worker)

    def _call_manager(self, worker: WorkerProcess) -> None:
        self._unheard.append(worker)
        if self._manager is None:
            self._manager = Manager(self)
        self._manager.wake()

    def _judge(self, work: Work, error: WorkerDiedError, begun: int, guilty: bool) -> None:
        """Fail the work a worker died with, or put it back in front if it was not begun."""
        if guilty:
            self._failed.append((work, error))
            return
        if begun < 0:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                command = " ".join(self._argv)
                self._broken = f"worker processes do not start ({command}): {error}; what it printed says why"
        work.starts += 1
        if work.starts < _STARTS or self._broken:
            self._waiting.appendleft(work)
        else:
            self._failed.append((work, error))

    def _fail_waiting(self) -> None:
        for work in self._waiting:
            if work.starts or work.future.set_running_or_notify_cancel():
                self._failed.append((work, ExecutorBrokenError(self._broken)))
        self._waiting.clear()

    # Not under the lock.

    def _settle(self) -> None:
        """Fail the futures of works that were given up."""
        while self._failed:
            with contextlib.suppress(IndexError):  # another thread may be at it too
                work, error = self._failed.popleft()
                work.future.set_exception(error)
