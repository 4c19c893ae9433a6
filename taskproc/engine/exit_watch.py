"""Hear of the end of many child processes without asking each of them again and again.

On Linux the kernel tells (by a descriptor a process); elsewhere, and beyond a share of the
descriptors there are, the processes are asked, the more rarely the more of them there are.
Knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable

_POLL_SECONDS = 0.02
_COST_FACTOR = 50
"""Asking takes at most the 50th part of the time."""


class ExitWatch:
    """The processes whose end one thread waits for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        for descriptor in (self._wake_reader, self._wake_writer):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._polled: dict[subprocess.Popen[bytes], None] = {}
        self._left = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
        self._pause = _POLL_SECONDS

    def wake(self) -> None:
        """Have `wait` return; on any thread."""
        with contextlib.suppress(OSError):  # it is full, so that it wakes in any case
            os.write(self._wake_writer, b"w")

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Watch one more process; on the thread that waits."""
        descriptor = self._descriptor(process)
        if descriptor is None:
            self._polled[process] = None
        else:
            self._left -= 1
            self._selector.register(descriptor, selectors.EVENT_READ, process)

    def _descriptor(self, process: subprocess.Popen[bytes]) -> int | None:
        if sys.platform != "linux" or self._left <= 0 or process.returncode is not None:
            return None
        try:
            return os.pidfd_open(process.pid)
        except OSError:  # an old kernel, no descriptors left, or somebody has reaped it
            return None

    def wait(self, timeout: float | None) -> list[subprocess.Popen[bytes]]:
        """Wait for ends, a wake or the timeout; returns the processes that have ended, reaped."""
        if self._polled:
            timeout = self._pause if timeout is None else min(timeout, self._pause)
        ended: list[subprocess.Popen[bytes]] = []
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with contextlib.suppress(OSError):
                    os.read(self._wake_reader, 4096)
            else:
                self._selector.unregister(key.fileobj)
                os.close(key.fd)
                self._left += 1
                key.data.wait()
                ended.append(key.data)
        return ended + self._ask(self._polled)

    def _ask(self, processes: Iterable[subprocess.Popen[bytes]]) -> list[subprocess.Popen[bytes]]:
        begun = time.monotonic()
        ended = [process for process in processes if process.poll() is not None]
        self._pause = max(_POLL_SECONDS, _COST_FACTOR * (time.monotonic() - begun))
        for process in ended:
            del self._polled[process]
        return ended

    def close(self) -> None:
        """Give back the descriptors; nothing may be waited for any more."""
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                os.close(key.fd)
        self._selector.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
