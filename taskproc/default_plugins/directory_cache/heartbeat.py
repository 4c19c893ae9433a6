"""Call something every second, as long as it asks for that, and never across a fork.

Knows nothing of what it calls.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Protocol

_LONGEST_WAIT = 1.0


class Beats(Protocol):
    """What a heartbeat keeps going."""

    def beat(self) -> bool:
        """Show a sign of life; False ends the thread."""
        ...


class Heartbeat:
    """A daemon thread that runs while there is something to show.

    It holds its owner weakly. Around a fork it pauses: a process with one thread alone is what
    may fork, and Python warns of others.
    """

    def __init__(self, owner: Beats, seconds: float) -> None:
        self._owner = weakref.ref(owner)
        self._seconds = seconds
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._due = 0.0

    @property
    def is_running(self) -> bool:
        """Whether the thread was started, and has not ended but for a pause."""
        return self._thread is not None

    def start(self) -> None:
        """Begin, a beat's time from now."""
        self._due = time.monotonic() + self._seconds
        self.resume()

    def resume(self) -> None:
        """Go on after a pause, as if there had been none."""
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._end,), name="taskproc leases", daemon=True
        )
        self._thread.start()

    def stop(self) -> threading.Thread | None:
        """Have the thread end soon; returns it, to be joined by who does not hold what it needs."""
        thread, self._thread = self._thread, None
        self._end.set()
        return thread

    def pause(self) -> bool:
        """Have the thread end now; whether there was one."""
        self._end.set()
        join(self._thread)
        return self._thread is not None

    def _run(self, end: threading.Event) -> None:
        while not end.wait(max(0.0, self._due - time.monotonic())):
            self._due = time.monotonic() + self._seconds
            owner = self._owner()
            if owner is None or not owner.beat():
                return
            del owner


def join(thread: threading.Thread | None) -> None:
    """Wait until a heartbeat's thread has ended, but not for ever: a disk may hang."""
    if thread is not None and thread is not threading.current_thread():
        thread.join(_LONGEST_WAIT)
