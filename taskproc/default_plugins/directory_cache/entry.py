"""The steps by which one entry of the directory cache is written, set aside and removed.

The order of the steps is the point: whatever step a process dies at, the entry is the old
one, the new one, or stale; never one with a record that vouches for something else.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from taskproc.default_plugins.directory_cache.files import Files, written_for
from taskproc.default_plugins.directory_cache.formats import compress, encode_record
from taskproc.default_plugins.directory_cache.index import signature
from taskproc.errors import CacheError
from taskproc.interfaces import DataFile, Record

RESULT = "result.pkl.gz"
RECORD = "record.json"
STDOUT = "stdout.txt"
STDERR = "stderr.txt"
DATA = "data"
FAILURE = "failed.json"

ASIDE = ".aside"
DAMAGED = ".damaged"

ASIDE_NAMES = frozenset({RECORD + ASIDE, DATA + ASIDE})
DAMAGED_NAMES = frozenset({RECORD + DAMAGED, RESULT + DAMAGED})
_FILES = frozenset({RESULT, RECORD, STDOUT, STDERR, FAILURE})
_OWN_NAMES = _FILES | {DATA} | ASIDE_NAMES | DAMAGED_NAMES


def is_own(name: str) -> bool:
    """Whether a name in an entry's folder is one of ours; nothing else there is ever removed."""
    return name in _OWN_NAMES or is_part(name)


def is_part(name: str) -> bool:
    """Whether it is that of a file of an entry while it is written aside."""
    return written_for(name) in _FILES


def begin(files: Files, entry: str) -> bool:
    """Set an old data directory aside, and with it the record, so that a job starts empty.

    Without an old data directory everything stays in place until it is replaced. Returns
    whether there is anything of this entry.
    """
    if not os.access(entry, os.F_OK):  # what is usual, without the price of an exception
        return False
    refuse_link(entry)
    names = set(os.listdir(entry))
    for name in names:
        if is_part(name):
            files.unlink(f"{entry}/{name}")
    data = f"{entry}/{DATA}"
    if RECORD in names:
        # What is aside beside a record is what a save had no time to remove.
        _forget_aside(files, entry)
        names -= {DATA + ASIDE, RECORD + ASIDE}
    if DATA + ASIDE in names:
        files.remove_tree(data)  # the remains of a job that was killed
    elif DATA not in names or (RECORD not in names and not os.path.islink(data) and not os.listdir(data)):
        return True
    else:
        if RECORD in names:
            files.rename(f"{entry}/{RECORD}", f"{entry}/{RECORD}{ASIDE}")
        files.rename(data, data + ASIDE)
    files.make_directory(data)
    return True


def refuse_link(path: str) -> None:
    """Raise CacheError if a folder of a cache is a link."""
    if os.path.islink(path):
        raise CacheError(
            f"{path!r} is a link, and nothing is written or removed behind it; put the folder itself in its"
            " place, or remove the link"
        )


def abandon(files: Files, entry: str) -> None:
    """Put back what `begin` set aside."""
    record, data = f"{entry}/{RECORD}", f"{entry}/{DATA}"
    if os.path.lexists(record):
        _forget_aside(files, entry)
        return
    if os.path.lexists(data + ASIDE):
        files.remove_tree(data)
        files.rename(data + ASIDE, data)
    if os.path.lexists(record + ASIDE):
        files.rename(record + ASIDE, record)


def _forget_aside(files: Files, entry: str) -> None:
    for name in (RECORD, DATA):
        path = f"{entry}/{name}{ASIDE}"
        if os.path.lexists(path):
            files.remove_tree(path)


