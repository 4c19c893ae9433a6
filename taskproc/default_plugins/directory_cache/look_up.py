"""Find which of many keys have a whole stored result, at the cost of two stats each.

An entry is whole if its record can be read and is of the key asked for, the result is there in
the size that the record tells, and every data file with the content that the record tells. What
records say, and whether a result is stale, is not known here. Nothing is written.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection
from contextlib import suppress

from taskproc.default_plugins.directory_cache.data_files import DataFiles, check_sizes, state_of
from taskproc.default_plugins.directory_cache.entry import RECORD, RESULT
from taskproc.default_plugins.directory_cache.files import LONGEST_TEXT, read_file
from taskproc.default_plugins.directory_cache.formats import decode_record, is_whole_line
from taskproc.default_plugins.directory_cache.index import Entry, Index, is_at_rest, make_row, signature
from taskproc.default_plugins.directory_cache.names import Paths, leaf
from taskproc.default_plugins.directory_cache.rules import Rules
from taskproc.errors import DamagedEntryWarning, UnsafeEntryWarning
from taskproc.interfaces import Record, TaskKey

_WORTH_LISTING = 2000
"""From so many unknown keys of one task on, the task's folder is listed; below, each is tried."""


class Looker:
    """Looks entries up, by the index where it can."""

    def __init__(self, paths: Paths, index: Index, data_files: DataFiles, rules: Rules) -> None:
        self._paths = paths
        self._rules = rules
        self._index = index
        self._data_files = data_files
        self._refresh = True
        self._warned: set[str] = set()

    def look_up(self, keys: Collection[TaskKey]) -> dict[TaskKey, Record]:
        """The records of those keys that have a whole entry."""
        if self._refresh:
            self._refresh = False
            self._index.refresh()
        found: dict[TaskKey, Record] = {}
        unknown: dict[str, list[TaskKey]] = {}
        for key in keys:
            known = self._indexed(key)
            if known is None:
                unknown.setdefault(key.name, []).append(key)
            else:
                found[key] = known.record
        for task_name, some in unknown.items():
            entries = self._entries(task_name) if len(some) >= _WORTH_LISTING else None
            for key in some:
                if entries is None or leaf(key) in entries:
                    known = self._read(key)
                    if known is not None:
                        found[key] = known.record
        return found

    def find(self, key: TaskKey, reads_data: bool = True) -> Entry | None:
        """A whole entry as `look_up` finds it, for who only looks: without a warning, nor for long.

        Of many entries that are listed, those that are not kept cost no room, and the garbage
        collector no time. Without `reads_data` data files of the right sizes will do.
        """
        return self._indexed(key, keeps=False) or self._read(key, warns=False, reads_data=reads_data)

    def last(self, key: TaskKey) -> Entry | None:
        """What the index says of an entry, whether or not it is there now."""
        self._index.refresh()
        return self._index.last(self._paths.place(key))

    def refresh(self) -> None:
        """Read what others added to the index."""
        self._index.refresh()

    def _entries(self, task_name: str) -> set[str]:
        try:
            return set(os.listdir(self._paths.task(task_name)))
        except OSError:
            return set()

    def _indexed(self, key: TaskKey, keeps: bool = True) -> Entry | None:
        place = self._paths.place(key)
        if place not in self._index:
            return None
        entry = f"{self._paths.root}/{place}"
        try:
            # Of the files themselves: a link is not what the row was made of.
            result = os.lstat(f"{entry}/{RESULT}")
            known = self._index.get(place, signature(os.lstat(f"{entry}/{RECORD}"), result), keeps)
        except OSError:
            return None
        if known is None or known.record.key != key or known.result_bytes != result.st_size:
            return None
        # Most have no data files, and pay nothing. Where the state of those that are there is not
        # the one that was noted, `_read` looks at what they hold.
        if (data := known.record.data) and (
            not known.data_state or known.data_state != state_of(entry, data)
        ):
            return None
        return known

    def _read(self, key: TaskKey, warns: bool = True, reads_data: bool = True) -> Entry | None:
        place = self._paths.place(key)
        entry = f"{self._paths.root}/{place}"
        if not os.access(f"{entry}/{RECORD}", os.F_OK):  # what is usual, without the price of an exception
            return None
        try:
            text, described = read_file(f"{entry}/{RECORD}")
            result = os.lstat(f"{entry}/{RESULT}")
        except OSError:
            with suppress(OSError):  # it may be one that nobody should read
                record, result = os.lstat(f"{entry}/{RECORD}"), os.lstat(f"{entry}/{RESULT}")
                self._is_safe(key, entry, record, result, warns)
            return None
        if not self._is_safe(key, entry, described, result, warns):
            return None
        decoded = decode_record(text)
        if decoded is None:
            if warns and not is_whole_line(text):
                self._warn(key, entry, described, result, f"{f'{entry}/{RECORD}'!r} is not what was written")
            return None
        # The key is compared since a folder may have been moved, or its name may differ by case only.
        if decoded[0].key != key:
            return None
        if decoded[1] != result.st_size:
            if warns:
                fault = f"{f'{entry}/{RESULT}'!r} is not of the size that its record tells"
                self._warn(key, entry, described, result, fault)
            return None
        data, fault, data_state = decoded[0].data, "", ""
        if data:
            # Of a cache that can't be written to, where no row is kept, each process reads them once.
            check = self._data_files.check if reads_data else check_sizes
            fault, data_state = check(entry, data)
        if fault:
            return None
        seen = signature(described, result)
        # A row of a record that was written just now could outlive the next writing, if that left
        # the same times; and without a state to trust it spares nobody the reading of data files.
        if is_at_rest(described, time.time_ns()) and (data_state or not data):
            self._index.note(place, make_row(place, seen, text, data_state))
        return Entry(seen, *decoded, data_state)

    def _is_safe(
        self, key: TaskKey, entry: str, record: os.stat_result, result: os.stat_result, warns: bool
    ) -> bool:
        """Whether both files may be read (see `Rules`); says once if one may not."""
        path = f"{entry}/{RECORD}"
        fault = self._rules.fault(record, path)
        if record.st_size > LONGEST_TEXT:
            fault = fault or f"it is {record.st_size} bytes long, which no record is"
        if not fault:
            path = f"{entry}/{RESULT}"
            fault = self._rules.fault(result, path)
        if fault and warns and path not in self._warned:
            self._warned.add(path)
            warnings.warn(
                f"the stored result of {key} is not read: of {path!r}, {fault}, and reading a result can run "
                "whatever code its writer put in; it is computed again. If it is yours, give it back to"
                " yourself alone (chown, chmod go-w); or say that you trust whoever can write to this cache"
                " (Cache(..., trust=True))",
                UnsafeEntryWarning,
                stacklevel=4,
            )
        return not fault

    def _warn(
        self, key: TaskKey, entry: str, described: os.stat_result, result: os.stat_result, fault: str
    ) -> None:
        """Say once what is wrong with an entry."""
        seen = signature(described, result)
        try:
            if seen in self._warned or seen != signature(
                os.stat(f"{entry}/{RECORD}"), os.stat(f"{entry}/{RESULT}")
            ):
                return  # told already; or somebody is just replacing the entry
        except OSError:
            return
        self._warned.add(seen)
        warnings.warn(
            f"the stored result of {key} is damaged: {fault}; it does not count, and is computed again",
            DamagedEntryWarning,
            stacklevel=4,
        )

    def wants_all(self) -> None:
        """Read what others added to the index, at the next look-up."""
        self._refresh = True

    def state_of_data(self, key: TaskKey) -> str:
        """The state in which the data files of an entry are known to be as its record says, or ""."""
        known = self._indexed(key, keeps=False)
        return "" if known is None else known.data_state

    def saved(self, key: TaskKey, text: bytes, entry_signature: str, data_state: str) -> None:
        """An entry was just saved: remember its row for `write_index`."""
        if entry_signature:
            place = self._paths.place(key)
            self._index.note(place, make_row(place, entry_signature, text, data_state))

    def write_index(self) -> None:
        """Write down the rows of what was saved, or had to be read, since the last time."""
        self._index.write()
