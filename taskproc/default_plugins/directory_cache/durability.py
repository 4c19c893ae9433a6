"""Bring to the disk what a durable result rests on.

A result that took long survives a power cut; but if a cheap one below it is lost and computed
anew, it is computed anew as well. So what it rests on is synced along with it, in proportion: for
at most a tenth of the time that it took. Which results are durable is the engine's to know.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import time
from contextlib import suppress

from taskproc.default_plugins.directory_cache.entry import RECORD, RESULT
from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.default_plugins.directory_cache.formats import decode_record
from taskproc.default_plugins.directory_cache.names import Paths
from taskproc.interfaces import Record, TaskKey

_SHARE = 0.1
_LEAST_SECONDS = 0.025


class Durability:
    """What this process knows to be on the disk, of one cache. Methods may be called from threads."""

    def __init__(self, files: Files, paths: Paths) -> None:
        self._files = files
        self._paths = paths
        self._synced: dict[TaskKey, str] = {}  # the version of a result that is

    def sync_below(self, record: Record) -> None:
        """Sync what this record, which was saved durably, rests on, directly or not, as far as time allows.

        What the disk refuses is passed over: it is no fault of this result, which is stored.
        """
        self._synced[record.key] = record.version
        took = record.provenance.get("seconds")
        deadline = time.monotonic() + max(_LEAST_SECONDS, took * _SHARE if isinstance(took, float) else 0.0)
        folders: set[str] = set()
        waiting = [(up.key, up.version) for up in record.upstreams]
        while waiting and time.monotonic() < deadline:
            key, version = waiting.pop()
            if self._synced.get(key) != version and (found := self._sync(key, version)) is not None:
                folders.add(self._paths.task(key.name))
                waiting += [(up.key, up.version) for up in found.upstreams]
        for folder in folders:
            with suppress(OSError):
                self._files.sync_directory(folder)

    def _sync(self, key: TaskKey, version: str) -> Record | None:
        """Sync one entry; returns its record, None if there is none of this version."""
        entry = self._paths.entry(key)
        try:
            decoded = decode_record(read_file(f"{entry}/{RECORD}")[0])
            if decoded is None or decoded[0].version != version:
                return None
            # Data files need nothing: what has some was saved durably.
            for path in (f"{entry}/{RESULT}", f"{entry}/{RECORD}"):
                self._files.sync_file(path)
            self._files.sync_directory(entry)
        except OSError:
            return None
        self._synced[key] = version
        return decoded[0]
