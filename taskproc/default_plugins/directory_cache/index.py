"""Answer look-ups of many stored results from one file instead of one file each.

The index only saves the reading of records and data files: a row counts while the stat of both
files of its entry is what it was, and vouches for its data files only in the state that it
tells; so nothing can be wrong by it, and it may be deleted at any time. Rows are only ever
added, a batch by one write, by any number of runners; a row whose check sum is wrong (torn,
damaged) is passed over.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import os
import threading
import zlib
from contextlib import suppress
from typing import NamedTuple

from taskproc.default_plugins.directory_cache.files import Files, open_to_read, read_file
from taskproc.default_plugins.directory_cache.formats import decode_record
from taskproc.interfaces import Record

_AT_REST_NS = 2_000_000_000
_COMPACT_FROM = 1000
_COMPACT_AT = 3
"""The file is written anew when it has so many times more rows than there are entries in it."""


class Entry(NamedTuple):
    """What the index knows of an entry.

    Its signature, its record, the size of its result's file, and the state in which its data
    files were what the record says ("" if none is known).
    """

    signature: str
    record: Record
    result_bytes: int
    data_state: str = ""


def signature(record: os.stat_result, result: os.stat_result) -> str:
    """By what a row tells whether the two files of its entry are still the same."""
    # The time of the last change (ctime) is there because nobody can set it by hand. A chmod or
    # a new hard link changes it too; then the row is made anew, once.
    return (
        f"{record.st_size} {record.st_mtime_ns} {record.st_ctime_ns} {record.st_ino}"
        f" {result.st_size} {result.st_mtime_ns} {result.st_ctime_ns} {result.st_ino}"
    )


def is_at_rest(status: os.stat_result, now: int) -> bool:
    """Whether a file's last change lies so far back that a later one will show in its times."""
    # The modification time can be set by hand, and may lie in the future; it only counts where
    # a file system has no other.
    return status.st_ctime_ns + _AT_REST_NS < now and abs(now - status.st_mtime_ns) > _AT_REST_NS


def make_row(entry: str, entry_signature: str, record_text: bytes, data_state: str = "") -> bytes:
    """One line: check sum, entry (path below the root), signature and record, apart by tabs."""
    if data_state:
        entry_signature += f"|{data_state}"
    # A record that somebody has laid out over several lines is as good as one on one line.
    body = f"{entry}\t{entry_signature}\t".encode() + b" ".join(record_text.splitlines())
    return b"%08x\t%b\n" % (zlib.crc32(body), body)


def _signature_of(row: bytes) -> str:
    return row.split(b"\t", 3)[2].partition(b"|")[0].decode(errors="replace")


def _read_row(row: bytes) -> Entry | None:
    checksum, _, body = row.partition(b"\t")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    _, states, text = body.split(b"\t", 2)
    decoded = decode_record(text)
    entry_signature, _, data_state = states.decode().partition("|")
    return None if decoded is None else Entry(entry_signature, *decoded, data_state)


def read_line(line: bytes) -> tuple[str, Entry] | None:
    """The entry that a line of the file is of, and what it tells; None if it does not count."""
    fields = line.rstrip(b"\n").split(b"\t", 3)
    try:
        row = _read_row(line.rstrip(b"\n")) if len(fields) == 4 else None
    except ValueError:  # too few fields behind a check sum that is right
        return None
    return None if row is None else (fields[1].decode(errors="replace"), row)


def saved_at(entry: Entry) -> float:
    """When the record of a row was written: Unix time, by the clock of the disk's host."""
    return int(entry.signature.split(" ", 2)[1]) / 1e9


class Index:
    """The index file of one cache and what was read of it. Methods may be called from threads."""

    def __init__(self, path: str, files: Files) -> None:
        self._path = path
        self._files = files
        self._guard = threading.Lock()
        self._rows: dict[str, bytes | Entry] = {}
        self._noted: dict[str, bytes] = {}
        self._position = 0  # of the file of this inode, read so far
        self._inode = 0
        self._lines = 0

    def refresh(self) -> None:
        """Read what was added to the file since the last time."""
        with self._guard:
            try:
                with open(open_to_read(self._path), "rb", buffering=0) as file:
                    stat = os.fstat(file.fileno())
                    if fault := self._files.rules.fault(stat, self._path):
                        raise PermissionError(errno.EPERM, fault, self._path)
                    if stat.st_ino != self._inode or stat.st_size < self._position:
                        self._forget()
                        self._inode = stat.st_ino
                    if stat.st_size > self._position:
                        file.seek(self._position)
                        self._take(file.read())
            except OSError:  # not there, or not readable: then every record is read by itself
                self._forget()

    def _forget(self) -> None:
        self._rows.clear()
        self._position = self._inode = self._lines = 0

    def _take(self, data: bytes) -> None:
        data = data[: data.rfind(b"\n") + 1]
        self._position += len(data)
        for line in data.splitlines():
            # Rows are only taken apart when they are asked for.
            fields = line.split(b"\t", 3)
            if len(fields) == 4:
                self._lines += 1
                self._rows[fields[1].decode(errors="replace")] = line

    def __contains__(self, entry: str) -> bool:
        return entry in self._rows

    def get(self, entry: str, entry_signature: str, keeps: bool = True) -> Entry | None:
        """What the index says of an entry whose files have this signature now.

        `keeps` is whether it is kept in memory, to be asked for again.
        """
        row = self._rows.get(entry)
        if isinstance(row, bytes):
            # Compared first: an old row is not worth reading.
            row = _read_row(row) if _signature_of(row) == entry_signature else None
            if row is None:
                self._rows.pop(entry, None)
            elif keeps:
                self._rows[entry] = row
        return row if row is not None and row.signature == entry_signature else None

    def last(self, entry: str) -> Entry | None:
        """What was last noted of an entry, whether or not it is there now."""
        with self._guard:
            row = self._noted.get(entry) or self._rows.get(entry)
        return _read_row(row.removesuffix(b"\n")) if isinstance(row, bytes) else row

    def note(self, entry: str, row: bytes) -> None:
        """Remember a row for the next time the index is written."""
        with self._guard:
            self._noted[entry] = row

    def write(self) -> None:
        """Add the rows that were noted to the file."""
        with self._guard:
            rows, self._noted = self._noted, {}
            # Without an index the cache is slower and as right as before.
            with suppress(OSError):
                if self._lines > max(_COMPACT_FROM, _COMPACT_AT * len(self._rows)):
                    self._compact()
                if rows:
                    # A writer that died may have left half a row: begin on a line of our own.
                    self._files.append(self._path, b"\n" + b"".join(rows.values()))

    def _compact(self) -> None:
        # Rows that another runner adds meanwhile are lost, and found missing later.
        data, _ = read_file(self._path, None)
        latest: dict[bytes, bytes] = {}
        for line in data.splitlines():
            fields = line.split(b"\t", 3)
            if len(fields) == 4:
                latest[fields[1]] = line
        root = os.path.dirname(self._path)
        living = (
            line + b"\n"
            for entry, line in latest.items()
            if os.path.lexists(os.path.join(root, os.fsdecode(entry)))
        )
        self._files.write(self._path, [b"".join(living)], durable=False)
        self._forget()
