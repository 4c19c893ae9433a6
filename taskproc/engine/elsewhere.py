"""What a run waits for because other runs are computing it: when to look again, and what to say of it.

Knows nothing of leases or of what may start: it keeps keys, and asks who holds them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import islice

from taskproc.core.records import Holder, TaskKey

RETRY_SECONDS = 0.1
_LONGEST_RETRY_SECONDS = 1.0
_SLOWER = 1.5
"""Each look that finds all as it was makes the next one come later: there may be many keys to look at."""

_TELL_SECONDS = 3.0
_ASKED_FOR = 8
_LOG = logging.getLogger("taskproc")


class Elsewhere:
    """The tasks of one run that are under way elsewhere.

    Args:
        holder: who else has the claim on a key now.
    """

    def __init__(self, holder: Callable[[TaskKey], Holder | None]) -> None:
        self._holder = holder
        self._keys: dict[TaskKey, None] = {}
        self._retried = time.monotonic()
        self._pause = RETRY_SECONDS
        self._idle_since: float | None = None
        self._told = False

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, key: TaskKey) -> None:
        """Wait for this one."""
        self._keys[key] = None

    def due(self) -> list[TaskKey]:
        """What is to be tried again now, and is not waited for any more; nothing before its time."""
        now = time.monotonic()
        if not self._keys or now - self._retried < self._pause:
            return []
        self._retried = now
        self._pause = min(self._pause * _SLOWER, _LONGEST_RETRY_SECONDS)
        due, self._keys = list(self._keys), {}
        return due

    def moved(self) -> None:
        """Something went on: a task was found done, or is ours now."""
        self._pause = RETRY_SECONDS
        self._idle_since = None

    def tell(self, has_own_jobs: bool) -> None:
        """Say once for whom the run waits, if that has been all it does for a few seconds."""
        if has_own_jobs or not self._keys or self._told:
            self._idle_since = None
            return
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < _TELL_SECONDS:
            return
        holders = [self._holder(key) for key in islice(self._keys, _ASKED_FOR)]
        words = list(dict.fromkeys(holder.words for holder in holders if holder is not None))
        if words:
            self._told = True
            count = len(self._keys)
            what = "a task" if count == 1 else f"{count} tasks"
            whose = "another run is" if len(words) == 1 else "other runs are"
            _LOG.warning("waiting for %s that %s computing (%s)", what, whose, "; ".join(words))
