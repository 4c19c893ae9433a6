"""Let others see what the runs of this process are doing, and see what others' runs do.

    runs/<run>.json   what the run posted last, renamed into place: nobody reads half a post
    runs/<run>.lock   locked by the run's process as long as it lives

The lock is on a file of its own because a rename would take it away from the post itself.
What a run posts is its own business. Whatever goes wrong with a disk here is passed over.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import os
import re
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from taskproc.default_plugins.directory_cache.files import Files, open_to_read, read_file, written_for
from taskproc.default_plugins.directory_cache.formats import decode_line, encode_line
from taskproc.default_plugins.directory_cache.locks import forget_in_forks, is_at, is_locked, lock_file
from taskproc.default_plugins.directory_cache.names import folder_name
from taskproc.interfaces import JSON

_POST = ".json"
_LOCK = ".lock"
_RUN = re.compile("[0-9a-f]{16}")
"""How runs name themselves."""
_TRIES = 5
_PAUSE = 0.01
"""Seconds until a lock is tried again: who tidies up holds it for less."""


class _Post(NamedTuple):
    """What stands in a post: by whom it is, whether that one holds a lock, and what it says."""

    host: str
    pid: int
    locked: bool
    facts: Mapping[str, JSON]


class Posts:
    """The posts below one folder, those of this object's runs among them."""

    def __init__(self, folder: str, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._watches_forks = False
        self._reset()

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, int] = {}  # by path; -1: no locks here

    def post(self, run: str, facts: Mapping[str, JSON]) -> None:
        """Show `facts` as what this run does, and tidy up after runs that died."""
        path = f"{self._folder}/{folder_name(run)}"
        with self._guard, suppress(OSError):
            is_lockable = self._hold(path)
            post = _Post(os.uname().nodename, os.getpid(), is_lockable, dict(facts))
            self._files.write(path + _POST, (encode_line(post._asdict()),), durable=False)
            self._tidy_up(removes=True)

    def unpost(self, run: str) -> None:
        """Take the post of this object's run back."""
        path = f"{self._folder}/{folder_name(run)}"
        with self._guard:
            descriptor = self._locks.pop(path, None)
            if descriptor is None:
                return
            for suffix in (_POST, _LOCK):
                with suppress(OSError):
                    self._files.unlink(path + suffix)
            if descriptor >= 0:
                os.close(descriptor)

    def read(self) -> list[Mapping[str, JSON]]:
        """What the runs that are alive have posted; writes nothing and hinders nobody."""
        found: list[Mapping[str, JSON]] = []
        for name in sorted(self._names()):
            path = f"{self._folder}/{name}"
            if name.endswith(_POST) and (post := _read(path)) and _is_alive(path, post):
                found.append(post.facts)
        return found

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except OSError:
            return []

    def _hold(self, path: str) -> bool:
        """Hold the run's lock from now on; False where the file system has none."""
        descriptor = self._locks.get(path)
        if descriptor is not None:
            if descriptor < 0 or is_at(descriptor, path + _LOCK):
                return descriptor >= 0
            os.close(self._locks.pop(path))  # somebody has removed the whole cache
        if not self._watches_forks:
            self._watches_forks = True
            forget_in_forks(self)
        self._files.make_directory(self._folder)
        for _ in range(_TRIES):
            descriptor = self._files.open_lock_file(path + _LOCK)
            try:
                has_lock = lock_file(descriptor)
                if has_lock is None:
                    self._locks[path] = -1
                    self._files.unlink(path + _LOCK)
                    return False
                # Who tidies up may have unlinked the file between our two calls.
                if has_lock and is_at(descriptor, path + _LOCK):
                    self._locks[path], descriptor = descriptor, -1
                    return True
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            time.sleep(_PAUSE)
        raise BlockingIOError(errno.EAGAIN, "another process posts for this run", path)

    def tidy_up(self, removes: bool) -> list[str]:
        """What the runs that died have left; it is removed, or only told."""
        with self._guard:
            return self._tidy_up(removes)

    def _tidy_up(self, removes: bool) -> list[str]:
        left: dict[str, list[str]] = {}
        for name in self._names():
            run = _run_of(name)
            path = f"{self._folder}/{run}"
            if run and path not in self._locks:
                left.setdefault(path, []).append(f"{self._folder}/{name}")
        return [name for path, names in left.items() for name in self._of_dead(path, names, removes)]

    def _of_dead(self, path: str, names: list[str], removes: bool) -> list[str]:
        """The files of a run if it is dead, which are removed or only told."""
        descriptor = -1
        has_lock: bool | None = True
        with suppress(FileNotFoundError):
            access = os.O_RDWR if removes else os.O_RDONLY
            descriptor = os.open(path + _LOCK, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if descriptor >= 0:
                has_lock = lock_file(descriptor) if removes else _is_free(descriptor)
                if has_lock is False or not is_at(descriptor, path + _LOCK):
                    return []
            post = _read(path + _POST)
            if post is not None and (has_lock is None or not post.locked) and _lives(post):
                return []
            is_lock = descriptor >= 0 and _is_empty_file(descriptor)
            ours = [name for name in names if _is_ours(name, post is not None, is_lock)]
            dead = sorted(ours, key=lambda name: name.endswith(_LOCK))  # the lock last
            for name in dead if removes else ():
                self._files.unlink(name)
            return dead
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def forget_in_fork(self) -> None:
        """Leave the parent's posts to the parent, in a forked child."""
        for descriptor in self._locks.values():
            if descriptor >= 0:
                os.close(descriptor)
        self._reset()

    def __del__(self) -> None:
        for descriptor in self._locks.values():
            if descriptor >= 0:
                os.close(descriptor)


def _is_empty_file(descriptor: int) -> bool:
    described = os.fstat(descriptor)
    return stat.S_ISREG(described.st_mode) and described.st_size == 0


def _is_free(descriptor: int) -> bool | None:
    held = is_locked(descriptor)
    return None if held is None else not held


def _run_of(name: str) -> str:
    """Which run a file is of, as its name has it; "" for a file that is not ours."""
    for suffix in (_POST, _LOCK):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    file = written_for(name)
    return file.removesuffix(_POST) if file.endswith(_POST) else ""


def _is_ours(path: str, has_post: bool, has_lock: bool) -> bool:
    """Whether a file was left by a run, and was not put there by somebody."""
    name = os.path.basename(path)
    if name.endswith(_POST):  # a power cut may have emptied it
        return has_post or has_lock or _RUN.fullmatch(name.removesuffix(_POST)) is not None
    return has_lock if name.endswith(_LOCK) else True


def _read(path: str) -> _Post | None:
    try:
        fields: Any = decode_line(read_file(path)[0])
        post = _Post(fields["host"], fields["pid"], fields["locked"], fields["facts"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    has_right_types = (
        type(post.host) is str
        and type(post.pid) is int
        and post.pid > 0
        and type(post.locked) is bool
        and type(post.facts) is dict
    )
    return post if has_right_types else None


def _is_alive(path: str, post: _Post) -> bool:
    """Whether the run of this post goes on, as far as can be known from here."""
    if post.locked:
        try:
            descriptor = open_to_read(path.removesuffix(_POST) + _LOCK)
        except FileNotFoundError:
            return False
        except OSError:
            pass
        else:
            try:
                held = is_locked(descriptor)
            finally:
                os.close(descriptor)
            if held is not None:
                return held
    return _lives(post)


def _lives(post: _Post) -> bool:
    """Whether the process that posted lives, or may do so, where no lock can tell."""
    if post.host != os.uname().nodename:
        return True  # nobody can tell from here
    try:
        os.kill(post.pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        pass
    return True
