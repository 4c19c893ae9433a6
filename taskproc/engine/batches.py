"""Decide how many jobs go in one batch, from how long such jobs took.

Knows nothing of executors. A wrong guess costs little: a batch hands back what it did not
start when its time is up.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskproc.core.records import TaskKey

TARGET_SECONDS = 0.03
BUDGET_SECONDS = 0.15
LARGEST = 256
_FORGETTING = 0.9


class BatchSizes:
    """Expected seconds a job, by task name: the longest seen lately."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._expected: dict[str, float] = {}
        self._lately: float | None = None

    def saw(self, key: TaskKey, seconds: float) -> None:
        """A job of this task took so long."""
        known = self._expected.get(key.name, 0.0)
        self._expected[key.name] = max(seconds, known * _FORGETTING)
        self._lately = self._expected[key.name]

    def expected(self, task_name: str) -> float | None:
        """How long a job of this name may take, in seconds; None if none was seen."""
        return self._expected.get(task_name)

    def room(self, idle_workers: int, ready: int) -> int:
        """How many jobs to ask for, so that each idle worker gets a batch and none gets it all."""
        if not idle_workers or not ready:
            return 0
        if self._lately is None:
            return idle_workers
        by_time = int(TARGET_SECONDS / max(self._lately, 1e-6))
        fair = -(-ready // (2 * self._workers))
        return idle_workers * max(1, min(LARGEST, by_time, fair))

    def split(self, keys: Sequence[TaskKey], idle_workers: int) -> list[list[TaskKey]]:
        """Cut keys into batches: about even, none expected to take much longer than the target.

        A job of unknown or long duration goes alone.
        """
        largest = -(-len(keys) // max(1, idle_workers))
        batches: list[list[TaskKey]] = []
        batch: list[TaskKey] = []
        expected = 0.0
        for key in keys:
            seconds = self._expected.get(key.name, TARGET_SECONDS)
            if seconds >= TARGET_SECONDS:
                batches.append([key])
                continue
            if batch and (len(batch) >= largest or expected + seconds > TARGET_SECONDS):
                batches.append(batch)
                batch, expected = [], 0.0
            batch.append(key)
            expected += seconds
        return [*batches, batch] if batch else batches
