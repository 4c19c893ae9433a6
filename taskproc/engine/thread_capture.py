"""Keep what a task prints where tasks share a process: by context, through `sys.stdout`.

Knows nothing of tasks or caches: it is given paths. Never touches descriptors, which
belong to the whole process.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from taskproc.engine.spool_file import open_spool, spool_stream, tell_what_was_dropped

_ENCODING = "utf-8"
_ERRORS = "backslashreplace"


@contextlib.contextmanager
def thread_capture(stdout_path: Path, stderr_path: Path) -> Iterator[None]:
    """Capture what the calling context writes through `sys.stdout` and `sys.stderr`.

    For tasks that share a process: other threads' output stays where it was, and so does the
    output of child processes, of C code, and of plain threads the task starts (a thread begins
    with a context of its own; `asyncio.to_thread` takes the task's along). A file is made at
    the first write to it.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_routed("stdout", stdout_path))
        stack.enter_context(_routed("stderr", stderr_path))
        yield


@contextlib.contextmanager
def _routed(name: str, path: Path) -> Iterator[None]:
    stream = RoutedStream.install(name)
    destination = _Destination(path)
    token = stream.destination.set(destination)
    try:
        yield
    finally:
        stream.destination.reset(token)
        destination.close()
        stream.uninstall()


class _Destination:
    """One task's file, made at the first write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _thread.allocate_lock()
        self._file: io.TextIOWrapper | None = None
        self.open = True

    def write(self, text: str) -> bool:
        """Write; False if the task is over (a thread it left behind has our context still)."""
        with self._lock:
            if self.open:
                self._stream().write(text)
            return self.open

    def write_bytes(self, data: Any) -> bool:
        with self._lock:
            if self.open:
                self._stream().flush()
                self._stream().buffer.write(data)
                self._stream().buffer.flush()
            return self.open

    def flush(self) -> None:
        with self._lock:
            if self._file is not None and self.open:
                self._file.flush()

    def close(self) -> None:
        with self._lock:
            self.open = False
            if self._file is not None:
                try:
                    self._file.flush()
                    tell_what_was_dropped(self._file)
                finally:
                    self._file.close()

    def _stream(self) -> io.TextIOWrapper:
        if self._file is None:
            # Line by line, so that the log can be read while the task runs.
            self._file = spool_stream(open_spool(self._path), _ENCODING, _ERRORS)
        return self._file


class RoutedStream(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr` while somebody captures by context.

    What is written in a capturing context goes to its destination, all else to the stream
    that was there before. All that the process needs to know is kept here, and found by
    looking at `sys.stdout`.
    """

    # Taking a stream's place can't be atomic, and the lock must be there before the stream.
    _changing = _thread.allocate_lock()

    def __init__(self, name: str, before: TextIO | None) -> None:
        self._name = name
        self._users = 0
        self._before = before
        # None in a process without descriptor 1 or 2, where print() does nothing.
        self.original: TextIO = before or open(os.devnull, "w")  # noqa: SIM115 - closed in uninstall
        self.destination: ContextVar[_Destination] = ContextVar(f"destination of {name}")

    @classmethod
    def install(cls, name: str) -> RoutedStream:
        """The stream that stands in for `sys.<name>`, put there if there is none yet."""
        with cls._changing:
            stream = getattr(sys, name)
            if not isinstance(stream, RoutedStream):
                stream = RoutedStream(name, stream)
                setattr(sys, name, stream)
            stream._users += 1
            return stream

    def uninstall(self) -> None:
        """One user less; after the last the original is back."""
        with self._changing:
            self._users -= 1
            # If somebody redirected in the meantime, theirs stays; this one only passes on.
            if self._users == 0 and getattr(sys, self._name) is self:
                setattr(sys, self._name, self._before)
                if self._before is None:
                    self.original.close()

    def _target(self) -> _Destination | None:
        destination = self.destination.get(None)
        return destination if destination is not None and destination.open else None

    def write(self, text: str, /) -> int:
        target = self._target()
        if target is None or not target.write(text):
            return self.original.write(text)
        return len(text)

    def flush(self) -> None:
        target = self._target()
        if target is not None:
            target.flush()
        elif not self.original.closed:
            self.original.flush()

    def close(self) -> None:
        """Only a flush: the process's stream is not one task's to close."""
        self.flush()

    def isatty(self) -> bool:
        return self._target() is None and self.original.isatty()

    def fileno(self) -> int:
        return self.original.fileno()

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> _RoutedBytes:
        return _RoutedBytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return _ENCODING if self._target() is not None else self.original.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return _ERRORS if self._target() is not None else self.original.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class _RoutedBytes(io.BufferedIOBase):
    """The binary side of a routed stream."""

    def __init__(self, stream: RoutedStream) -> None:
        self._stream = stream

    def write(self, data: Any, /) -> int:
        target = self._stream._target()
        if target is None or not target.write_bytes(data):
            return self._stream.original.buffer.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()
