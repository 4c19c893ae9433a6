"""Tell what is wrong with one entry of a directory cache, and what would put it right.

Reads all of it and changes nothing. A result is compared with its record by size and digest,
and never unpickled; whether it is stale is not asked.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from taskproc.default_plugins.directory_cache.data_files import DataFiles
from taskproc.default_plugins.directory_cache.entry import (
    ASIDE_NAMES,
    DAMAGED_NAMES,
    DATA,
    FAILURE,
    RECORD,
    RESULT,
    STDERR,
    STDOUT,
    is_own,
    is_part,
)
from taskproc.default_plugins.directory_cache.files import read_file
from taskproc.default_plugins.directory_cache.formats import decode_record, is_newer
from taskproc.default_plugins.directory_cache.journal import read_failure
from taskproc.default_plugins.directory_cache.rules import Rules
from taskproc.default_plugins.directory_cache.walking import Folder
from taskproc.interfaces import Record, arguments_digest, content_hasher

Cure = Literal["set aside", "set aside misplaced", "put back", "remove"]
"""The ways to put an entry right: take the result out of use (also if it is just in a place that is
not its own); put back what a job that was killed had set aside; remove a file that is of no use."""

_CHUNK = 1 << 20
_NEWER = "a newer taskproc has written it: check it with that one"
_KINDS = {DATA: "folder", FAILURE: "file", STDOUT: "file", STDERR: "file"}


class Fault(NamedTuple):
    """Something that is not as it should be in an entry; harmless if no result rests on it."""

    path: str
    text: str
    cure: Cure | None = None
    harmless: bool = True


class Inspection(NamedTuple):
    """What was found in an entry: its faults, the bytes that were read, and its record, sound or not."""

    faults: list[Fault]
    bytes: int
    record: Record | None


def inspect(folder: Folder, rules: Rules) -> Inspection:
    """Read everything of an entry that is safe to read."""
    faults = list(_leftovers(folder))
    names, entry = folder.names, folder.path
    if RECORD not in names:
        if RESULT in names and not ASIDE_NAMES & names.keys():
            text = "it has no record, as its writer was killed or the record was removed; it does not count"
            faults.append(Fault(f"{entry}/{RESULT}", text))
        return Inspection(faults, 0, None)
    path, record, size = f"{entry}/{RECORD}", None, 0
    cure: Cure | None = "set aside"
    try:
        text, size, record = _record_fault(folder, rules)
        if record is not None and record.key != folder.key:
            cure = "set aside misplaced"
        elif record is not None and not text:
            path, text, size = _content_fault(folder, record, size, rules)
    except FileNotFoundError:  # it has just gone
        return Inspection(faults, 0, None)
    except OSError as error:
        # A disk that can't read it never will; what else is the matter may be so for this user, or today.
        text, cure = f"it can't be read: {error.strerror}", cure if error.errno == errno.EIO else None
        if isinstance(error.filename, str) and os.path.dirname(error.filename) == entry:
            path = error.filename
    if text:
        is_newer_one = text == _NEWER
        faults.append(Fault(path, text, None if is_newer_one else cure, harmless=is_newer_one))
    return Inspection(faults, size, record)


def _leftovers(folder: Folder) -> Iterator[Fault]:
    """What jobs that were killed left, what was set aside before, and what is not ours."""
    for name, kind in sorted(folder.names.items()):
        path = f"{folder.path}/{name}"
        if is_part(name):
            yield Fault(path, "a writer that was killed left it", "remove")
        elif name in DAMAGED_NAMES:
            yield Fault(
                path, "a damaged result that was set aside (taskproc cache prune --damaged removes it)"
            )
        elif not is_own(name):
            yield Fault(path, f"a {kind} that is not of this cache")
        elif kind != _KINDS.get(name, kind):
            text = f"a {kind} is in its place: nothing is read or written there; remove it by hand"
            yield Fault(path, text, harmless=name != DATA)
    if aside := sorted(ASIDE_NAMES & folder.names.keys()):
        told = "a job that was killed had set it aside"
        yield Fault(f"{folder.path}/{aside[0]}", told, "put back")
    if FAILURE in folder.names and folder.key is not None and read_failure(folder.path, folder.key) is None:
        yield Fault(f"{folder.path}/{FAILURE}", "the note of a failed job can't be read", "remove")


def _record_fault(folder: Folder, rules: Rules) -> tuple[str, int, Record | None]:
    """What is wrong with the record by itself; the size of the result that it tells; the record."""
    if folder.names[RECORD] != "file":
        return f"a {folder.names[RECORD]} is in place of the record", 0, None
    path = f"{folder.path}/{RECORD}"
    data, status = read_file(path)
    _check_owner(status, path, rules)
    decoded = decode_record(data)
    if decoded is None:
        return _NEWER if is_newer(data) else "it is not a whole record", 0, None
    record, size = decoded
    if record.key != folder.key:
        return f"it is the record of {record.key}", size, record
    if not _has_own_arguments(record):
        return "the arguments in it are not those of its key", size, record
    return "", size, record


def _has_own_arguments(record: Record) -> bool:
    try:
        return arguments_digest(record.args) == record.key.digest
    except (ValueError, RecursionError):  # of no task: a NaN, which JSON does not know
        return False


def _content_fault(folder: Folder, record: Record, size: int, rules: Rules) -> tuple[str, str, int]:
    """The file that is not what the record tells, what is the matter ("": nothing), and bytes read."""
    path = f"{folder.path}/{RESULT}"
    kind = folder.names.get(RESULT)
    if kind != "file":
        return path, f"a {kind} is in place of the result" if kind else "the result file is missing", 0
    status = os.lstat(path)
    _check_owner(status, path, rules)
    found = status.st_size
    if found != size:
        return path, f"it is {found} bytes long instead of {size}", 0
    try:
        digest = _payload_digest(path)
    except zlib.error as error:
        return path, f"it can't be decompressed: {error}", size
    if digest != record.digest:
        return path, "its digest is not the one in its record", size
    if record.data:
        fault, _ = DataFiles().check(folder.path, record.data)
        return f"{folder.path}/{DATA}", fault, size + sum(file.size for file in record.data)
    return path, "", size


def _check_owner(status: os.stat_result, path: str, rules: Rules) -> None:
    if fault := rules.fault(status, path):
        raise PermissionError(errno.EPERM, fault, path)


def _payload_digest(path: str) -> str:
    """The digest of what a gzip file holds, read piece by piece. Raises zlib.error if it is not whole."""
    hasher = content_hasher()
    unpacker = zlib.decompressobj(zlib.MAX_WBITS + 16)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while data := os.read(descriptor, _CHUNK):
            while data:
                hasher.update(unpacker.decompress(data, _CHUNK))
                data = unpacker.unconsumed_tail
    finally:
        os.close(descriptor)
    hasher.update(unpacker.flush())
    if not unpacker.eof:
        raise zlib.error("it is cut short")
    return hasher.hexdigest()
