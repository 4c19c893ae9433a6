"""Decide which tasks have a time limit, and when it is over; end a task of this very thread by it.

The clock of a job starts when its worker begins it. Knows nothing of executors and launchers: it
is told how to ask whether a job has begun, and how to end it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

from taskproc.core.records import Failure, TaskKey
from taskproc.core.seconds import read_seconds
from taskproc.core.task import Task
from taskproc.engine.failure import describe
from taskproc.errors import TaskTimeoutError

_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 1.0


class TimeLimit(NamedTuple):
    """How long a task may run, and what states it, for people."""

    seconds: float
    source: str

    def error(self) -> TaskTimeoutError:
        return TaskTimeoutError(f"ran longer than its time limit of {self.seconds:g} s ({self.source})")


def time_limit_of(
    cls: type[Task], labels: Sequence[str], timeouts: Mapping[str, float | None]
) -> TimeLimit | None:
    """The limit of a class: of the run's for its labels (its own name first) the first one, else its own."""
    for label in labels:
        if label in timeouts:
            seconds = timeouts[label]
            return TimeLimit(seconds, f"timeout {label}={seconds:g}") if seconds is not None else None
    if cls.task_timeout is None:
        return None
    return TimeLimit(read_seconds(cls.task_timeout), "task_timeout")


@dataclass
class _Clock:
    """A job under way that has a limit; `started` is None until its worker was seen to have begun it."""

    limit: TimeLimit
    has_begun: Callable[[], float | None]
    end: Callable[[Failure], object]
    started: float | None = None
    failure: Failure | None = None


class Clocks:
    """The jobs of one run that are to be ended when their time is over."""

    def __init__(self) -> None:
        self._clocks: dict[TaskKey, _Clock] = {}

    def start(
        self,
        key: TaskKey,
        limit: TimeLimit,
        has_begun: Callable[[], float | None],
        end: Callable[[Failure], object],
    ) -> None:
        """Watch a job.

        Args:
            has_begun: tells when its worker was first seen at it (`time.monotonic()`), or None.
            end: ends it, for this reason.
        """
        self._clocks[key] = _Clock(limit, has_begun, end)

    def stop(self, key: TaskKey) -> Failure | None:
        """A job is over; returns why it was ended, if it was."""
        clock = self._clocks.pop(key, None)
        return clock.failure if clock is not None else None

    @property
    def pause(self) -> float | None:
        """In how many seconds to `look`; None: whenever."""
        now = time.monotonic()
        pauses = [
            _LOOK_SECONDS if clock.started is None else clock.started + clock.limit.seconds - now
            for clock in self._clocks.values()
            if clock.failure is None
        ]
        return max(0.0, min(pauses)) if pauses else None

    def look(self) -> None:
        """End what has run for too long."""
        for clock in self._clocks.values():
            if clock.failure is not None:
                continue
            if clock.started is None:
                clock.started = clock.has_begun()
            if clock.started is not None and time.monotonic() >= clock.started + clock.limit.seconds:
                clock.failure = describe(clock.limit.error())
                clock.end(clock.failure)


class _TimeIsUp(BaseException):
    """Raised into a task; no Exception, so that what catches those does not go on."""


@contextlib.contextmanager
def within(limit: TimeLimit | None) -> Iterator[None]:
    """Break the block off when its time is over, again and again if it goes on.

    Only on a main thread: elsewhere nothing can. What has taken longer counts as failed also if it
    came to an end, as it may have swallowed what was raised into it.

    Raises:
        TaskTimeoutError: it took longer.
    """
    if limit is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    begun = time.monotonic()
    armed = True

    def ring(number: int, frame: FrameType | None) -> None:
        if armed:
            raise _TimeIsUp

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, limit.seconds, _AGAIN_SECONDS)
    try:
        yield
    except BaseException:
        armed = False
        if time.monotonic() - begun < limit.seconds:
            raise
        raise limit.error() from None
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if handler is not None:
            signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's timer
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - begun)), interval)
    if time.monotonic() - begun >= limit.seconds:
        raise limit.error()
