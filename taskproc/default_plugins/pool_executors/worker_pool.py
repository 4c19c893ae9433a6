"""The process executor: a pool of worker processes behind the standard library's interface.

Decides how a call is packed. Who does what is decided in `worker_crew`.
"""

from __future__ import annotations

import pickle
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from taskproc.default_plugins.pool_executors.worker_crew import Crew, Work, WorkFuture
from taskproc.interfaces import Announcer


class WorkerPool(Executor):
    """A `concurrent.futures.Executor` of worker processes of our own.

    A worker that dies fails the work it was doing with a `WorkerDiedError`, and nothing else.
    Futures offer `kill()`. Functions and arguments travel by cloudpickle, with `sys.path`.
    """

    def __init__(self, max_workers: int, argv: Sequence[str]) -> None:
        """Start nothing yet.

        Args:
            max_workers: how many processes at most.
            argv: the command that starts one.

        Raises:
            ValueError: `max_workers` is below 1.
        """
        if max_workers < 1:
            raise ValueError(f"max_workers must be 1 or more, not {max_workers}")
        self._crew = Crew(max_workers, argv)
        # A pool that is dropped without a shutdown finishes its work and goes, as others do.
        weakref.finalize(self, self._crew.stop).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkFuture:
        """Call `fn(*args, **kwargs)` in a worker. What can't be pickled fails the future."""
        return self._submit(b"C", (fn, args, kwargs), None)

    def submit_work(
        self,
        function: Callable[[bytes, Announcer], Any],
        payload: bytes,
        on_message: Callable[[bytes], None],
    ) -> WorkFuture:
        """Call `function(payload, announcer)` in a worker; see `AnnouncingExecutor`."""
        return self._submit(b"W", (function, (payload,), {}), on_message)

    def _submit(
        self, kind: bytes, call: tuple[Any, ...], on_message: Callable[[bytes], None] | None
    ) -> WorkFuture:
        future = WorkFuture(self._crew)
        try:
            body = _pickle_of_work(call) if kind == b"W" else _pickle_of_call(call)
        except Exception as error:  # noqa: BLE001 - any __reduce__ may raise anything
            future.set_exception(error)
            return future
        return self._crew.add(Work(future, kind, body, list(sys.path), on_message))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; finish or cancel what waits; then end the workers."""
        self._crew.stop()
        if cancel_futures:
            self._crew.cancel_waiting()
        if wait:
            self._crew.join()


def _pickle_of_call(call: tuple[Any, ...]) -> bytes:
    import cloudpickle

    return bytes(cloudpickle.dumps(call))


def _pickle_of_work(call: tuple[Any, ...]) -> bytes:
    """The same, cheaply where the function can go by name: its only argument is bytes."""
    function = call[0]
    if function.__module__ == "__main__":  # a worker's __main__ is another
        return _pickle_of_call(call)
    try:
        return pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError):  # made inside a function
        return _pickle_of_call(call)
