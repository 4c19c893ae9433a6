"""Keep what a task prints in a process of its own: by descriptor, child processes included.

Knows nothing of tasks or caches: it is given a folder and a name, and hands files over.
Where tasks share a process, `thread_capture` tells them apart.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

from taskproc.engine.spool_file import open_spool, spool_stream, tell_what_was_dropped

_ENCODING = "utf-8"
_ERRORS = "backslashreplace"


class DescriptorCapture:
    """Capture all output of a process whose only work, on its main thread, is one task at a time.

    From `start` on descriptors 1 and 2 point at two spool files, so that child processes and
    C code are captured too. A spool file that is empty at `finish` stays in place for the next
    task, because every system call counts beside a small task; `close` gives the descriptors back.

    What a C library still buffers itself (`printf`) is flushed if `ctypes` is loaded.

    Attributes:
        stdout_path, stderr_path: the spool files, `NAME.out` and `NAME.err` in `scratch`.
            If this process dies in a task, the task's output so far is there.
    """

    def __init__(self, scratch: Path, name: str) -> None:
        """Prepare to capture; `name` must be no other live capture's in `scratch`.

        Args:
            scratch: an existing folder.
            name: the spool files' name, without a suffix.
        """
        self._out = _Spool(1, scratch / f"{name}.out")
        self._err = _Spool(2, scratch / f"{name}.err")
        self._stdout = _Stream("stdout", 1)
        self._stderr = _Stream("stderr", 2)
        self._flush_c: Callable[[None], Any] | None = None
        self._in_place = False

    @property
    def stdout_path(self) -> Path:
        return self._out.path

    @property
    def stderr_path(self) -> Path:
        return self._err.path

    def start(self) -> None:
        """From here all output goes to the spool files. Raises OSError if one can't be made."""
        if self._in_place:
            return
        self._flush()
        self._out.redirect()
        self._err.redirect()
        self._stdout.install()
        self._stderr.install()

    def finish(self) -> tuple[Path | None, Path | None]:
        """A task is over; returns the files with its stdout and stderr, None for no output.

        The files are the caller's to move or delete. Raises OSError where a disk did not take the
        output, which is lost; what is written from then on goes where it did before all tasks.
        """
        self._flush()
        try:
            files = self._out.hand_over(), self._err.hand_over()
        except OSError:
            self._out.drop()
            self._err.drop()
            raise
        finally:
            # A stream that the task put there is not for the next one. Only now: a task that closed
            # the descriptors as well has just got them back.
            self._stdout.install()
            self._stderr.install()
            self._in_place = self._out.in_place and self._err.in_place
        self._stdout.tell_what_was_dropped()
        self._stderr.tell_what_was_dropped()
        return files

    def close(self) -> None:
        """Give back descriptors and streams, and remove the spool files that are left."""
        self._in_place = False
        self._flush()
        self._stdout.restore()
        self._stderr.restore()
        self._out.close()
        self._err.close()

    def _flush(self) -> None:
        self._stdout.flush()
        self._stderr.flush()
        if self._flush_c is None and "ctypes" in sys.modules:
            self._flush_c = sys.modules["ctypes"].CDLL(None).fflush
        if self._flush_c is not None:
            self._flush_c(None)


