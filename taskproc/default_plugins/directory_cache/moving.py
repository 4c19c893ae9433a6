"""Give a stored result another record, and with it another key where it has one.

The order of the steps is the point: whatever step a process dies at, there is the old entry,
the new one, or one that does not count because its record and its folder disagree; and the
same call, made again, finds each of these and completes what is left to do.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import os
from contextlib import suppress

from taskproc.default_plugins.directory_cache.data_files import state_of
from taskproc.default_plugins.directory_cache.entry import (
    FAILURE,
    RECORD,
    RESULT,
    is_own,
    is_part,
    remove,
    signature_now,
)
from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.default_plugins.directory_cache.formats import decode_record, encode_record
from taskproc.default_plugins.directory_cache.journal import read_failure
from taskproc.default_plugins.directory_cache.names import Paths
from taskproc.errors import CacheError, MissingResultError
from taskproc.interfaces import Record, TaskKey


def replace_record(files: Files, paths: Paths, key: TaskKey, record: Record) -> tuple[bytes, str]:
    """Put `record` in place of the record of `key`, in the folder of its own key.

    Returns the record as it was written, and the signature of both files for the index ("" if
    they are another writer's by now).

    Raises:
        MissingResultError: no result is stored that the record could be of.
        CacheError: the record is of another result than the one stored.
        OSError: it can't be written; the call may be repeated.
    """
    target = paths.entry(record.key)
    source, result_bytes = _find(paths, key, record)
    for name in os.listdir(source):
        if is_part(name):
            files.unlink(f"{source}/{name}")
    text = encode_record(record, result_bytes)
    part, described = files.write_aside(f"{source}/{RECORD}", (text,), durable=True)
    try:
        if source != target:
            # Under its new name, with the old record in it, the entry does not count.
            _move(files, source, target)
        files.rename(f"{target}/{os.path.basename(part)}", f"{target}/{RECORD}")
    except BaseException:
        for folder in (source, target):  # it may have been moved already
            with suppress(OSError):
                files.unlink(f"{folder}/{os.path.basename(part)}")
        raise
    files.sync_directory(target)
    if record.key != key:
        with suppress(OSError):  # what is left over does no harm
            if read_failure(target, record.key) is None:
                files.unlink(f"{target}/{FAILURE}")  # it speaks of the old key
            files.remove_directory(paths.task(key.name))
    return text, signature_now(target, described)


def _find(paths: Paths, key: TaskKey, record: Record) -> tuple[str, int]:
    """The folder in which the result is, and the size of its file."""
    # Also where a call that was broken off has left it: moved, or described anew and not moved.
    for folder in dict.fromkeys((paths.entry(key), paths.entry(record.key))):
        if os.path.islink(folder):
            continue  # nothing is written behind it
        try:
            decoded = decode_record(read_file(f"{folder}/{RECORD}")[0])
            size = os.stat(f"{folder}/{RESULT}").st_size
        except OSError:
            continue
        if decoded is None or decoded[0].key not in (key, record.key):
            continue
        known, result_bytes = decoded
        # What data files hold is seen at the next look-up: a record more or less changes nothing there.
        if result_bytes != size or (known.data and not state_of(folder, known.data)):
            continue
        if (known.digest, known.data) == (record.digest, record.data):
            return folder, result_bytes
        if known.key == key:
            raise CacheError(
                f"the record for {record.key} is of another result than the one stored for {key};"
                " look the record up again and change that one"
            )
    raise MissingResultError(
        f"no result of {key} is stored in the cache {paths.root!r} that could become that of {record.key}"
    )


def _move(files: Files, source: str, target: str) -> None:
    """Rename an entry's folder, replacing the one at `target`."""
    folder, old_folder = os.path.dirname(target), os.path.dirname(source)
    if os.path.islink(folder):
        raise CacheError(
            f"{folder!r} is a link, and no entry is moved behind it; put the folder itself in its place"
        )
    if files.make_directory(folder):
        # Else a power cut could take the new folder away, and what was moved into it.
        files.sync_directory(os.path.dirname(folder))
    there = os.listdir(target) if os.path.isdir(target) and not os.path.islink(target) else []
    if strange := [name for name in there if not is_own(name)]:
        raise CacheError(
            f"{f'{target}/{strange[0]}'!r} is not of this cache, and is where an entry is to be moved to;"
            " move it elsewhere by hand"
        )
    remove(files, target)
    try:
        files.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise CacheError(
            f"{source!r} is on another disk than {target!r}, and an entry is only renamed, never copied;"
            " bring the folders together by hand"
        ) from error
    # Only now the record: it must never come to the disk before its folder's new name.
    for changed in dict.fromkeys((folder, old_folder)):
        files.sync_directory(changed)