def save(
    files: Files,
    make_folder: Callable[[], bool],
    entry: str,
    record: Record,
    payload: bytes,
    level: int,
    durable: bool,
) -> tuple[bytes, str]:
    """Write result and record; `make_folder` makes the entry's folder (False: it was there).

    Returns the record as it was written, and the signature of both files for the index ("" if
    they are another writer's by now).
    """
    is_new = make_folder()
    result, described = f"{entry}/{RESULT}", f"{entry}/{RECORD}"
    parts: list[str] = []
    result_stat: os.stat_result | None = None
    try:
        chunks = _Counted(compress(payload, level))
        if is_new:
            # In a folder made just now no record vouches for it: no need to write it aside.
            result_stat = files.write_new(result, chunks, durable)
            parts.append(result)
        else:
            part, _ = files.write_aside(result, chunks, durable)
            parts.append(part)
        text = encode_record(record, chunks.size)
        part, written = files.write_aside(described, (text,), durable)
        parts.append(part)
        if durable:
            _sync_data(files, entry, record.data)
        if not is_new:
            with suppress(OSError):
                files.unlink(f"{entry}/{FAILURE}")
            # The old record must never stand beside the new result.
            _make_way(files, described)
            for log in (STDOUT, STDERR):  # nor what an older job has printed
                with suppress(OSError):
                    files.unlink(f"{entry}/{log}")
            _make_way(files, result, keeps_file=True)
            files.rename(parts[0], result)
        # Renamed last, so that a killed job leaves no half entry.
        files.rename(parts[1], described)
    except BaseException:
        for part in parts:
            with suppress(OSError):
                files.unlink(part)
        raise
    if durable:
        # Whoever made the folders above may not have had a reason to sync them.
        for folder in (entry, os.path.dirname(entry), os.path.dirname(os.path.dirname(entry))):
            files.sync_directory(folder)
    if not is_new:
        # The result is stored; what can't be removed now goes when the next job begins.
        with suppress(OSError):
            _forget_aside(files, entry)
    return text, signature_now(entry, written, result_stat)


def signature_now(entry: str, written: os.stat_result, result: os.stat_result | None = None) -> str:
    """The signature of an entry whose record was just `written` and renamed; "" if it is another's by now.

    `result` is the stat of the result's file if that was written in its place.
    """
    # Only now, as a rename sets the time of a file's last change on most systems.
    try:
        record = os.stat(f"{entry}/{RECORD}")
        result = result or os.stat(f"{entry}/{RESULT}")
    except OSError:
        return ""
    if (record.st_ino, record.st_size, record.st_mtime_ns) != (
        written.st_ino,
        written.st_size,
        written.st_mtime_ns,
    ):
        return ""
    return signature(record, result)


def _make_way(files: Files, path: str, keeps_file: bool = False) -> None:
    """Remove a file, or set aside a folder that somebody has put in its place."""
    if os.path.isdir(path) and not os.path.islink(path):
        _out_of_the_way(files, path)
    elif not keeps_file:
        files.unlink(path)


def _out_of_the_way(files: Files, path: str) -> None:
    """Give what is at a path the name of what is damaged; a folder that has that name already stays."""
    target = path + DAMAGED
    if os.path.isdir(path) and not os.path.islink(path):
        number = 1
        while os.path.lexists(target):
            number += 1
            target = f"{path}{DAMAGED}-{number}"
        files.rename(path, target)
        return
    try:
        files.rename(path, target)
    except IsADirectoryError:
        files.unlink(path)


class _Counted:
    """Pass chunks on, and count their bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.size = 0
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk


def _sync_data(files: Files, entry: str, data: Sequence[DataFile]) -> None:
    folders: set[str] = set()
    for file in data:
        path = f"{entry}/{DATA}/{file.path}"
        files.sync_file(path)
        while len(path := os.path.dirname(path)) > len(entry):
            folders.add(path)
    for folder in folders:
        files.sync_directory(folder)


def discard(files: Files, entry: str) -> None:
    """Remove everything of an entry. A data directory stays, empty, under the same path.

    What is not ours stays, and with it the folder.
    """
    if os.path.islink(entry):
        files.unlink(entry)
        return
    try:
        names = os.listdir(entry)
    except (FileNotFoundError, NotADirectoryError):
        return
    files.unlink(f"{entry}/{RECORD}")  # first, so that no half entry counts
    for name in names:
        path = f"{entry}/{name}"
        if not is_own(name):
            continue
        if name != DATA:
            files.remove_tree(path)
        elif os.path.islink(path) or not os.path.isdir(path):
            files.unlink(path)
            files.make_directory(path)
        else:
            files.empty(path)
    if DATA not in names:
        files.remove_directory(entry)


def remove(files: Files, entry: str) -> None:
    """Remove everything of an entry, its data directory too; what is not ours stays."""
    discard(files, entry)
    if os.path.isdir(entry):  # it is no link by now
        files.remove_tree(f"{entry}/{DATA}")
        files.remove_directory(entry)


def set_aside(files: Files, entry: str) -> None:
    """Rename a damaged entry's files, the record first; nothing looks for the new names."""
    for name in (RECORD, RESULT):
        with suppress(FileNotFoundError, NotADirectoryError):
            _out_of_the_way(files, f"{entry}/{name}")