class _Spool:
    """One spool file, and the descriptor that is pointed at it."""

    def __init__(self, target: int, path: Path) -> None:
        self.path = path
        self._target = target
        self._handed_over = 0
        self._fd: int | None = None
        self._inode: tuple[int, int] | None = None
        self.in_place = False
        try:
            self._saved = os.dup(target)
        except OSError:  # the process was started without it
            self._saved = os.open(os.devnull, os.O_RDWR)

    def redirect(self) -> None:
        if self._size() is None:
            self._fd = open_spool(self.path)
            self._inode = _inode(os.fstat(self._fd))
        os.dup2(cast(int, self._fd), self._target)

    def hand_over(self) -> Path | None:
        self.in_place = self._is_in_place()
        if self.in_place:
            return None
        self._give_back()
        if self._size() == 0:
            return None
        self._close_spool()
        self._handed_over += 1
        path = self.path.with_name(f"{self.path.stem}.{self._handed_over}{self.path.suffix}")
        try:
            self.path.rename(path)
        except FileNotFoundError:  # the task removed it
            return None
        return path

    def drop(self) -> None:
        """Give the descriptor back; what is in the file is lost, and not for the next task."""
        self.in_place = False
        self._give_back()
        with contextlib.suppress(OSError):
            self._close_spool()
        self._fd = None

    def close(self) -> None:
        self._give_back()
        with contextlib.suppress(OSError):
            os.close(self._saved)
        # Called as the process ends: what a disk refuses here is left for the next run to remove.
        with contextlib.suppress(OSError):
            self._close_spool()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _give_back(self) -> None:
        # A task that closes every descriptor has closed this one too: no reason to lose its output.
        with contextlib.suppress(OSError):
            os.dup2(self._saved, self._target)

    def _is_in_place(self) -> bool:
        """Whether the target still is the spool file, and the file is empty."""
        try:
            state = os.fstat(self._target)
        except OSError:
            return False
        return state.st_size == 0 and _inode(state) == self._inode

    def _close_spool(self) -> None:
        if self._size() is not None:
            os.close(cast(int, self._fd))
        self._fd = None

    def _size(self) -> int | None:
        """Bytes in the spool file; None if the descriptor isn't ours (a task may close any)."""
        if self._fd is None:
            return None
        try:
            state = os.fstat(self._fd)
        except OSError:
            return None
        return state.st_size if _inode(state) == self._inode else None


def _inode(state: os.stat_result) -> tuple[int, int]:
    return state.st_ino, state.st_dev


class _Stream:
    """`sys.stdout` or `sys.stderr` as a text stream over its descriptor, put right for each task.

    The stream that is already there is kept, with another encoding: what was made earlier
    (a logging handler, say) holds that one, and its output is the task's as well.
    """

    def __init__(self, name: str, fd: int) -> None:
        self._name = name
        self._fd = fd
        self._before = getattr(sys, name)
        self._settings: dict[str, Any] | None = None
        stream = self._before
        if isinstance(stream, io.TextIOWrapper) and _usable(stream) and _descriptor(stream) == fd:
            self._settings = {
                "encoding": stream.encoding,
                "errors": stream.errors,
                "line_buffering": stream.line_buffering,
            }
            stream.reconfigure(encoding=_ENCODING, errors=_ERRORS, line_buffering=True)
            self._ours = stream
        else:
            self._ours = self._open()

    def _open(self) -> io.TextIOWrapper:
        # By descriptor, so that it can be closed without closing 1 or 2 themselves.
        return spool_stream(self._fd, _ENCODING, _ERRORS, closes=False)

    def install(self) -> None:
        # Put there first: what a task put in its place may close our buffer as it goes.
        setattr(sys, self._name, self._ours)
        if not _usable(self._ours):
            self._ours = self._open()
            setattr(sys, self._name, self._ours)

    def flush(self) -> None:
        current: Any = getattr(sys, self._name, None)
        for stream in (self._ours,) if current is self._ours else (current, self._ours):
            with contextlib.suppress(Exception):  # closed, None, or a class of the task's
                stream.flush()

    def tell_what_was_dropped(self) -> None:
        if _usable(self._ours):
            tell_what_was_dropped(self._ours)

    def restore(self) -> None:
        if self._settings is not None:
            if not _usable(self._before):
                return  # ours took its place
            with contextlib.suppress(OSError):  # it flushes, and the task may have closed the descriptor
                self._before.reconfigure(**self._settings)
        setattr(sys, self._name, self._before)


def _usable(stream: io.TextIOWrapper) -> bool:
    try:
        return not stream.closed
    except ValueError:  # its buffer was detached
        return False


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
