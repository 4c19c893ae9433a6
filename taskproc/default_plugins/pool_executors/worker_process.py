"""One worker process as the runner sees it: its start, its frames, its end.

Knows nothing of futures, nor of what work comes next.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence

_HEADER = 8
_READ = 1 << 16
_NOT_UP = -1


class WorkerProcess:
    """A worker process of our own, reached over a socket; nothing here ever blocks but `end`.

    Attributes:
        pid: its process id, which is its process group's too.
        hung_up: whether its side of the socket is closed.
        path: the `sys.path` it was last given, if any.
        given: how many works it was given.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Start `argv --pool SOCKET STATUS LIFELINE`. Raises OSError if that can't be done."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            self._socket, worker_side = socket.socketpair()
            undo.callback(self._socket.close)
            theirs.callback(worker_side.close)
            self._status = _shared_file()
            undo.callback(os.close, self._status)
            os.pwrite(self._status, _NOT_UP.to_bytes(8, "little", signed=True) * 2, 0)
            # A pipe for each: the owner that is killed belongs to one open pipe, not to a process.
            lifeline, self._lifeline = os.pipe()
            undo.callback(os.close, self._lifeline)
            theirs.callback(os.close, lifeline)
            fds = (worker_side.fileno(), self._status, lifeline)
            self._process = subprocess.Popen(
                [*argv, "--pool", *map(str, fds)],
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
            )
            undo.pop_all()
        self._socket.setblocking(False)
        self.pid = self._process.pid
        self._pidfd = _open_pidfd(self.pid)
        self._outgoing: deque[memoryview] = deque()
        self._incoming = bytearray()
        self._reaped = False
        self.hung_up = False
        self.path: list[str] | None = None
        self.given = 0

    @property
    def connection(self) -> socket.socket:
        """Our end of the socket, to wait on."""
        return self._socket

    @property
    def pidfd(self) -> int | None:
        """A descriptor that becomes readable when the process ends; None where there is none."""
        return self._pidfd

    @property
    def sending(self) -> bool:
        """Whether frames are waiting for room in the socket."""
        return bool(self._outgoing)

    def send(self, kind: bytes, body: bytes) -> None:
        """Send a frame, or as much of it as there is room for; `send_more` sends the rest."""
        header = (len(body) + 1).to_bytes(_HEADER, "little") + kind
        if len(body) < _READ:
            self._outgoing.append(memoryview(header + body))
        else:
            self._outgoing.extend((memoryview(header), memoryview(body)))
        self.send_more()

    def send_more(self) -> None:
        """Go on with frames that are not sent yet."""
        try:
            while self._outgoing:
                rest = self._outgoing[0][self._socket.send(self._outgoing[0]) :]
                if rest:
                    self._outgoing[0] = rest
                else:
                    self._outgoing.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # it is gone; whoever waits for its answer will see that
            self._outgoing.clear()

    def receive(self) -> list[bytes]:
        """The frames that have arrived in full; sets `hung_up` at the end of them."""
        try:
            chunk = self._socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            chunk = b""
        if not chunk:
            self.hung_up = True
            return []
        if not self._incoming and len(chunk) == _HEADER + int.from_bytes(chunk[:_HEADER], "little"):
            return [chunk[_HEADER:]]
        self._incoming += chunk
        return list(iter(self._take_frame, None))

    def receive_all(self) -> list[bytes]:
        """What is left in the socket of a process that has ended."""
        frames = []
        while not self.hung_up and select.select([self._socket], [], [], 0)[0]:
            frames += self.receive()
        return frames

    def _take_frame(self) -> bytes | None:
        if len(self._incoming) < _HEADER:
            return None
        end = _HEADER + int.from_bytes(self._incoming[:_HEADER], "little")
        if len(self._incoming) < end:
            return None
        with memoryview(self._incoming) as view, view[_HEADER:end] as body:
            frame = bytes(body)
        del self._incoming[:end]
        return frame

    def position(self) -> int | None:
        """The position its work announced last, or None."""
        position = int.from_bytes(os.pread(self._status, 8, 0), "little", signed=True)
        return None if position < 0 else position

    def position_now(self) -> int | None:
        """The position that the work it was given last has announced, or None."""
        # Until it has begun that work, the position is of the one before.
        return self.position() if self.begun() == self.given else None

    def begun(self) -> int:
        """How many works it has begun; -1 if it never came so far as to serve."""
        return int.from_bytes(os.pread(self._status, 8, 8), "little", signed=True)

    def kill(self) -> None:
        """Kill the process and its group."""
        if self._reaped:  # the number may be another's by now
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing alive in it
            os.killpg(self.pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Tell the process to end by itself: no more work will come."""
        self._outgoing.clear()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether the process ended within `timeout` seconds; it is not reaped by this.

        Its process id, and so its group, stays its own until `end`.
        """
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(timeout * 1000))
        deadline = time.monotonic() + timeout
        while not self._is_zombie():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def _is_zombie(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13: there it is reaped here
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:  # somebody else in this process reaped it
            return True

    def end(self) -> int:
        """Reap the process, which has ended or been killed, and give back all descriptors.

        Returns:
            Its return code as in subprocess: -N for death by signal N.
        """
        self._reaped = True
        returncode = self._process.wait()
        self._socket.close()
        os.close(self._status)
        # Last: what the process left alive in its group may hold the other end, and die of this.
        os.close(self._lifeline)
        if self._pidfd is not None:
            os.close(self._pidfd)
        return returncode


def _shared_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("taskproc-status")
    else:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _open_pidfd(pid: int) -> int | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # an old kernel, or a sandbox
            return os.pidfd_open(pid)
    return None
