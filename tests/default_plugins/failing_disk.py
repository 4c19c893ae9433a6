"""Disks that fail, or on which the process dies, at one chosen step; and quick ones that never sync."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskproc.default_plugins.directory_cache import DirectoryCache
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.state import State

STEPS = (
    "make_directory",
    "make_parents",
    "rename",
    "unlink",
    "remove_tree",
    "sync_file",
    "sync_directory",
    "_create",
    "_write",
    "_sync",
)


class Killed(BaseException):
    """Stands for the death of the process: nothing after it is done."""


class FastFiles(Files):
    """A disk that does not sync, which would be most of these tests' time."""

    def _sync(self, descriptor: int) -> None:
        pass


class FailingFiles(FastFiles):
    """A disk whose step number `at` fails: with an error, or as if the process died there."""

    def __init__(self, at: int, kill: bool) -> None:
        super().__init__()
        self.left = at
        self.failed = ""
        self.kill = kill

    def step(self, name: str) -> None:
        self.left -= 1
        if self.failed and self.kill:
            raise Killed
        if self.left == 0:
            self.failed = name
            raise Killed if self.kill else OSError(errno.ENOSPC, "No space left on device")


def _failing(name: str) -> Any:
    real = getattr(FastFiles, name)

    def method(self: FailingFiles, *arguments: Any, **named: Any) -> Any:
        if self.failed and self.kill and str(arguments[0]).endswith(".lease"):
            return None  # what is collected in this process later had died with the other
        self.step(name)
        return real(self, *arguments, **named)

    return method


for _name in STEPS:
    setattr(FailingFiles, _name, _failing(_name))


def cache_on(root: Path, files: Files) -> DirectoryCache:
    cache = DirectoryCache(root)
    object.__setattr__(cache, "_state", State(str(root), files))
    return cache


def until_nothing_fails(kill: bool) -> Iterator[FailingFiles]:
    for at in range(1, 100):
        files = FailingFiles(at, kill)
        yield files
        if files.left > 0:
            assert at > 8, "hardly any step went through the failing disk"
            return
    raise AssertionError("there is no end of steps")
