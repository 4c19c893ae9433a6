"""Sum up what a cache holds, task name by task name: (entries, posts of runs) -> rows.

Decides when a stored result counts as stale without any task at hand: by content, and by the
code where somebody tells it. Knows nothing of where entries are kept or how rows are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from taskproc.core.records import (
    CHANGED_MEANWHILE,
    INPUT_FILE,
    JSON,
    Record,
    StoredEntry,
    TaskKey,
    UpstreamRecord,
    seen_digest,
)


@dataclass
class TaskRow:
    """What there is of the tasks of one name.

    Attributes:
        done: how many have a whole stored result; `failed`: of how many the last job failed.
        running: how many jobs run now.
        stale: of those that are done, how many would be run again if they were asked for.
        bytes: of the results and their data files.
        seconds: how long each stored result took.
        last_run: Unix time at which the last job ended of which anything is known, or None.
    """

    done: int = 0
    failed: int = 0
    running: int = 0
    stale: int = 0
    bytes: int = 0
    seconds: list[float] = field(default_factory=list[float])
    last_run: float | None = None

    @property
    def seconds_total(self) -> float:
        return sum(self.seconds)

    @property
    def seconds_median(self) -> float | None:
        return median(self.seconds) if self.seconds else None


def sum_up(
    entries: Iterable[StoredEntry],
    posts: Iterable[Mapping[str, JSON]],
    location: str,
    python: str,
    code_of_record: Callable[[Record], str | None] | None = None,
) -> dict[str, TaskRow]:
    """A row for each task name that is stored or running, in the order of the names.

    Args:
        entries: all that a cache holds: what is missing among them counts as missing.
        posts: what the runs under way have posted.
        location: the cache's root as it is now.
        python: minor version of the running Python ("3.11").
        code_of_record: the present code fingerprint of the task of a record, where it is
            known; without it code does not count.
    """
    rows: dict[str, TaskRow] = {}
    freshness = _Freshness()
    for entry in entries:
        row = rows.setdefault(entry.key.name, TaskRow())
        row.bytes += entry.size
        if entry.failure is not None:
            row.failed += 1
            _saw(row, entry.failure.when)
        record = entry.record
        if record is not None:
            row.done += 1
            _time(row, record)
            freshness.add(record, is_stale_in_itself(record, location, python, code_of_record))
    for key in freshness.stale():
        rows[key.name].stale += 1
    for post in posts:
        for job in running_jobs(post):
            rows.setdefault(job["task"], TaskRow()).running += 1
    return dict(sorted(rows.items()))


def stale_keys(
    records: Iterable[Record],
    location: str,
    python: str,
    code_of_record: Callable[[Record], str | None] | None = None,
) -> set[TaskKey]:
    """The keys of the stale ones among all the records that a cache holds; see `sum_up`."""
    freshness = _Freshness()
    for record in records:
        freshness.add(record, is_stale_in_itself(record, location, python, code_of_record))
    return freshness.stale()


def is_stale_in_itself(
    record: Record,
    location: str,
    python: str,
    code_of_record: Callable[[Record], str | None] | None,
) -> bool:
    """Whether a record would not count any more, its upstreams aside."""
    if record.root is not None and record.root != location:
        return True
    if record.python is not None and record.python != python:
        return True
    if record.provenance.get("other_code"):  # no code vouches for it
        return True
    code = code_of_record(record) if code_of_record is not None else None
    return code is not None and code != record.code


def running_jobs(post: Mapping[str, JSON]) -> list[Mapping[str, JSON]]:
    """The jobs that a post says are running: those that are whole, for a backend may be anybody's."""
    jobs = post.get("running")
    if not isinstance(jobs, Sequence):
        return []
    return [
        job
        for job in jobs
        if isinstance(job, Mapping) and isinstance(job.get("task"), str) and isinstance(job.get("key"), str)
    ]


def ended_at(record: Record) -> float | None:
    """The Unix time at which the job of a stored result ended, or None where its record does not tell."""
    started, seconds = _number(record, "started"), _number(record, "seconds")
    return None if started is None else started + (seconds or 0.0)


def _time(row: TaskRow, record: Record) -> None:
    seconds = _number(record, "seconds")
    if seconds is not None:
        row.seconds.append(seconds)
    _saw(row, ended_at(record))


def _saw(row: TaskRow, when: float | None) -> None:
    if when is not None and (row.last_run is None or when > row.last_run):
        row.last_run = when


def _number(record: Record, name: str) -> float | None:
    """A number that the provenance of a record tells; a file may have been edited by hand."""
    value = record.provenance.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class _Freshness:
    """Which of many results are stale; a result above which another one is stale is so too."""

    def __init__(self) -> None:
        self._versions: dict[TaskKey, tuple[str, str]] = {}
        self._upstreams: dict[TaskKey, tuple[UpstreamRecord, ...]] = {}
        self._stale: set[TaskKey] = set()

    def add(self, record: Record, is_stale: bool) -> None:
        self._versions[record.key] = (record.version, seen_digest(record))
        if is_stale:
            self._stale.add(record.key)
        elif record.upstreams:
            self._upstreams[record.key] = record.upstreams

    def stale(self) -> set[TaskKey]:
        """The keys of the stale results, once all records were added."""
        for key, upstreams in self._upstreams.items():
            if any(map(self._differs, upstreams)):
                self._stale.add(key)
        if self._stale:
            self._spread()
        return self._stale

    def _differs(self, upstream: UpstreamRecord) -> bool:
        if upstream.key.name == INPUT_FILE:  # its content is not in the cache
            return upstream.version == CHANGED_MEANWHILE
        known = self._versions.get(upstream.key)
        version, _, attributes = upstream.version.partition("+")
        return known is None or version != known[0] or attributes not in ("", known[1])

    def _spread(self) -> None:
        downstreams: dict[TaskKey, list[TaskKey]] = {}
        for key, upstreams in self._upstreams.items():
            for upstream in upstreams:
                downstreams.setdefault(upstream.key, []).append(key)
        waiting = list(self._stale)
        while waiting:
            for key in downstreams.get(waiting.pop(), ()):
                if key not in self._stale:
                    self._stale.add(key)
                    waiting.append(key)
