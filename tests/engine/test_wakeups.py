"""Who listens for signals while tasks run leaves nothing behind, whatever a task does with them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress

import pytest

from taskproc.engine.wakeups import listening


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_task_that_takes_the_wakeups_away_as_asyncio_does_leaves_no_thread_or_descriptor_behind() -> None:
    before = threads(), descriptors()
    for _ in range(3):
        with listening(lambda _: None):
            signal.set_wakeup_fd(-1)
    deadline = time.monotonic() + 20
    while (threads(), descriptors()) != before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_has_taken_the_wakeups_over_meanwhile_keeps_them() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        try:
            with listening(lambda _: None):
                signal.set_wakeup_fd(theirs.fileno())
        finally:
            kept = signal.set_wakeup_fd(-1)
        assert kept == theirs.fileno()


def test_who_listens_already_is_left_alone() -> None:
    heard: list[int] = []
    with listening(lambda _: None), listening(heard.append), suppress(OSError):
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)
    assert heard == []
    assert signal.set_wakeup_fd(-1) == -1
