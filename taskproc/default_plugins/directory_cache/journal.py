"""Remember what happened to stored results: lines in one file, and a note in a failed task's folder.

For people only: nothing that is computed rests on it. A line is one event, added by one write;
one that is torn or damaged is passed over. What can be told without it is in `traces`.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import json
import os
from typing import Any, get_args

from taskproc.default_plugins.directory_cache.entry import FAILURE
from taskproc.default_plugins.directory_cache.files import Files, open_to_read, read_file
from taskproc.default_plugins.directory_cache.formats import (
    decode_line,
    encode_line,
    record_fields,
    record_of_fields,
)
from taskproc.interfaces import JSON, Event, EventKind, TaskKey


def encode_event(event: Event) -> bytes:
    """An event as one line of JSON."""
    fields: dict[str, JSON] = {
        "kind": event.kind,
        "task": event.key.name,
        "key": event.key.digest,
        "when": event.when,
        "who": event.who,
        "text": event.text,
    }
    if event.record is not None:
        fields["record"] = record_fields(event.record, 0)
    if event.args is not None:
        fields["args"] = dict(event.args)
    return encode_line(fields)


def decode_event(line: bytes) -> Event | None:
    """The event of a line; None if this is no whole event, or of a kind that is not known here."""
    try:
        fields: Any = decode_line(line)
        name, digest, when = fields["task"], fields["key"], fields["when"]
        kind, who, text = fields["kind"], fields["who"], fields["text"]
        decoded = record_of_fields(fields["record"]) if "record" in fields else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not type(name) is type(digest) is type(who) is type(text) is str:
        return None
    args = fields.get("args")
    if not (args is None or isinstance(args, dict)):
        return None
    if kind not in get_args(EventKind) or not (when is None or type(when) in (int, float)):
        return None
    return Event(kind, TaskKey(name, digest), when, who, text, decoded[0] if decoded else None, args)


class Journal:
    """The journal of one cache; any number of processes may add to it and read it."""

    def __init__(self, root: str, files: Files) -> None:
        self._path = f"{root}/journal.jsonl"
        self._files = files

    def add(self, event: Event) -> None:
        """Add an event. Raises OSError when it can't be written."""
        line = encode_event(event)
        # A writer that died may have left half a line: begin on a line of our own.
        self._files.append(self._path, line if self._ends_whole() else b"\n" + line)

    def _ends_whole(self) -> bool:
        try:
            with open(open_to_read(self._path), "rb", buffering=0) as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except OSError:  # not there, or empty
            return True

    def events(self, key: TaskKey) -> list[Event]:
        """The events of a task, and those of all tasks of its name, in the order of the file."""
        try:
            data, _ = read_file(self._path, None)
        except OSError:
            return []
        # Most lines are of other tasks, and not worth reading.
        names = [b'"key": %b,' % json.dumps(digest).encode() for digest in (key.digest, "")]
        lines = [line for line in data.splitlines(keepends=True) if any(name in line for name in names)]
        found = [decode_event(line) for line in lines]
        return [event for event in found if event and event.key in (key, TaskKey(key.name, ""))]


def write_failure(files: Files, entry: str, event: Event) -> None:
    """Put the note of a failed job into the entry's folder, in place of an older one."""
    files.write(f"{entry}/{FAILURE}", (encode_event(event),), durable=False)


def read_failure(entry: str, key: TaskKey | None) -> Event | None:
    """The note of a failed job of `key` (None: of whichever task), if a folder has one."""
    path = f"{entry}/{FAILURE}"
    if not os.access(path, os.F_OK):  # what is usual, without the price of an exception
        return None
    try:
        text, _ = read_file(path)
    except OSError:
        return None
    event = decode_event(text)
    if event is None or event.kind != "failed" or (key is not None and event.key != key):
        return None
    return event
