"""Tell what takes how many bytes in a directory cache, and remove what of it nobody needs.

What is needed is for others to decide; nothing is removed behind a link, nor outside of the
folders of tasks.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from taskproc.default_plugins.directory_cache.entry import (
    ASIDE_NAMES,
    DAMAGED_NAMES,
    DATA,
    FAILURE,
    RECORD,
    RESULT,
    STDERR,
    STDOUT,
    is_part,
    remove,
)
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.names import RESERVED, Paths
from taskproc.default_plugins.directory_cache.walking import Folder, look, walk
from taskproc.errors import CacheError
from taskproc.interfaces import TaskKey, Usage, UsageKind

_KINDS: dict[str, UsageKind] = {
    RESULT: "results",
    RECORD: "results",
    DATA: "data",
    STDOUT: "logs",
    STDERR: "logs",
    FAILURE: "failures",
    **dict.fromkeys(ASIDE_NAMES, "leftovers"),
    **dict.fromkeys(DAMAGED_NAMES, "damaged"),
}


def usage(root: str) -> Iterator[Usage]:
    """The bytes of each entry, by kind, and of what stands beside the entries.

    Raises:
        CacheError: the root can't be read.
    """
    try:
        for place in walk(root):
            if not isinstance(place, Folder):
                yield Usage("other", _size(place.path))
                continue
            sums: Counter[UsageKind] = Counter()
            for name in place.names:
                sums[_kind(name)] += _size(f"{place.path}/{name}")
            for kind, size in sums.items():
                yield Usage(kind, size, place.key)
        for name in sorted(os.listdir(root)):
            if name in RESERVED:
                yield Usage("code" if name == "code" else "bookkeeping", _size(f"{root}/{name}"))
    except OSError as error:
        raise CacheError(f"the cache {root!r} can't be read: {error.strerror}") from error


def _kind(name: str) -> UsageKind:
    if is_part(name):
        return "leftovers"
    return _KINDS.get(name, "other")


def _size(path: str) -> int:
    """The bytes of a file, or of all files in a folder; no link is followed."""
    size = 0
    waiting = [path]
    while waiting:
        path = waiting.pop()
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                waiting += [f"{path}/{name}" for name in os.listdir(path)]
            else:
                size += os.lstat(path).st_size
        except OSError:  # it has just gone, or is not ours to read
            continue
    return size


def prune(
    files: Files, paths: Paths, keys: Iterable[TaskKey], kind: Literal["damaged", "failures"] | None
) -> None:
    """Remove the entries of these tasks, or of them what is of a kind; an empty folder goes too."""
    folders: set[str] = set()
    for key in keys:
        entry, folder = paths.entry(key), paths.task(key.name)
        if os.path.islink(folder) or os.path.islink(entry):
            raise CacheError(
                f"{entry!r} is a link or behind one, and nothing is removed there; remove it by hand"
            )
        folders.add(folder)
        if kind is None:
            remove(files, entry)
        elif (found := look(folder, os.path.basename(folder), os.path.basename(entry))) is not None:
            _remove_kind(files, found, kind)
    for folder in folders:
        files.remove_directory(folder)


def _remove_kind(files: Files, folder: Folder, kind: Literal["damaged", "failures"]) -> None:
    gone = {FAILURE} if kind == "failures" else set(DAMAGED_NAMES)
    if kind == "failures" and FAILURE in folder.names and RECORD not in folder.names:
        gone |= {STDOUT, STDERR}  # which are of the job that failed
        if ASIDE_NAMES.isdisjoint(folder.names) and RESULT not in folder.names:
            gone |= {DATA}
    for name in gone & folder.names.keys():
        files.remove_tree(f"{folder.path}/{name}")
    files.remove_directory(folder.path)
