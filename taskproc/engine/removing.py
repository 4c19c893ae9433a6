"""Remove what is stored of some tasks, at a person's request.

A group at a time, under the leases of its keys: what a run holds just now is left alone and
told. Knows nothing of why these tasks, nor of what it is that goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from taskproc.core.records import Event, TaskKey
from taskproc.engine.versions import who_we_are
from taskproc.interfaces import CacheBackend

_AT_ONCE = 200


def remove(
    backend: CacheBackend,
    keys: Sequence[TaskKey],
    step: Callable[[Collection[TaskKey]], Collection[TaskKey] | None],
    words: str | None = "",
) -> set[TaskKey]:
    """Call `step` with groups of `keys`; returns those that were left, as a run holds them.

    `step` may return those that it left itself, as they are not what they were when they were chosen.
    What was done to each is noted in the cache: `words` say so ("": cleared by hand), and with
    None nothing is noted.

    Raises:
        CacheError: the cache can't be written to.
        OSError: something can't be removed.
    """
    busy: set[TaskKey] = set()
    who = who_we_are()
    for start in range(0, len(keys), _AT_ONCE):
        group = keys[start : start + _AT_ONCE]
        granted = backend.lease(group)
        try:
            chosen = [key for key in group if key in granted]
            busy.update(key for key in group if key not in granted)
            left = step(chosen) or ()
            busy.update(left)
            for key in chosen if words is not None else ():
                if key in left:
                    continue
                backend.note(Event("cleared", key, time.time(), who, text=words or ""))
        finally:
            backend.release(granted)
    return busy
