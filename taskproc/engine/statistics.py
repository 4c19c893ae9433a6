"""Count what a run does and how long it takes, by task name.

Knows only what it is told; the times are this process's own.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from taskproc.core.records import Outcome, Plan, RunStats, TaskKey


class Statistics:
    """The statistics of one run while it goes on."""

    def __init__(self, plan: Plan) -> None:
        self._begun = time.monotonic()
        self._cached = Counter(plan.cached_counts)
        self._executed: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._waiting: defaultdict[str, float] = defaultdict(float)
        self._running: defaultdict[str, float] = defaultdict(float)
        self._ended: dict[TaskKey, float] = {}

    def ended(self, outcome: Outcome, upstreams: Sequence[TaskKey]) -> float:
        """Note how a job ended; returns the seconds it waited."""
        now = time.monotonic()
        key = outcome.key
        ready = max((self._ended.get(up, self._begun) for up in upstreams), default=self._begun)
        waited = max(0.0, now - ready - outcome.seconds)
        self._ended[key] = now
        if outcome.kind == "finished":
            self._executed[key.name] += 1
        elif outcome.kind == "failed":
            self._failed[key.name] += 1
        elif outcome.kind in ("done elsewhere", "unchanged"):
            self._cached[key.name] += 1
        self._waiting[key.name] += waited
        self._running[key.name] += outcome.seconds
        return waited

    def uncached(self, key: TaskKey) -> None:
        """A task that counts as cached was found damaged."""
        self._cached[key.name] -= 1

    def result(self) -> RunStats:
        """The statistics so far."""
        names = self._running.keys() | self._waiting.keys()
        return RunStats(
            stats=dict(self._executed),
            cached={name: count for name, count in self._cached.items() if count},
            failed=dict(self._failed),
            waiting_seconds=dict(self._waiting),
            running_seconds=dict(self._running),
            total_seconds={name: self._waiting[name] + self._running[name] for name in sorted(names)},
            elapsed_seconds=time.monotonic() - self._begun,
        )
