"""Look at the lease files of others, and remove those whose owner is dead.

The lock of a file tells at once that its owner has died. Where there is none, or where it proves
too little (a stopped process keeps its locks; another host may not tell of them), the owner is
dead if its file has stood still for long, by our own steady clock. Clocks of two hosts are never
compared. Knows nothing of who wins a claim.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.lease_file import SUFFIX, Reading, read_lease
from taskproc.default_plugins.directory_cache.locks import is_at, lock_file
from taskproc.default_plugins.directory_cache.owners import (
    Owner,
    State,
    has_kernel_of,
    state_of,
    this_process,
)
from taskproc.interfaces import Holder

BEAT_SECONDS = 1.0
"""How often the owner of a lease that holds claims shows that it lives."""

REBOOTED_SECONDS = 4.0
UNSURE_SECONDS = 10.0
STOPPED_SECONDS = 20.0
ELSEWHERE_SECONDS = 30.0
JOB_SECONDS = 120.0
LOCKED_JOB_SECONDS = 3600.0
"""How long a file stands still until its owner counts as dead: of a kernel that runs no more; of a
process of which nothing is known; that is stopped; on another host. A job may keep Python, and with
it the thread that beats, from running for as long as a call into C takes, and to compute it twice
may be dear: it gets more time, above all where a lock of it is seen."""

_LONGEST_GAP = 1.0
_NAME = re.compile("[0-9a-f]{16}" + re.escape(SUFFIX))
"""The name of a lease file; what has another is somebody else's, and stays."""


def patience(owner: Owner | None, here: Owner, has_lock: bool | None, state: State) -> float | None:
    """For how many seconds a lease stands still until its owner is dead; None: it lives.

    `has_lock` tells whether somebody was seen to hold the lock of the file; None: locks tell nothing.
    """
    if owner is None:  # it is being made, or its maker was killed in the middle
        return {True: None, False: 0.0, None: UNSURE_SECONDS}[has_lock]
    if has_kernel_of(owner, here):
        if has_lock is False or state == "gone":
            return 0.0
        if state == "stopped":
            return STOPPED_SECONDS
        if state == "lives":
            return None
        if owner.space == here.space:
            return None if has_lock else UNSURE_SECONDS
    elif owner.host == here.host and not has_lock:
        return REBOOTED_SECONDS
    if owner.runner:
        return LOCKED_JOB_SECONDS if has_lock else JOB_SECONDS
    return ELSEWHERE_SECONDS


class _Still(NamedTuple):
    """A lease that was seen, and for how long it has stood still by our looks."""

    beat: tuple[int, bytes]
    looked: float
    seconds: float


class OtherLeases:
    """The lease files in a folder that are not ours."""

    def __init__(self, folder: str, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._still: dict[str, _Still] = {}

    @cached_property
    def _here(self) -> Owner:
        return this_process(locks=False)

    def tickets(self) -> list[str]:
        """The tickets of all lease files there, ours among them; raises OSError without the folder."""
        return [name.removesuffix(SUFFIX) for name in os.listdir(self._folder) if _NAME.fullmatch(name)]

    def read(self, ticket: str) -> Reading | None:
        """What stands in the file of this ticket; None if it is gone."""
        return read_lease(self._path(ticket))

    def is_there(self, ticket: str) -> bool:
        """Whether the file of this ticket is there, as far as can be told."""
        try:
            os.stat(self._path(ticket), follow_symlinks=False)
        except FileNotFoundError:
            # Where somebody has removed the whole cache, nobody has taken anything over.
            return not os.path.isdir(self._folder)
        except OSError:
            return True
        return True

    def remove_if_dead(self, ticket: str, reading: Reading) -> bool:
        """Remove a file, of which this is a reading, if its owner is dead; whether it is gone now."""
        return self._is_dead(ticket, reading, removes=True)

    def is_dead(self, ticket: str, reading: Reading) -> bool:
        """Whether the owner of a file, of which this is a reading, is known to be dead."""
        return self._is_dead(ticket, reading, removes=False)

    def _is_dead(self, ticket: str, reading: Reading, removes: bool) -> bool:
        path = self._path(ticket)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:  # not ours to lock, so not ours to remove; but a process that is gone has no claims
            owner = reading.owner
            return not removes and owner is not None and state_of(owner, self._here) == "gone"
        try:
            # While we hold the lock, nobody has just made this file and is about to lock it.
            is_free = lock_file(descriptor)
            owner = reading.owner
            trusted = is_free is not None and (owner is None or owner.locks)
            has_lock = not is_free if trusted else None
            state = state_of(owner, self._here) if owner is not None else "unknown"
            needed = patience(owner, self._here, has_lock, state)
            if needed is None or self._stands_still(ticket, reading.beat) < needed:
                return False
            if removes and is_at(descriptor, path):
                self._files.unlink(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        if removes:
            self._still.pop(ticket, None)
        return True

    def _stands_still(self, ticket: str, beat: tuple[int, bytes]) -> float:
        """For how many seconds this file has been seen unchanged.

        Between two looks no more than a beat's time counts: if this process, or the whole
        machine, was stopped meanwhile, the other one may have had no chance to beat.
        """
        now = time.monotonic()
        known = self._still.get(ticket)
        seconds = 0.0
        if known is not None and known.beat == beat:
            seconds = known.seconds + min(now - known.looked, _LONGEST_GAP)
        self._still[ticket] = _Still(beat, now, seconds)
        return seconds

    def tidy_up(self, besides: Collection[str]) -> None:
        """Remove the files of all who are known to be dead now."""
        with suppress(OSError):
            there = self.tickets()
            for ticket in there:
                if ticket not in besides and (reading := self.read(ticket)) is not None:
                    self.remove_if_dead(ticket, reading)
            self._still = {ticket: still for ticket, still in self._still.items() if ticket in there}

    def holder(self, reading: Reading) -> Holder | None:
        """Who the owner of a lease is, for people."""
        owner = reading.owner
        if owner is None:
            return None
        words = f"pid {owner.pid} on host {owner.host}"
        if owner.runner:
            words = f"the job that is {words}"
        if state_of(owner, self._here) == "stopped":
            words += ", which is stopped"
        return Holder(owner.host, owner.pid, is_job=bool(owner.runner), words=words)

    def _path(self, ticket: str) -> str:
        return f"{self._folder}/{ticket}{SUFFIX}"
