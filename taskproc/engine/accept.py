"""Declare an edit harmless: stored results become valid for the code as it is now.

Changes the code in the records and nothing else: what the upstreams, the attributes and the
results hold decides as before. Who accepted, when, and which code it was stays in the record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from taskproc.core.records import Record
from taskproc.core.task import Task
from taskproc.engine.codes import names_in
from taskproc.engine.versions import who_we_are

if TYPE_CHECKING:
    from taskproc.engine.session import Cache


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
    codes.refresh()
    current, busy = 0, 0
    stale: list[tuple[Record, str]] = []
    changes: dict[str, tuple[str, ...]] = {}
    for entry in backend.stored(cls._task_name):
        record = entry.record
        if record is None:
            continue
        code = codes.of_record(cls, record)
        if record.code == code and record.code_scheme == codes.scheme:
            current += 1
        else:
            stale.append((record, code))
            if record.code not in changes:
                changes[record.code] = tuple(codes.changes(cls, record))
    with cache.in_use():
        for record, code in stale:
            if record.key not in backend.lease([record.key]):
                busy += 1
                continue
            try:
                # Somebody may have computed it anew since it was listed.
                if backend.look_up([record.key]).get(record.key) == record:
                    codes.keep(cls, names_in(record), code)
                    backend.replace_record(record.key, _accepted(record, code, codes.scheme))
            finally:
                backend.release([record.key])
        if stale:
            backend.index()
    told = tuple(dict.fromkeys(text for texts in changes.values() for text in texts))
    return Accepted(len(stale) - busy, current, busy, told)


def _accepted(record: Record, code: str, scheme: int) -> Record:
    note = {"who": who_we_are(), "when": time.time(), "code": record.code}
    provenance = {**record.provenance, "accepted": [*(record.provenance.get("accepted") or ()), note]}
    return replace(record, code=code, code_scheme=scheme, provenance=provenance)
