"""Open files that a cache names, and make private ones: no link is followed, no pipe waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def open_plain(path: str | Path) -> BinaryIO:
    """A file to read from. Raises OSError, also for a link and for what is no regular file."""
    try:
        stream = open(os.open(path, _FLAGS), "rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, and none is followed here", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return stream


def create_private(path: str | Path) -> int:
    """Make a file for its owner alone, whatever the umask; returns the descriptor.

    Raises OSError, also if something is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
