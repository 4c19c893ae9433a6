"""The files that a task leaves in its data directory: what they hold, and whether they hold it still.

Content decides, but no file is read again while it stays as it was: its state (size, times,
inode) stands for its content, if the file was at rest when it was read. Knows nothing of
records; where a state is kept from one process to the next is the index's to know.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from typing import NamedTuple

from taskproc.default_plugins.directory_cache.entry import DATA
from taskproc.default_plugins.directory_cache.index import is_at_rest
from taskproc.interfaces import DataFile, content_digest, content_hasher


class _Reading(NamedTuple):
    """What was found when the files of an entry were read in this state."""

    data: tuple[DataFile, ...]
    state: str
    fault: str


class DataFiles:
    """The data files of a cache that this process has read. Methods may be called from threads."""

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    def list(self, entry: str) -> tuple[DataFile, ...]:
        """The files in the data directory of an entry, sorted by path.

        A symbolic link counts as what it says, not as what it points to; folders and special
        files (pipes, sockets) are not listed.
        """
        if not os.access(f"{entry}/{DATA}", os.F_OK):
            return ()
        found: list[tuple[DataFile, str]] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(f"{entry}/{DATA}/{folder}") as inside:
                    for item in inside:
                        path = folder + item.name
                        if item.is_dir(follow_symlinks=False):
                            folders.append(f"{path}/")
                        elif read := _read(item.path, path):
                            found.append(read)
            except FileNotFoundError:
                if folder:
                    raise
        found.sort()
        data = tuple([file for file, _ in found])
        self._remember(entry, data, [state for _, state in found], "")
        return data

    def take(self, entry: str, data: Sequence[DataFile]) -> str:
        """The state in which the files were found to be `data`, "" if none can be trusted.

        It is forgotten here: who saves an entry keeps it in the entry's row.
        """
        reading = self._readings.pop(entry, None)
        return reading.state if reading and not reading.fault and reading.data == tuple(data) else ""

    def check(self, entry: str, data: Sequence[DataFile]) -> tuple[str, str]:
        """What is wrong with the files that should be `data` ("": nothing), and their state.

        The state is "" if it can't be trusted to stand for what the files hold. The files are
        read, unless this process has read them in the state in which they are.
        """
        if (sized := check_sizes(entry, data))[0]:
            return sized
        reading = self._readings.get(entry)
        if reading and reading.data == tuple(data) and reading.state == state_of(entry, data):
            return reading.fault, reading.state
        states: list[str] = []
        fault = ""
        for file in data:
            try:
                read = _read(f"{entry}/{DATA}/{file.path}", file.path)
            except OSError as error:
                return f"the file {DATA}/{file.path} can't be read: {error.strerror}", ""
            found, state = read or (None, "")
            states.append(state)
            if found != file and not fault:
                fault = f"the file {DATA}/{file.path} was changed by hand"
        return fault, self._remember(entry, tuple(data), states, fault)

    def _remember(self, entry: str, data: tuple[DataFile, ...], states: Sequence[str], fault: str) -> str:
        if not all(states) or not data:
            self._readings.pop(entry, None)
            return ""
        state = _joined(states)
        self._readings[entry] = _Reading(data, state, fault)
        return state


def state_of(entry: str, data: Sequence[DataFile]) -> str:
    """The state of the files of an entry now; "" if one is missing or has another size."""
    states: list[str] = []
    try:
        for file in data:
            status = os.lstat(f"{entry}/{DATA}/{file.path}")
            if status.st_size != file.size:
                return ""
            states.append(_state(status))
    except (OSError, ValueError):
        return ""
    return _joined(states)


def check_sizes(entry: str, data: Sequence[DataFile]) -> tuple[str, str]:
    """As `DataFiles.check`, and reads nothing: what files of the right sizes hold is not known."""
    for file in data:
        try:
            size = os.lstat(f"{entry}/{DATA}/{file.path}").st_size
        except (OSError, ValueError):
            return f"the file {DATA}/{file.path} is missing", ""
        if size != file.size:
            size_told = f"it is {size} bytes long instead of {file.size}"
            return f"the file {DATA}/{file.path} was changed by hand: {size_told}", ""
    return "", ""


def _read(file_path: str, path: str) -> tuple[DataFile, str] | None:
    """What a file is, and its state, "" if that can't stand for its content; None for a special file."""
    before, now = os.lstat(file_path), time.time_ns()
    if stat.S_ISLNK(before.st_mode):
        size, digest = before.st_size, content_digest(b"link:" + os.fsencode(os.readlink(file_path)))
    elif stat.S_ISREG(before.st_mode):
        with open(file_path, "rb") as file:
            digest = hashlib.file_digest(file, content_hasher).hexdigest()
            size = os.fstat(file.fileno()).st_size
    else:
        return None
    # The state from before the reading, at rest then: no change since can have left it as it is.
    is_trusted = is_at_rest(before, now) and _state(os.lstat(file_path)) == _state(before)
    return DataFile(path, size, digest), _state(before) if is_trusted else ""


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _joined(states: Sequence[str]) -> str:
    return content_digest("\n".join(states).encode())
