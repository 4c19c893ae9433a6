"""Lock files in a way that the kernel undoes when the process dies.

Knows nothing of what is locked, nor where.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import weakref
from typing import Protocol

HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)
NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems without locks, and kernels without this kind, answer."""

# Locks of the open file, not of the process, where the system has them: with the latter,
# two caches of one process would not exclude each other, and closing one would free both's.


def _flock(kind: int, offset: int, length: int) -> bytes:
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, offset, length, 0)


def lock_file(descriptor: int) -> bool | None:
    """Lock a whole file, opened for writing; False: another holds it; None: no locks here."""
    try:
        if sys.platform == "linux":
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, 0, 0))
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return _refusal(error)
    return True


def is_locked(descriptor: int) -> bool | None:
    """Whether another open file holds the lock of `lock_file`; None: no locks here.

    Keeps nobody from locking the file, or only for the blink of an eye.
    """
    try:
        if sys.platform == "linux":
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, 0, 0))
            return bool(struct.unpack("hhqqi0q", answer)[0] != fcntl.F_UNLCK)
        else:
            # Shared, so that two who look do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return False
    except OSError as error:
        refusal = _refusal(error)
        return None if refusal is None else not refusal


def is_at(descriptor: int, path: str) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _refusal(error: OSError) -> bool | None:
    if error.errno in HELD_BY_ANOTHER:
        return False
    if error.errno in NO_LOCKS_HERE:
        return None
    raise error


class LockOwner(Protocol):
    """An object that holds locks."""

    def forget_in_fork(self) -> None:
        """Close all descriptors, in a forked child of the process that opened them."""


def forget_in_forks(owner: LockOwner) -> None:
    """Have every child forked from now on close the locked files of this object.

    A forked child (of a user's own process pool) shares the open files, so it would keep the
    locks of a process that died. It closes them instead, which frees nothing in the parent.
    """
    reference = weakref.ref(owner)

    def forget() -> None:
        owner = reference()
        if owner is not None:
            owner.forget_in_fork()

    os.register_at_fork(after_in_child=forget)


class ForkWatcher(LockOwner, Protocol):
    """A lock owner that has something to pause while its process forks."""

    def before_fork(self) -> None:
        """Called right before a fork, in the parent."""

    def after_fork(self) -> None:
        """Called right after a fork, in the parent."""


def around_forks(owner: ForkWatcher) -> None:
    """Like `forget_in_forks`, for an owner that also pauses."""
    reference = weakref.ref(owner)

    def before() -> None:
        if (owner := reference()) is not None:
            owner.before_fork()

    def after() -> None:
        if (owner := reference()) is not None:
            owner.after_fork()

    os.register_at_fork(before=before, after_in_parent=after)
    forget_in_forks(owner)
