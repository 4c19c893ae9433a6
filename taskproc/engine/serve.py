"""Serve work in a worker process: read a frame, call the function, answer.

The other end of the protocol that `taskproc.interfaces.ExecutorProvider.open` documents.
Knows nothing of tasks, caches or capture, and imports little: every worker pays for it.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import mmap
import os
import pickle
import select
import signal
import sys
from collections.abc import Callable

from taskproc.engine.forks import call_as_parent

_HEADER = 8
_SMALL = 1 << 16
_STATUS_SIZE = 16


def serve(socket_fd: int, status_fd: int, lifeline_fd: int) -> None:
    """Do the work that comes in on the socket until the runner closes it.

    Args:
        socket_fd: a connected stream socket; frames go in and out.
        status_fd: a file of 16 bytes shared with the runner.
        lifeline_fd: the read end of a pipe; when its write end closes, which happens
            when the runner dies in whatever way, this process and its group are killed.
    """
    for fd in (socket_fd, status_fd, lifeline_fd):
        os.set_inheritable(fd, False)  # not for the programs that tasks start
    _die_with(lifeline_fd)
    connection = _Connection(socket_fd)
    status = _Status(status_fd)
    served = 0
    while (frame := connection.read()) is not None:
        if bytes(frame[:1]) == b"P":
            sys.path[:] = pickle.loads(frame[1:])
            continue
        served += 1
        status.begin(served)
        _answer(connection, status, frame)


class _Announcer:
    """What a work may tell the runner; closed when the work's function has returned."""

    __slots__ = ("_connection", "announce")

    def __init__(self, connection: _Connection, announce: Callable[[int], None]) -> None:
        self._connection: _Connection | None = connection
        self.announce = announce

    def send(self, message: bytes) -> None:
        """Hand a message to the runner. Raises RuntimeError after the end of the work."""
        if self._connection is None:
            raise RuntimeError("this work is over: nobody takes its messages any more")
        self._connection.write(b"M", message)

    def close(self) -> None:
        self._connection = None


def _answer(connection: _Connection, status: _Status, frame: memoryview) -> None:
    announcer = _Announcer(connection, status.announce)
    try:
        with frame, frame[:1] as kind, frame[1:] as body:  # its memory is free before the work begins
            announces = bytes(kind) == b"W"
            function, args, kwargs = pickle.loads(body)
        if announces:
            args = (*args, announcer)
        result = call_as_parent(lambda: function(*args, **kwargs))
        answer = b"R", _dump(result)
        del result
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        answer = b"X", _dump_error(error)
    announcer.close()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the work may have closed or replaced it
            stream.flush()
    try:
        connection.write(*answer)
    except OSError as error:  # a work that closes every descriptor, or no runner any more
        sys.exit(f"taskproc: this worker lost its connection to the runner ({error.strerror or error})")


def _dump(value: object) -> bytes:
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a lambda, a class of __main__: cloudpickle knows more
        import cloudpickle

        return bytes(cloudpickle.dumps(value))


def _dump_error(error: BaseException) -> bytes:
    """The exception and the text of its traceback; only text of what can't travel."""
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        body = _dump((error, text))
        pickle.loads(body)  # an __init__ of two arguments pickles, and fails only here
    except Exception:  # noqa: BLE001 - __reduce__ may raise anything
        summary = "".join(traceback.format_exception_only(error)).strip()
        body = _dump((RuntimeError(summary), text))
    return body


class _Connection:
    """Frames over a socket's descriptor: 8 bytes of length, little endian, then the body."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._inode = os.fstat(fd)[1:3]
        self._lock = _thread.allocate_lock()

    def read(self) -> memoryview | None:
        """The next frame, or None when the runner has closed the socket."""
        header = self._read_exactly(_HEADER)
        return None if header is None else self._read_exactly(int.from_bytes(header, "little"))

    def write(self, kind: bytes, body: bytes) -> None:
        header = (len(body) + 1).to_bytes(_HEADER, "little") + kind
        with self._lock:
            self._check()
            if len(body) < _SMALL:
                self._write_all(header + body)
            else:
                self._write_all(header)
                self._write_all(body)

    def _check(self) -> None:
        # A task that closes every descriptor may own this number by now, as a file of its own.
        if os.fstat(self._fd)[1:3] != self._inode:
            raise OSError("the connection to the runner was closed by the work")

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _read_exactly(self, size: int) -> memoryview | None:
        chunk = os.read(self._fd, min(size, _SMALL))
        if len(chunk) == size:
            return memoryview(chunk)
        if not chunk:
            return None
        body = memoryview(bytearray(size))
        filled = len(chunk)
        body[:filled] = chunk
        while filled < size:
            count = os.readv(self._fd, [body[filled:]])
            if not count:
                return None
            filled += count
        return body


class _Status:
    """Where the work is, and how many were begun, in a page shared with the runner.

    Shared memory, not writes to a file: the page outlives a task that closes every
    descriptor, and the runner can read it whatever death this process dies.
    """

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, _STATUS_SIZE)
        os.close(fd)
        self.begin(0)

    def begin(self, count: int) -> None:
        self._page[:_STATUS_SIZE] = b"\xff" * 8 + count.to_bytes(8, "little")

    def announce(self, position: int) -> None:
        """Note where the work is; the runner reads it only if this process dies."""
        self._page[:8] = position.to_bytes(8, "little")


def _die_with(lifeline_fd: int) -> None:
    """Have this process's group killed as soon as the lifeline's write end is closed.

    On Linux by the kernel, so that it works while C code holds the interpreter and without
    a thread (which would make os.fork in tasks warn). Elsewhere by a thread.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline_fd, fcntl.F_GETFL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, flags | os.O_ASYNC)
    else:
        _thread.start_new_thread(_wait_and_die, (lifeline_fd,))
    # The runner may have died before the kernel was told: its end is then closed already.
    poll = select.poll()
    poll.register(lifeline_fd, select.POLLIN)
    if poll.poll(0):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _wait_and_die(lifeline_fd: int) -> None:
    os.read(lifeline_fd, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
