"""Decide which stored results go: (entries, criteria) -> what is removed, and what that does to the rest.

Knows nothing of where entries are kept. A result that stays while one above it goes still answers
`get_result`, but a run that asks for it computes both anew: that is counted, for people.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskproc.core.overview import ended_at
from taskproc.core.records import INPUT_FILE, Record, StoredEntry, TaskKey


@dataclass(frozen=True)
class Criteria:
    """What a result must be like to go: all of those that are not None.

    Attributes:
        names: of one of these task names.
        before: finished before this Unix time; one of which nobody knows when stays.
        larger_than: of more bytes than this, its data files included.
        stale: one of these keys.
        kept: none of these keys, nor anything that the results of these rest on.
        max_size: the oldest go until all that stays takes so many bytes at most, but never one
            on which a result that stays rests.
    """

    names: Collection[str] | None = None
    before: float | None = None
    larger_than: int | None = None
    stale: Collection[TaskKey] | None = None
    kept: Collection[TaskKey] | None = None
    max_size: int | None = None


@dataclass(frozen=True)
class Choice:
    """What goes and what stays.

    Attributes:
        removed: the entries whose results go.
        stays, stays_bytes: how many results stay, and their bytes.
        resting: how many of those rest on what goes, directly or not.
        over: the bytes that stay beyond `max_size`.
    """

    removed: Sequence[StoredEntry]
    stays: int
    stays_bytes: int
    resting: int
    over: int


def choose(entries: Iterable[StoredEntry], criteria: Criteria) -> Choice:
    """Choose among all the entries of a cache; those without a result are passed over."""
    stored = [entry for entry in entries if entry.record is not None]
    records = {entry.key: entry.record for entry in stored if entry.record is not None}
    kept = None if criteria.kept is None else _with_upstreams(criteria.kept, records)
    chosen = [entry for entry in stored if _is_chosen(entry, criteria, kept)]
    downstreams = _downstreams(records.values())
    if criteria.max_size is not None:
        excess = sum(entry.size for entry in stored) - criteria.max_size
        chosen = _oldest(chosen, records, downstreams, excess)
    gone = {entry.key for entry in chosen}
    left = [entry for entry in stored if entry.key not in gone]
    size = sum(entry.size for entry in left)
    over = 0 if criteria.max_size is None else max(0, size - criteria.max_size)
    return Choice(chosen, len(left), size, len(_below(gone, downstreams) - gone), over)


def _is_chosen(entry: StoredEntry, criteria: Criteria, kept: Collection[TaskKey] | None) -> bool:
    record = entry.record
    if record is None or (kept is not None and entry.key in kept):
        return False
    if criteria.names is not None and entry.key.name not in criteria.names:
        return False
    if criteria.before is not None:
        ended = ended_at(record)
        if ended is None or ended >= criteria.before:
            return False
    if criteria.larger_than is not None and entry.size <= criteria.larger_than:
        return False
    return criteria.stale is None or entry.key in criteria.stale


def _with_upstreams(keys: Iterable[TaskKey], records: Mapping[TaskKey, Record]) -> set[TaskKey]:
    """These keys, and all that their stored results rest on, what they read besides included."""
    found = set(keys)
    waiting = list(found)
    while waiting:
        record = records.get(waiting.pop())
        for upstream in record.upstreams if record is not None else ():
            if upstream.key not in found:
                found.add(upstream.key)
                waiting.append(upstream.key)
    return found


def _downstreams(records: Iterable[Record]) -> dict[TaskKey, set[TaskKey]]:
    found: dict[TaskKey, set[TaskKey]] = {}
    for record in records:
        for upstream in record.upstreams:
            if upstream.key.name != INPUT_FILE:
                found.setdefault(upstream.key, set()).add(record.key)
    return found


def _below(keys: Collection[TaskKey], downstreams: Mapping[TaskKey, Collection[TaskKey]]) -> set[TaskKey]:
    """All results that rest on one of these, directly or not."""
    found: set[TaskKey] = set()
    waiting = list(keys)
    while waiting:
        for key in downstreams.get(waiting.pop(), ()):
            if key not in found:
                found.add(key)
                waiting.append(key)
    return found


def _oldest(
    candidates: Iterable[StoredEntry],
    records: Mapping[TaskKey, Record],
    downstreams: Mapping[TaskKey, Collection[TaskKey]],
    excess: int,
) -> list[StoredEntry]:
    """The oldest candidates that make up for `excess` bytes, none before those that rest on it."""
    waiting = {entry.key: entry for entry in candidates}
    left = {key: len(downstreams.get(key, ())) for key in waiting}
    free = [(_age(entry), key) for key, entry in waiting.items() if not left[key]]
    heapq.heapify(free)
    chosen: list[StoredEntry] = []
    while free and excess > 0:
        entry = waiting[heapq.heappop(free)[1]]
        chosen.append(entry)
        excess -= entry.size
        for key in {upstream.key for upstream in records[entry.key].upstreams} & left.keys():
            left[key] -= 1
            if not left[key]:
                heapq.heappush(free, (_age(waiting[key]), key))
    return chosen


def _age(entry: StoredEntry) -> float:
    """When a result was finished; one of which nobody knows counts as the oldest."""
    ended = ended_at(entry.record) if entry.record is not None else None
    return ended if ended is not None else 0.0
