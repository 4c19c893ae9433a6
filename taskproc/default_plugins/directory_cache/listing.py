"""List what a directory cache holds: the names of tasks, and the entries of one name.

An entry counts by the same rule as in a look-up, but that data files are not read, only their
sizes compared (a list is asked for often, and decides nothing); or if it has the note of a
failed job.
Only looks. The folder of a name may be escaped and cut short, so the name itself is read
from what stands inside; a folder that holds nothing of ours is passed over.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
from collections.abc import Iterator

from taskproc.default_plugins.directory_cache import names
from taskproc.default_plugins.directory_cache.entry import RECORD
from taskproc.default_plugins.directory_cache.files import read_file
from taskproc.default_plugins.directory_cache.formats import decode_record
from taskproc.default_plugins.directory_cache.journal import read_failure
from taskproc.default_plugins.directory_cache.look_up import Looker
from taskproc.default_plugins.directory_cache.names import Paths
from taskproc.errors import CacheError
from taskproc.interfaces import StoredEntry, TaskKey


def task_names(paths: Paths, looker: Looker) -> list[str]:
    """The names of the tasks of which there is an entry, sorted.

    Raises:
        CacheError: the root can't be read.
    """
    try:
        folders = os.listdir(paths.root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CacheError(f"the cache {paths.root!r} can't be read: {error.strerror}") from error
    looker.refresh()
    found = [
        _name_of(paths, looker, folder)
        for folder in folders
        if folder not in names.RESERVED and not folder.startswith(".")
    ]
    return sorted(name for name in found if name is not None)


def _name_of(paths: Paths, looker: Looker, folder: str) -> str | None:
    for leaf in _list(f"{paths.root}/{folder}"):
        key = _key_at(f"{paths.root}/{folder}/{leaf}")
        # The place is compared since a folder may have been moved.
        if key is not None and paths.place(key) == f"{folder}/{leaf}" and _entry(paths, looker, key):
            return key.name
    return None


def stored(paths: Paths, looker: Looker, task_name: str) -> Iterator[StoredEntry]:
    """The entries of tasks of this name."""
    looker.refresh()
    folder = paths.task(task_name)
    for leaf in _list(folder):
        key = TaskKey(task_name, leaf)
        if not leaf.isalnum():  # escaped: the digest itself is read from what stands inside
            inside = _key_at(f"{folder}/{leaf}")
            if inside is None or inside.name != task_name or names.leaf(inside) != leaf:
                continue
            key = inside
        if entry := _entry(paths, looker, key):
            yield entry


def _entry(paths: Paths, looker: Looker, key: TaskKey) -> StoredEntry | None:
    known = looker.find(key, reads_data=False)
    failure = read_failure(paths.entry(key), key)
    if known is None:
        return None if failure is None else StoredEntry(key, None, 0, failure)
    size = known.result_bytes
    if known.record.data:
        size += sum(file.size for file in known.record.data)
    return StoredEntry(key, known.record, size, failure)


def _key_at(entry: str) -> TaskKey | None:
    """The key that the record of an entry, or else its note of a failure, tells."""
    try:
        decoded = decode_record(read_file(f"{entry}/{RECORD}")[0])
    except OSError:
        decoded = None
    if decoded is not None:
        return decoded[0].key
    failure = read_failure(entry, None)
    return None if failure is None else failure.key


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # a file, or a folder that is not ours to read
        return []
