"""Tell from what is on the disk why a result is not stored whole now.

Damaged files that were set aside, an entry of which a part is gone, and a row of the index
whose entry is gone. Only looks; what was told by others meanwhile is given (`told`), and what
that explains already is not told again.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from taskproc.default_plugins.directory_cache.data_files import DataFiles
from taskproc.default_plugins.directory_cache.entry import ASIDE, DAMAGED, RECORD, RESULT
from taskproc.default_plugins.directory_cache.files import PART, read_file
from taskproc.default_plugins.directory_cache.formats import decode_record
from taskproc.default_plugins.directory_cache.index import Entry, saved_at
from taskproc.interfaces import Event, Record, TaskKey


def sort_events(events: Iterable[Event]) -> list[Event]:
    """The latest last; those of which nobody knows when come first."""
    return sorted(events, key=lambda event: (event.when is not None, event.when or 0.0))


def with_traces(
    told: Sequence[Event], key: TaskKey, entry: str, known: Entry | None, data_files: DataFiles
) -> list[Event]:
    """The events that were told, the latest last, and those that the disk tells beside them.

    `entry` is the folder of a task of which no whole result is stored; `known` is what the
    index has of it.
    """
    try:
        names = set(os.listdir(entry))
    except OSError:
        names = set()
    events = sort_events([*told, *_set_aside(key, entry, names, told)])
    if RECORD in names:
        return [*events, *_fault(key, entry, known, data_files)]
    if known is None or RECORD + ASIDE in names or any(map(_is_half_written, names)):
        return events  # there never was a result; or a job is under way here, or was killed
    for position, event in enumerate(events):
        if event.when is None or event.when >= saved_at(known):
            if event.kind == "cleared" and event.record is None:
                events[position] = replace(event, record=known.record)
            return events
    # The latest of all, whenever it was: nothing that was told explains it.
    return [*events, Event("removed", key, text="its files are gone", record=known.record)]


def _is_half_written(name: str) -> bool:
    return name.endswith(PART) and name.startswith((RECORD, RESULT))


def _set_aside(key: TaskKey, entry: str, names: set[str], told: Sequence[Event]) -> list[Event]:
    aside = next((name for name in (RECORD + DAMAGED, RESULT + DAMAGED) if name in names), None)
    if aside is None:
        return []
    record = _record_at(f"{entry}/{RECORD}{DAMAGED}")
    try:
        status = os.stat(f"{entry}/{aside}")
    except OSError:
        return []
    # A copy of a cache has times of its own, so the record's word on when it was made counts too.
    started = record.provenance.get("started") if record is not None else None
    made = min(status.st_mtime, started) if isinstance(started, float) else status.st_mtime
    if any(event.kind == "damaged" and (event.when is None or event.when >= made) for event in told):
        return []
    if record is not None and record.key != key:
        record = None
    text = f"its files were set aside as {RESULT}{DAMAGED} and {RECORD}{DAMAGED}"
    return [Event("damaged", key, status.st_ctime, text=text, record=record)]


def _record_at(path: str) -> Record | None:
    try:
        decoded = decode_record(read_file(path)[0])
    except OSError:
        return None
    return decoded[0] if decoded else None


def _fault(key: TaskKey, entry: str, known: Entry | None, data_files: DataFiles) -> list[Event]:
    """What is wrong with an entry that has a record and is not whole."""
    record = known.record if known is not None else None
    try:
        decoded = decode_record(read_file(f"{entry}/{RECORD}")[0])
    except FileNotFoundError:
        return []  # it has just gone
    except OSError as error:
        return [Event("damaged", key, text=f"{RECORD} can't be read: {error.strerror}", record=record)]
    if decoded is None:
        return [Event("damaged", key, text=f"{RECORD} is not a whole record", record=record)]
    record, result_bytes = decoded
    if record.key != key:
        return [Event("damaged", key, text=f"in its folder is the record of {record.key}")]
    text = _fault_of_result(entry, result_bytes)
    if not text and record.data:
        text, _ = data_files.check(entry, record.data)
    return [Event("damaged", key, text=text, record=record)] if text else []


def _fault_of_result(entry: str, size: int) -> str:
    try:
        found = os.stat(f"{entry}/{RESULT}").st_size
    except OSError:
        return f"its result file is missing ({RESULT})"
    if found == size:
        return ""
    return (
        "its result is not of the size that its record tells "
        f"({RESULT} is {found} bytes long instead of {size})"
    )
