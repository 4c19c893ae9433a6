"""The thread executor: threads of this process that never keep it from ending.

Those of `concurrent.futures` are waited for when Python exits, whatever they do: a script that
was interrupted would hang in a task that nothing can end. Knows nothing of tasks.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from taskproc.interfaces import Announcer


class ThreadFuture(Future[Any]):
    """A future whose work can be watched, and asked to begin nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.position: int | None = None
        self.is_recalled = False

    def cancel(self) -> bool:
        """Cancel the work; one that is done by now goes on, but learns of it (`Announcer.recalled`)."""
        self.is_recalled = True
        return super().cancel()

    def progress(self) -> tuple[int, int | None] | None:
        """This process's pid and the position announced last; None if no thread has the work now."""
        return (os.getpid(), self.position) if self.running() else None


@dataclass
class _Announcing(Announcer):
    """What a work may tell; its messages are heard on its own thread."""

    future: ThreadFuture
    on_message: Callable[[bytes], None]

    def announce(self, position: int) -> None:
        self.future.position = position

    def send(self, message: bytes) -> None:
        self.on_message(message)

    @property
    def recalled(self) -> bool:
        return self.future.is_recalled


class ThreadPool(Executor):
    """A `concurrent.futures.Executor` of daemon threads, started as there is work for them."""

    def __init__(self, max_workers: int) -> None:
        """Start nothing yet. Raises ValueError if `max_workers` is below 1."""
        if max_workers < 1:
            raise ValueError(f"max_workers must be 1 or more, not {max_workers}")
        self._max_workers = max_workers
        self._waiting: queue.SimpleQueue[tuple[ThreadFuture, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn(*args, **kwargs)` in a thread."""
        future = ThreadFuture()
        self._add(future, lambda: fn(*args, **kwargs))
        return future

    def submit_work(
        self,
        function: Callable[[bytes, Announcer], Any],
        payload: bytes,
        on_message: Callable[[bytes], None],
    ) -> Future[Any]:
        """Call `function(payload, announcer)` in a thread; see `AnnouncingExecutor`."""
        future = ThreadFuture()
        announcer = _Announcing(future, on_message)
        self._add(future, lambda: function(payload, announcer))
        return future

    def _add(self, future: ThreadFuture, call: Callable[[], Any]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.put((future, call))
            self._idle -= 1
            if self._idle < 0 and len(self._threads) < self._max_workers:
                self._idle += 1
                name = f"taskproc_{len(self._threads)}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            _do(*item)
            del item  # else it would live until the next one
            with self._lock:
                self._idle += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; finish or cancel what waits; then end the threads."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if cancel_futures:
                    self._cancel_waiting()
                for _ in self._threads:
                    self._waiting.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel_waiting(self) -> None:
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            if item is not None:
                item[0].cancel()
                item[0].set_running_or_notify_cancel()


def _do(future: ThreadFuture, call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whatever ends a work, the thread goes on
        future.set_exception(error)
    else:
        future.set_result(result)
