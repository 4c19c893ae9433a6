"""Guess how long tasks take of which the graph itself tells nothing, from others of their name.

Decides nothing: it is an estimate for people, made from what was recorded.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from statistics import median

from taskproc.core.records import Plan, StoredEntry
from taskproc.errors import CacheError
from taskproc.interfaces import CacheBackend

_ENOUGH = 1000


def with_typical_seconds(plan: Plan, backend: CacheBackend) -> Plan:
    """The plan, with the durations of stored tasks of the same name where none were known."""
    seconds = dict(plan.seconds)
    untimed: list[str] = []
    counts = plan.run_counts
    for name in plan.untimed:
        typical = _typical(backend, name)
        if typical is None:
            untimed.append(name)
        else:
            seconds[name] = typical * counts[name]
    return replace(plan, seconds=seconds, untimed=untimed)


def _typical(backend: CacheBackend, name: str) -> float | None:
    try:
        known = [_seconds(entry) for entry in islice(backend.stored(name), _ENOUGH)]
    except CacheError:
        return None
    numbers = [seconds for seconds in known if seconds is not None]
    return median(numbers) if numbers else None


def _seconds(entry: StoredEntry) -> float | None:
    seconds = entry.record.provenance.get("seconds") if entry.record is not None else None
    return float(seconds) if isinstance(seconds, int | float) else None
