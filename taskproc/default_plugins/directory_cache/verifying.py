"""Check a whole directory cache, and put right what can be: what `verify` does.

Decides what is touched and when: a fault is looked for without any claim and, where it is
found, once more under a claim of the key, so that nothing of a living run is. What is wrong
with an entry is for `inspecting` to tell, and with what stands beside the entries for `housekeeping`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from taskproc.default_plugins.directory_cache import entry as entries
from taskproc.default_plugins.directory_cache.entry import RECORD, RESULT
from taskproc.default_plugins.directory_cache.housekeeping import check_beside
from taskproc.default_plugins.directory_cache.inspecting import Fault, Inspection, inspect
from taskproc.default_plugins.directory_cache.state import State
from taskproc.default_plugins.directory_cache.walking import Folder, Stray, look, walk
from taskproc.errors import CacheError
from taskproc.interfaces import CacheBackend, Event, Finding, TaskKey

_MOVES = "jobs/rename.json"
_ROUNDS = 4
"""How often an entry is looked at again: what is put back may be found to be damaged itself."""


def verify(
    backend: CacheBackend, state: State, repair: bool, checked: Callable[[TaskKey, int], None] | None
) -> Iterator[Finding]:
    """See `CacheBackend.verify`."""
    checks = _Verification(backend, state, repair)
    try:
        for place in walk(state.root):
            if isinstance(place, Stray):
                yield _of_stray(place)
                continue
            found = inspect(place, state.files.rules)
            if found.faults:
                yield from checks.settle(place, found)
            if checked is not None and place.key is not None:
                checked(place.key, found.bytes)
    except OSError as error:
        raise CacheError(f"the cache {state.root!r} can't be read: {error.strerror}") from error
    yield from check_beside(state, repair and checks.can_write, backend.posts())


class _Verification:
    def __init__(self, backend: CacheBackend, state: State, repair: bool) -> None:
        self._backend = backend
        self._state = state
        self._repair = repair
        self.can_write = True

    def settle(self, folder: Folder, found: Inspection) -> Iterator[Finding]:
        """Tell the faults of an entry, and repair what can be."""
        if folder.key is None or not any(fault.cure for fault in found.faults):
            # A result without a record may be that of a job which is just saving it.
            is_new = RESULT in folder.names and RECORD not in folder.names
            if not (is_new and folder.key is not None and self._backend.holder(folder.key) is not None):
                yield from self._told(folder, found.faults)
        elif not self._repair or not self.can_write:
            yield from self._look_again(folder, folder.key)
        else:
            yield from self._put_right(folder, folder.key)

    def _look_again(self, folder: Folder, key: TaskKey) -> Iterator[Finding]:
        """Without a claim: somebody may just have been writing, or may hold the key."""
        if self._backend.holder(key) is None:
            yield from self._told(folder, self._again(folder).faults)

    def _put_right(self, folder: Folder, key: TaskKey) -> Iterator[Finding]:
        try:
            granted = self._backend.lease([key])
        except (CacheError, OSError):
            self.can_write = False
            yield from self._look_again(folder, key)
            return
        if not granted:
            return  # a run is at work there, and finds out by itself
        try:
            told: set[Fault] = set()
            for number in range(_ROUNDS):
                found = self._again(folder)
                cured = False
                for fault in found.faults:
                    # From the second look on, what is new is what the repair itself has left or uncovered.
                    if fault in told or (number and fault.cure is None):
                        continue
                    told.add(fault)
                    repaired = fault.cure is not None and self._cure(folder, key, fault, found)
                    cured = cured or repaired
                    yield _finding(key, fault, repaired)
                if not cured:
                    return
        finally:
            self._backend.release(granted)

    def _cure(self, folder: Folder, key: TaskKey, fault: Fault, found: Inspection) -> bool:
        files = self._state.files
        try:
            if fault.cure == "remove":
                files.unlink(fault.path)
            elif fault.cure == "put back":
                entries.abandon(files, folder.path)
            elif fault.cure == "set aside misplaced" and os.path.lexists(f"{self._state.root}/{_MOVES}"):
                return False  # a rename that was broken off left it so, and completes it when repeated
            else:
                entries.set_aside(files, folder.path)
                self._backend.note(Event("damaged", key, time.time(), text=fault.text, record=found.record))
        except OSError:
            return False
        return True

    def _again(self, folder: Folder) -> Inspection:
        path, leaf = os.path.split(folder.path)
        now = look(path, os.path.basename(path), leaf)
        return Inspection([], 0, None) if now is None else inspect(now, self._state.files.rules)

    def _told(self, folder: Folder, faults: Iterable[Fault]) -> Iterator[Finding]:
        for fault in faults:
            yield _finding(folder.key, fault, repaired=False)


def _of_stray(stray: Stray) -> Finding:
    if stray.fault:
        return Finding(None, stray.path, stray.fault)
    if not stray.in_place:
        return Finding(None, stray.path, f"a {stray.what} that is not of this cache", harmless=True)
    text = f"a {stray.what} is in the place of a folder: nothing is read or written there; remove it by hand"
    return Finding(None, stray.path, text)


def _finding(key: TaskKey | None, fault: Fault, repaired: bool) -> Finding:
    return Finding(key, fault.path, fault.text, repaired, fault.harmless)
