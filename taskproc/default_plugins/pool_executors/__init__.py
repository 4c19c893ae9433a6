"""The executors that come with taskproc: worker processes, threads, and no workers at all.

The pool of processes is in `worker_pool`; here stands what is offered under which name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, ClassVar

from taskproc.hookspecs import hookimpl
from taskproc.interfaces import ExecutorProvider


@hookimpl
def taskproc_register_executors() -> Sequence[type[ExecutorProvider]]:
    return [ProcessExecutor, ThreadExecutor, SerialExecutor]


@dataclass(frozen=True)
class ProcessExecutor(ExecutorProvider):
    """Run jobs in worker processes of our own: each dies alone, can be killed, and ends with us."""

    name: ClassVar[str] = "process"

    def open(self, max_workers: int, worker_argv: Sequence[str]) -> Executor:
        """Open a pool of at most `max_workers` processes, started as there is work for them."""
        from taskproc.default_plugins.pool_executors.worker_pool import WorkerPool

        return WorkerPool(max_workers, worker_argv)


@dataclass(frozen=True)
class ThreadExecutor(ExecutorProvider):
    """Run jobs in threads of this process; they share its memory and the interpreter's lock."""

    name: ClassVar[str] = "thread"

    def open(self, max_workers: int, worker_argv: Sequence[str]) -> Executor:
        """Open a pool of at most `max_workers` threads; `worker_argv` is not used."""
        from taskproc.default_plugins.pool_executors.thread_pool import ThreadPool

        return ThreadPool(max_workers)


@dataclass(frozen=True)
class SerialExecutor(ExecutorProvider):
    """Run each job in place, one after the other, so that a debugger works."""

    name: ClassVar[str] = "serial"
    in_place: ClassVar[bool] = True

    def open(self, max_workers: int, worker_argv: Sequence[str]) -> Executor:
        """Open an executor without workers; both arguments are not used."""
        return InPlaceExecutor()


class InPlaceExecutor(Executor):
    """A `concurrent.futures.Executor` that does the work inside `submit`."""

    def __init__(self) -> None:
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call at once; the future is done. A KeyboardInterrupt is the caller's, not the work's."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            result = fn(*args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit ends a work, not the run
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; there is none that could be waited for."""
        self._closed = True
