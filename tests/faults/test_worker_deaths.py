"""A worker that dies costs the one task that was in it."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from figures import Figures

from taskproc import Cache, FailedTaskError, FutureList, Task

DEATHS: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "a segfault": lambda: ctypes.string_at(0),
    "os._exit": lambda: os._exit(3),
    "an abort": os.abort,
}
EVERY = 40
"""Of so many tasks one kills its worker."""


class Job(Task):
    def __init__(self, n: int, how: str) -> None:
        self.n = n
        self.how = how

    def run_task(self) -> int:
        if self.n % EVERY == EVERY // 2:
            DEATHS[self.how]()
        return self.n


class Jobs(Task):
    def __init__(self, count: int, how: str) -> None:
        self.jobs = FutureList([Job(n, how) for n in range(count)])

    def run_task(self) -> int:
        return sum(self.jobs.get_result())


@pytest.mark.parametrize("how", DEATHS)
def test_each_dead_worker_fails_one_task_and_all_others_are_finished(
    tmp_path: Path, figures: Figures, thorough: bool, how: str
) -> None:
    count = EVERY * (100 if thorough else 6)
    deaths = count // EVERY
    with Cache(tmp_path / "cache"):
        with pytest.raises(ExceptionGroup) as caught:
            Jobs(count, how).run_graph(max_workers=2, on_error="continue")
        failed = [error for error in caught.value.exceptions if isinstance(error, FailedTaskError)]
        assert {error.task_args["n"] % EVERY for error in failed} == {EVERY // 2}
        figures.count("workers that died", deaths)
        figures.worst("tasks failed per dead worker", len(failed) // deaths)
        assert len(failed) == deaths
        assert Jobs(count, how).plan().run_counts == {Job.task_name: deaths, Jobs.task_name: 1}
