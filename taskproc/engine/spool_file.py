"""A file for what a task prints, on which no task fails.

What a full or broken disk refuses is dropped, and told once the task is over. Knows nothing of
tasks, nor where the file is.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import Any

_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


class SpoolFile(io.FileIO):
    """A raw file, opened for writing, that drops what the disk does not take."""

    fault: OSError | None = None
    """Why something was dropped since the last look."""

    def write(self, data: Any, /) -> int:
        """Write; all counts as written that the disk does not take."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _FAULTS:
                raise
            self.fault = error
            return memoryview(data).nbytes


def open_spool(path: str | os.PathLike[str]) -> int:
    """Make a file empty, for its owner alone whatever the umask; returns the descriptor. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def spool_stream(file: int, encoding: str, errors: str, closes: bool = True) -> io.TextIOWrapper:
    """A text stream over a descriptor that drops what the disk does not take, written line by line."""
    raw = SpoolFile(file, "w", closefd=closes)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, newline="\n", line_buffering=True)


def tell_what_was_dropped(stream: io.TextIOBase | None) -> None:
    """Warn if the disk did not take all that was written to a stream since the last time."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, SpoolFile) and raw.fault is not None:
        fault, raw.fault = raw.fault, None
        warnings.warn(f"a part of what a task printed was not kept: {fault}", RuntimeWarning, stacklevel=2)


def use_spool_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` such streams, in a process that is ours from its start."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        if before is not None:  # None: the process was started without it
            before.flush()
            setattr(sys, name, spool_stream(descriptor, before.encoding, before.errors, closes=False))
