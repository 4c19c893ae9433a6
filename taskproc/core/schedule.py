"""Decide which tasks may start next.

Knows nothing of processes, files or clocks: the engine tells it what finished.
A lane is where a task runs (the executor, or one launcher); the engine says how much
room each lane has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from taskproc.core.records import TaskKey
from taskproc.errors import RateLimitError

MAX_REOPENINGS = 3
"""How often one task is computed anew because its stored result was found damaged."""

_Status = Literal["waiting", "ready", "running", "elsewhere", "done", "failed", "blocked"]
_Group = tuple[str, tuple[str, ...]]


def check_rate_limits(rate_limits: Mapping[str, int]) -> None:
    """Raise RateLimitError unless every limit is an integer of 1 or more."""
    for label, limit in rate_limits.items():
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise RateLimitError(
                f"the rate limit of {label!r} is {limit!r}; it must be an integer of 1 or more "
                "(leave the label out for no limit)"
            )


class Scheduler:
    """A state machine over the stale tasks of one run.

    Args:
        stale: the tasks to run, upstreams before downstreams.
        upstreams_of: the direct upstreams of any task of the graph.
        labels_of: the labels of any task of the graph.
        lane_of: the lane of any task of the graph.
        rate_limits: for each label, how many of its tasks run at once.
        on_error: whether a failure stops the start of others.
    """

    def __init__(
        self,
        stale: Iterable[TaskKey],
        upstreams_of: Callable[[TaskKey], Collection[TaskKey]],
        labels_of: Callable[[TaskKey], Sequence[str]],
        lane_of: Callable[[TaskKey], str],
        rate_limits: Mapping[str, int],
        on_error: Literal["stop", "continue"] = "stop",
    ) -> None:
        check_rate_limits(rate_limits)
        self._upstreams_of = upstreams_of
        self._labels_of = labels_of
        self._lane_of = lane_of
        self._free = dict(rate_limits)
        self._on_error = on_error
        self._status: dict[TaskKey, _Status] = {}
        self._missing: dict[TaskKey, int] = {}
        self._downstreams: dict[TaskKey, list[TaskKey]] = {}
        self._ready: dict[_Group, deque[TaskKey]] = {}
        self._counts: dict[_Status, int] = dict.fromkeys(
            ("waiting", "ready", "running", "elsewhere", "done", "failed", "blocked"), 0
        )
        self._ready_in_lane: dict[str, int] = {}
        self._reopened: dict[TaskKey, int] = {}
        # Who has which upstream, over all tasks known here; made when first a task is reopened.
        self._relying: dict[TaskKey, list[TaskKey]] | None = None
        self.stopped = False
        order = list(stale)
        for key in order:
            self._set(key, "waiting")
        for key in order:
            self._wait_for(key, [up for up in set(upstreams_of(key)) if up in self._status])

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will start any more."""
        counts = self._counts
        if counts["running"]:
            return False
        return self.stopped or not (counts["ready"] or counts["elsewhere"])

    @property
    def running(self) -> int:
        """How many tasks are running."""
        return self._counts["running"]

    @property
    def counts(self) -> Mapping[Any, int]:
        """How many tasks stand where; all that were to run are among them."""
        return self._counts

    def status(self, key: TaskKey) -> _Status | None:
        """Where a task stands; None if it was cached from the start."""
        return self._status.get(key)

    def count_ready(self, lane: str) -> int:
        """How many tasks of a lane could start but for its room and the rate limits."""
        return 0 if self.stopped else self._ready_in_lane.get(lane, 0)

    def ready(self, room: Mapping[str, int]) -> list[TaskKey]:
        """Start what may start: at most `room[lane]` tasks a lane, within every rate limit."""
        started: list[TaskKey] = []
        if self.stopped or not self._counts["ready"]:
            return started
        left = dict(room)
        for (lane, limited), queue in list(self._ready.items()):
            while queue and left.get(lane, 0) > 0 and all(self._free[label] > 0 for label in limited):
                key = queue.popleft()
                if self._status[key] != "ready":
                    continue  # it went back to waiting when an upstream was reopened
                self._ready_in_lane[lane] -= 1
                left[lane] -= 1
                for label in limited:
                    self._free[label] -= 1
                self._set(key, "running")
                started.append(key)
            if not queue:
                del self._ready[lane, limited]
        return started

    def succeeded(self, key: TaskKey) -> None:
        """A running task finished here, or a task was found done elsewhere: its downstreams go on."""
        self._leave(key, "done")
        for downstream in self._downstreams.pop(key, ()):
            self._missing[downstream] -= 1
            if not self._missing[downstream] and self._status[downstream] == "waiting":
                self._make_ready(downstream)

    def failed(self, key: TaskKey) -> None:
        """A running task failed: what needs it is blocked, and by policy nothing else starts."""
        self._leave(key, "failed")
        if self._on_error == "stop":
            self.stopped = True
        self._block_downstreams(key)

    def returned(self, key: TaskKey) -> None:
        """A running task was handed back before it began: it is ready again."""
        self._release_labels(key)
        self._requeue(key)

    def postponed(self, key: TaskKey) -> None:
        """Another runner holds this running task: it waits until `returned` or `succeeded`."""
        self._leave(key, "elsewhere")

    def retry(self, key: TaskKey) -> None:
        """A postponed task may be tried again."""
        self._requeue(key)

    def damaged(self, asker: TaskKey | None, keys: Collection[TaskKey]) -> TaskKey | None:
        """Stored results were found damaged: they are computed anew and `asker` waits for them.

        `asker` is the running task that found them, or None for whoever stands outside.
        Returns a key that was damaged once too often, and then changes nothing.
        """
        for key in keys:
            if self._status.get(key) in (None, "done") and self._reopened.get(key, 0) >= MAX_REOPENINGS:
                return key
        for key in keys:
            if self._status.get(key) in (None, "done"):
                self._reopen(key)
        if asker is not None:
            self._release_labels(asker)
            self._requeue(asker)
        return None

    def stop(self) -> None:
        """Start nothing any more."""
        self.stopped = True

    def _reopen(self, key: TaskKey) -> None:
        """Put a task that was done back to its start; those that relied on it wait again."""
        self._reopened[key] = self._reopened.get(key, 0) + 1
        if self._relying is None:
            self._relying = {}
            for downstream in self._status:
                self._note_relying(downstream)
        elif key not in self._status:
            self._note_relying(key)
        for downstream in self._relying.get(key, ()):
            status = self._status[downstream]
            if status in ("waiting", "ready"):
                if status == "ready":
                    self._set(downstream, "waiting")
                    self._ready_in_lane[self._lane_of(downstream)] -= 1
                self._missing[downstream] += 1
                self._downstreams.setdefault(key, []).append(downstream)
        self._requeue(key)

    def _note_relying(self, key: TaskKey) -> None:
        for upstream in set(self._upstreams_of(key)):
            if self._relying is not None:
                self._relying.setdefault(upstream, []).append(key)

    def _requeue(self, key: TaskKey) -> None:
        """A task is ready, or waits for whatever upstream is not done (any more)."""
        self._set(key, "waiting")
        self._wait_for(key, [up for up in set(self._upstreams_of(key)) if self._is_unfinished(up)])

    def _is_unfinished(self, key: TaskKey) -> bool:
        return self._status.get(key) not in (None, "done")

    def _wait_for(self, key: TaskKey, upstreams: Collection[TaskKey]) -> None:
        self._missing[key] = len(upstreams)
        for upstream in upstreams:
            self._downstreams.setdefault(upstream, []).append(key)
        if any(self._status[upstream] in ("failed", "blocked") for upstream in upstreams):
            self._set(key, "blocked")
            self._block_downstreams(key)
        elif not upstreams:
            self._make_ready(key)

    def _make_ready(self, key: TaskKey) -> None:
        self._set(key, "ready")
        lane = self._lane_of(key)
        limited = tuple(label for label in self._labels_of(key) if label in self._free)
        self._ready.setdefault((lane, limited), deque()).append(key)
        self._ready_in_lane[lane] = self._ready_in_lane.get(lane, 0) + 1

    def _leave(self, key: TaskKey, status: _Status) -> None:
        if self._status[key] == "running":
            self._release_labels(key)
        self._set(key, status)

    def _release_labels(self, key: TaskKey) -> None:
        for label in self._labels_of(key):
            if label in self._free:
                self._free[label] += 1

    def _set(self, key: TaskKey, status: _Status) -> None:
        before = self._status.get(key)
        if before is not None:
            self._counts[before] -= 1
        self._counts[status] += 1
        self._status[key] = status

    def _block_downstreams(self, key: TaskKey) -> None:
        waiting = [key]
        while waiting:
            for downstream in self._downstreams.pop(waiting.pop(), ()):
                if self._status[downstream] == "waiting":
                    self._set(downstream, "blocked")
                    waiting.append(downstream)
