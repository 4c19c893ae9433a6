"""Hear signals while the main thread is in C code: Python's own handlers wait until that comes back.

Knows nothing of what a signal means. C code that does not let go of the interpreter is deaf to this too.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(heard: Callable[[int], None]) -> Iterator[None]:
    """Call `heard`, on a thread of its own, with the number of each signal that has a handler.

    Does nothing outside of the main thread, and where somebody else (asyncio) listens already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    other = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    if other != -1:
        signal.set_wakeup_fd(other)
        os.close(mouth)
        os.close(ear)
        yield
        return
    _thread.start_new_thread(_listen, (ear, heard))
    try:
        yield
    finally:
        now = signal.set_wakeup_fd(-1)
        if now not in (-1, mouth):  # somebody took our place meanwhile
            with contextlib.suppress(OSError, ValueError):
                signal.set_wakeup_fd(now)
        os.close(mouth)  # which ends the thread


def stop_in_child() -> None:
    """A forked child must not write into its parent's pipe."""
    signal.set_wakeup_fd(-1)


def _listen(ear: int, heard: Callable[[int], None]) -> None:
    try:
        while numbers := os.read(ear, 64):
            for number in numbers:
                heard(number)
    finally:
        os.close(ear)
