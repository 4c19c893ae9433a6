"""Read what input files hold: the digest of their content, each file once while it stays as it is.

Knows nothing of tasks. Of an unchanged file only the state is looked at again (size, times,
inode); a state is trusted for that only if the file was at rest when it was read, so that two
writes within one tick of the file system's clock are told apart.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from typing import NamedTuple, TypeAlias

from taskproc.core.graph import InputVersion
from taskproc.core.records import content_hasher

_AT_REST_NS = 2_000_000_000

State: TypeAlias = tuple[int, ...]


class Reading(NamedTuple):
    """What a file held, and its state if that can stand for the content later on."""

    now: InputVersion
    state: State | None


class InputFiles:
    """The input files that this process has read. Methods may be called from several threads."""

    def __init__(self) -> None:
        self._known: dict[str, Reading] = {}
        self._lock = threading.Lock()

    def last(self, place: str) -> Reading | None:
        """What the file at that place held when it was last read."""
        return self._known.get(place)

    def version_of(self, path: str) -> InputVersion:
        """What a file holds now."""
        # Not made shorter: behind a link `..` is another folder than it seems.
        place = os.path.join(os.getcwd(), path)
        reading = read_input(place, self._known.get(place))
        with self._lock:
            self._known[place] = reading
        return reading.now


def read_input(path: str, known: Reading | None = None) -> Reading:
    """Read a file, unless its state is that of an earlier reading that can be trusted."""
    try:
        status = os.stat(path)
        if known is not None and known.state is not None and known.state == _state(status):
            return known
        if not stat.S_ISREG(status.st_mode):
            kind = "is a directory" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
            return _faulty(path, f"{kind} (looked at {path}); name files, one by one")
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, content_hasher).hexdigest()
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        return _faulty(path, f"does not exist (looked at {path})")
    except OSError as error:
        return _faulty(path, f"can't be read ({error.strerror}; looked at {path})")
    at_rest = _state(before) == _state(after) and _is_at_rest(before)
    return Reading(InputVersion(digest, place=path), _state(before) if at_rest else None)


def _faulty(path: str, fault: str) -> Reading:
    return Reading(InputVersion("", fault, path), None)


def _state(status: os.stat_result) -> State:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _is_at_rest(status: os.stat_result) -> bool:
    """Whether the last change lies so far back that a later one will show in the times."""
    return max(status.st_mtime_ns, status.st_ctime_ns) + _AT_REST_NS < time.time_ns()
