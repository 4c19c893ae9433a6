"""Declare an edit harmless: stored results become valid for the code as it is now.

Changes the code in the records and nothing else: what the upstreams, the attributes and the
results hold decides as before. Who accepted, when, and which code it was stays in the record.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taskproc.core.arguments import canonical
from taskproc.core.records import JSON, Record
from taskproc.core.task import Task
from taskproc.engine.codes import names_in
from taskproc.engine.explain import accepted_before, code_changes
from taskproc.engine.stored_tasks import is_reference, stored_with_records
from taskproc.engine.versions import who_we_are
from taskproc.errors import TaskprocError

if TYPE_CHECKING:
    from taskproc.engine.session import Cache


_AT_ONCE = 256
_WRITERS = 16


@dataclass(frozen=True)
class Accepted:
    """What accepting the code of one task class came to.

    Attributes:
        accepted: how many results were of other code and are now valid for today's.
        current: how many were of today's code already.
        busy: how many were left as they are, as a run is computing them anew.
        changes: what differed, in paragraphs, for one result of each earlier code.
    """

    accepted: int
    current: int
    busy: int
    changes: tuple[str, ...]


def accept(cache: Cache, cls: type[Task]) -> Accepted:
    """Take the code of a class as it is now for harmless to its stored results.

    Raises:
        CacheError: the backend can't list what it holds, or can't change records.
        UsageError: the code can't be fingerprinted.
    """
    backend, codes = cache.backend, cache.codes
    backend.open()
    codes.refresh()
    accepted, current = 0, 0
    stale: list[tuple[Record, tuple[str, ...]]] = []
    changes: dict[str, tuple[str, ...]] = {}
    for task, record in stored_with_records(cache, cls):
        names = _names_of(cache, task, record)
        if record.code == codes.of(cls, names) and record.code_scheme == codes.scheme:
            current += 1
        else:
            stale.append((record, names))
            code = record.code or canonical(record.provenance.get("other_code")).decode()
            if code not in changes:
                changes[code] = tuple(code_changes(cache, cls, record, "deep", names))
    with cache.in_use():
        for start in range(0, len(stale), _AT_ONCE):
            accepted += _accept_group(cache, cls, stale[start : start + _AT_ONCE])
        if accepted:
            backend.index()
    told = tuple(dict.fromkeys(text for texts in changes.values() for text in texts))
    return Accepted(accepted, current, len(stale) - accepted, told)


def _accept_group(cache: Cache, cls: type[Task], group: Sequence[tuple[Record, tuple[str, ...]]]) -> int:
    """Accept the results of some tasks; returns of how many, for others may be at work on some."""
    backend, codes = cache.backend, cache.codes
    granted = backend.lease([record.key for record, _ in group])
    try:
        # Somebody may have computed one anew, or accepted it, since it was listed.
        stored = backend.look_up(granted)
        replaced: list[Record] = []
        for record, names in group:
            if stored.get(record.key) == record:
                code = codes.of(cls, names)
                codes.keep(cls, names, code)
                replaced.append(_accepted(record, code, codes.scheme, names))
        # Each waits for the disk, which does many at once in hardly more time than one.
        with ThreadPoolExecutor(_WRITERS) as writers:
            for done in [writers.submit(backend.replace_record, record.key, record) for record in replaced]:
                done.result()
        return len(replaced)
    finally:
        backend.release(granted)


def _names_of(cache: Cache, task: Task, record: Record) -> tuple[str, ...]:
    """The functions and classes whose code counts beside that of the class, as it is now.

    An edit may bring in others than the record tells (of methods called on an upstream). Of a
    task that its stored arguments make no more those of the record have to do.
    """
    if is_reference(task):
        return names_in(record)
    try:
        return cache.names_of(task)
    except TaskprocError:
        return names_in(record)


def _accepted(record: Record, code: str, scheme: int, names: tuple[str, ...]) -> Record:
    note: dict[str, JSON] = {"who": who_we_are(), "when": time.time(), "code": record.code}
    provenance = {**record.provenance, "accepted": [*accepted_before(record), note]}
    provenance.pop("names", None)
    if other := provenance.pop("other_code", None):
        note["other_code"] = other  # the result stands in spite of it
    if names:
        provenance["names"] = list(names)
    return replace(record, code=code, code_scheme=scheme, provenance=provenance)
