"""Lease files: who a runner is, that it is alive, and what it has claimed, in a file of its own.

    leases/<ticket>.lease   who it is (JSON), a counter, then a line for each claim

Only its owner writes to a file, in place; everybody reads it whole. Its owner keeps it locked as
long as it lives, where the file system has locks. Knows nothing of who wins a claim, nor when an
owner counts as dead.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple

from taskproc.default_plugins.directory_cache.files import LONGEST_TEXT, Files
from taskproc.default_plugins.directory_cache.locks import is_at, lock_file
from taskproc.default_plugins.directory_cache.owners import Owner, this_process
from taskproc.interfaces import TaskKey

SUFFIX = ".lease"

ASKED, HELD = b"?", b"+"
"""A claim that its owner has yet to compare with those of others, and one that it has."""

_HEAD = 512
_COUNTER = 12
"""The first so many bytes say who it is, and the last of them hold the counter."""
_SLOT = 32
_FREE = b" " * (_SLOT - 1) + b"\n"
_FEW = 16
"""So many claims are looked for one by one in a file, more of them in one go."""
_TRIES = 50
_PAUSE = 0.01


def mark_of(key: TaskKey) -> bytes:
    """What stands for a key in a file; two keys of one mark are less likely than a broken disk."""
    text = f"{key.name}\0{key.digest}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=15).hexdigest().encode()


class Reading(NamedTuple):
    """One reading of a lease file. `owner` is None before it is written; `beat` differs while it lives."""

    owner: Owner | None
    beat: tuple[int, bytes]
    data: bytes

    def claims(self, marks: Collection[bytes]) -> dict[bytes, bytes]:
        """Those of `marks` that stand there, and in which state."""
        found: dict[bytes, bytes] = {}
        if len(marks) <= _FEW:
            for mark in marks:
                at = self.data.find(mark, _HEAD)
                if at > 0:
                    found[mark] = self.data[at - 1 : at]
        else:
            for line in self.data[_HEAD:].split(b"\n"):
                if line[1:] in marks:
                    found[line[1:]] = line[:1]
        return {mark: state for mark, state in found.items() if state in (ASKED, HELD)}


def read_lease(path: str) -> Reading | None:
    """Read a lease file; None if there is none, or none that can be read."""
    # Opened anew each time: on a network file system that is what asks for the latest content.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            described = os.fstat(descriptor)
            if not stat.S_ISREG(described.st_mode) or described.st_size > LONGEST_TEXT:
                return None  # nothing that a runner of ours has written
            data = b""
            while more := os.read(descriptor, max(described.st_size + 1 - len(data), _HEAD)):
                data += more
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return Reading(_owner(data), (described.st_mtime_ns, data[_HEAD - _COUNTER : _HEAD]), data)


def _owner(data: bytes) -> Owner | None:
    try:
        fields: Any = json.loads(data[: _HEAD - _COUNTER])
        owner = Owner(**fields)
    except (ValueError, TypeError, RecursionError):
        return None
    kinds = [(str, str, str, int, str, bool, str)]
    return owner if [tuple(type(value) for value in owner)] == kinds and owner.pid > 0 else None


class OwnLease:
    """The lease file of this process: made, locked, and written line by line.

    Args:
        folder: where lease files are; it is there.
        files: makes the writes.
        runner: for a job in a process of its own, the ticket of its runner.

    Raises OSError where the file can't be made.
    """

    def __init__(self, folder: str, files: Files, runner: str = "") -> None:
        self._files = files
        self._pid = os.getpid()
        self._descriptor = -1
        self._is_there = False
        self._count = 0
        self._lines = bytearray()
        self._at: dict[bytes, int] = {}
        self._free: list[int] = []
        self._torn = False
        for _ in range(_TRIES):
            self.ticket = os.urandom(8).hex()
            self.path = f"{folder}/{self.ticket}{SUFFIX}"
            if self._make(runner):
                return
            time.sleep(_PAUSE)
        raise BlockingIOError(f"another process holds or removes every new file in {folder!r}")

    def _make(self, runner: str) -> bool:
        descriptor = self._descriptor = self._files.open_lock_file(self.path)
        self._is_there = True
        self._inode = os.fstat(descriptor).st_ino
        try:
            has_lock = lock_file(descriptor)
            # Who tidies up may have taken it for a dead runner's before it was locked.
            if has_lock is not False and is_at(descriptor, self.path):
                text = json.dumps(this_process(has_lock is True, runner)._asdict(), separators=(",", ":"))
                head = text.encode().ljust(_HEAD - _COUNTER) + self._counter()
                self._files.write_at(descriptor, head, 0)
                return True
        except BaseException:
            self.close()
            raise
        self.forget()
        return False

    def _counter(self) -> bytes:
        self._count += 1
        return b"%*d\n" % (_COUNTER - 1, self._count % 10**9)

    def beat(self) -> None:
        """Show that its owner lives."""
        self._check()
        self._files.write_at(self._descriptor, self._counter(), _HEAD - _COUNTER)
        if self._torn:
            self._write((0,))
        self._flush()

    def put(self, marks: Iterable[bytes], state: bytes) -> None:
        """Write claims down in this state; those that stand there already change to it."""
        changed: list[int] = []
        for mark in marks:
            slot = self._at.get(mark)
            if slot is None:
                if not self._free:
                    self._grow()
                slot = self._at[mark] = self._free.pop()
            self._lines[slot : slot + _SLOT] = state + mark + b"\n"
            changed.append(slot)
        self._write(changed)
        self._flush()

    def remove(self, marks: Iterable[bytes]) -> None:
        """Take claims away; those that are not there are passed over.

        A network file system may show it to other hosts with the next claim or beat only.
        """
        changed: list[int] = []
        for mark in marks:
            slot = self._at.pop(mark, None)
            if slot is not None:
                self._lines[slot : slot + _SLOT] = _FREE
                self._free.append(slot)
                changed.append(slot)
        self._write(changed)

    def _grow(self) -> None:
        start = len(self._lines)
        more = max(8, start // _SLOT)
        self._lines += _FREE * more
        self._free = [start + _SLOT * number for number in reversed(range(more))]

    def _write(self, changed: Sequence[int]) -> None:
        if changed:
            first, end = (min(changed), max(changed)) if len(changed) > 1 else (changed[0], changed[0])
            end += _SLOT
            if self._torn:
                first, end = 0, len(self._lines)
            self._check()
            self._torn = True  # until it is known to be written; else all is, the next time
            self._files.write_at(self._descriptor, bytes(self._lines[first:end]), _HEAD + first)
            self._torn = False

    def _check(self) -> None:
        # A task in this process may have closed what it did not open, and the number may by now
        # be that of a file of the user's.
        try:
            inode = os.fstat(self._descriptor).st_ino
        except OSError:
            inode = -1
        if inode == self._inode:
            return
        self._descriptor = -1
        raise OSError(errno.EBADF, "the lease file was closed by somebody else", self.path)

    def _flush(self) -> None:
        # To close a descriptor, be it a copy, is what sends writes to the server of a network
        # file system; on others it is next to nothing.
        os.close(os.dup(self._descriptor))

    def close(self) -> None:
        """Remove the file, and with it every claim, unless this is a forked child: it is its parent's."""
        if self._is_there and self._pid == os.getpid():
            with suppress(OSError):
                self._files.unlink(self.path)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor and leave the file."""
        self._is_there = False
        if self._descriptor >= 0:
            with suppress(OSError):
                self._check()
                os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()
