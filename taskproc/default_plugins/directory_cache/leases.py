"""Claim keys for one runner, so that several runners share a cache without doing a task twice.

A claim is a lock on one byte of a file: no file is made for it, and the kernel gives it back
when the runner dies, however it dies. Knows nothing of entries.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from hashlib import blake2b

from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.locks import (
    HELD_BY_ANOTHER,
    NO_LOCKS_HERE,
    forget_in_forks,
    lock_byte,
    unlock_byte,
)
from taskproc.default_plugins.directory_cache.root import unwritable
from taskproc.interfaces import TaskKey

FILES = 32
"""Claims are spread over so many files: the kernel walks through a file's locks one by one."""

_Place = tuple[int, int]


def _place(key: TaskKey) -> _Place:
    """The file and the byte of a key. Two keys of one place are less likely than a broken disk."""
    digest = blake2b(f"{key.name}\0{key.digest}".encode("utf-8", "surrogatepass"), digest_size=9).digest()
    return digest[0] % FILES, int.from_bytes(digest[1:]) >> 2


class Leases:
    """The claims of one runner; `folder` is where the lock files are, or will be."""

    def __init__(self, folder: str, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._reset()
        self._watches_forks = False

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._descriptors: dict[int, int] = {}
        self._held: dict[TaskKey, _Place] = {}
        self._lockable = True

    def claim(self, keys: Iterable[TaskKey]) -> set[TaskKey]:
        """Claim these keys; returns those granted. A key held by this object is not granted again.

        On a file system without locks every key is granted.

        Raises:
            CacheError: the cache can't be written to.
            FileNotFoundError: it is not there.
        """
        granted: set[TaskKey] = set()
        with self._guard:
            for key in keys:
                if key not in self._held:
                    place = _place(key)
                    if self._take(place):
                        self._held[key] = place
                        granted.add(key)
        return granted

    def _take(self, place: _Place) -> bool:
        if not self._lockable:
            return True
        number, offset = place
        # Outside of the try: a folder that may not be written to is no claim of another runner.
        descriptor = self._descriptor(number)
        try:
            lock_byte(descriptor, offset)
        except OSError as error:
            if error.errno in HELD_BY_ANOTHER:
                return False
            if error.errno not in NO_LOCKS_HERE:
                raise
            self._lockable = False
        return True

    def _descriptor(self, number: int) -> int:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            if not self._watches_forks:
                self._watches_forks = True
                forget_in_forks(self)
            try:
                self._files.make_directory(self._folder)
                descriptor = self._files.open_lock_file(f"{self._folder}/{number:02}")
            except FileNotFoundError:
                raise  # the cache is gone; whoever asks can make it again
            except OSError as error:
                raise unwritable(os.path.dirname(self._folder), error) from error
            self._descriptors[number] = descriptor
        return descriptor

    def release(self, keys: Iterable[TaskKey]) -> None:
        """Give these claims back; those that are not held are passed over."""
        with self._guard:
            for key in keys:
                place = self._held.pop(key, None)
                if place is not None:
                    number, offset = place
                    if number in self._descriptors and self._lockable:
                        unlock_byte(self._descriptors[number], offset)

    def close(self) -> None:
        """Give back every claim, and the descriptors. Claims may be made again afterwards."""
        with self._guard:
            descriptors = list(self._descriptors.values())
            self._descriptors.clear()
            self._held.clear()
        for descriptor in descriptors:
            os.close(descriptor)

    def forget_in_fork(self) -> None:
        """Drop the parent's claims in a forked child, without giving them back."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._reset()

    def __del__(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
