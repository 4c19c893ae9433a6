"""Runs at the same time, on one `Cache` or on one folder, do each task once between them."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, FutureList, Task
from taskproc.errors import CacheError
from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Outcome, Reporter


class Noted(Task):
    """Notes each time it runs."""

    def __init__(self, n: int, notes: str, seconds: float) -> None:
        self.n = n
        self.notes = notes
        self.seconds = seconds

    def run_task(self) -> int:
        with open(self.notes, "a") as file:
            file.write(f"{self.n}\n")
        time.sleep(self.seconds)
        return self.n


class Span(Task):
    def __init__(self, first: int, end: int, notes: str, seconds: float) -> None:
        self.parts = FutureList([Noted(n, notes, seconds) for n in range(first, end)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes.txt"


def times_run(notes: Path) -> set[int]:
    """How often tasks ran."""
    return set(Counter(notes.read_text().split()).values())


def test_a_run_that_ends_leaves_the_claims_of_others_on_the_same_cache_alone(
    cache: Cache, notes: Path
) -> None:
    long = Span(0, 4, str(notes), 0.5)
    short = Span(100, 101, str(notes), 0.0)

    def later() -> Any:
        time.sleep(0.2)
        short.run_graph(executor="thread")
        return long.run_graph(executor="thread", max_workers=2)[0]

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(lambda: long.run_graph(executor="thread", max_workers=2)[0])
        second = threads.submit(later)
        assert (first.result(), second.result()) == (6, 6)
    assert times_run(notes) == {1}


def test_a_reporter_may_run_a_graph_of_the_same_cache(cache: Cache, notes: Path) -> None:
    answers: list[int] = []

    class Calls(Reporter):
        @hookimpl
        def taskproc_job_finished(self, outcome: Outcome) -> None:
            with cache:
                answers.append(Span(100, 102, str(notes), 0.0).run_graph(executor="serial")[0])

    assert Span(0, 4, str(notes), 0.0).run_graph(executor="thread", reporters=[Calls()])[0] == 6
    assert answers == [201] * 5
    assert times_run(notes) == {1}


def test_runners_that_start_at_once_share_the_work(tmp_path: Path, notes: Path) -> None:
    def run(_: int) -> int:
        with Cache(tmp_path / "cache"):
            return (
                Span(0, 60, str(notes), 0.01)
                .run_graph(executor="thread", max_workers=1)[1]["stats"]
                .get(Noted.task_name, 0)
            )

    with ThreadPoolExecutor(3) as threads:
        counts = list(threads.map(run, range(3)))
    assert sum(counts) == 60
    assert min(counts) >= 5
    assert times_run(notes) == {1}


@pytest.mark.parametrize("executor", ["process", "thread", "serial"])
def test_a_cache_that_was_removed_since_the_last_run_is_made_anew(
    cache: Cache, notes: Path, executor: str
) -> None:
    task = Span(0, 3, str(notes), 0.0)
    for _ in range(2):
        answer, stats = task.run_graph(executor=executor, max_workers=2)
        assert (answer, sum(stats["stats"].values())) == (3, 4)
        shutil.rmtree(cache.location)


def test_a_task_that_another_run_computes_is_not_cleared_under_its_hands(
    cache: Cache, notes: Path, tmp_path: Path
) -> None:
    task = Noted(1, str(notes), 2.0)
    with ThreadPoolExecutor(1) as threads, Cache(cache.location):
        running = threads.submit(lambda: task.run_graph(executor="thread")[0])
        while not notes.exists():
            time.sleep(0.01)
        with pytest.raises(CacheError, match=r"computed just now \(pid \d+ on host"):
            Noted(1, str(notes), 2.0).clear_task()
        assert running.result() == 1
        Noted(1, str(notes), 2.0).clear_task()
    assert task.plan().run_counts == {Noted.task_name: 1}
