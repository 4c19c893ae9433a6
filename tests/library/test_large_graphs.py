"""Depth and width cost no recursion, and a job's payload does not grow with the graph."""

from __future__ import annotations

import concurrent.futures
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache, Const, Future, FutureList, Task
from taskproc.errors import CycleError, TaskDefinitionError

COUNT = 10_000


class Quick(Task):
    task_compress_level = 0


class Recursive(Quick):
    """Each link constructs the next one: 10,000 constructions stand in each other."""

    def __init__(self, n: int) -> None:
        self.up: Future[int] = Recursive(n - 1) if n else Const(0)

    def run_task(self) -> int:
        return self.up.get_result() + 1


class Iterative(Quick):
    def __init__(self, n: int, up: Future[int]) -> None:
        self.up = up

    def run_task(self) -> int:
        return self.up.get_result() + 1


class Leaf(Quick):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


class Sum(Quick):
    def __init__(self, count: int) -> None:
        self.parts = FutureList([Leaf(n) for n in range(count)])

    def run_task(self) -> int:
        return sum(self.parts.get_result())


class Weighs(concurrent.futures.Executor):
    """Does everything at once, and notes how large the payloads are."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.sizes.append(len(args[0]))
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture(autouse=True)
def _left_as_it_was(tmp_path: Path) -> Iterator[None]:
    before = sys.getrecursionlimit()
    yield
    assert sys.getrecursionlimit() == before
    shutil.rmtree(tmp_path)  # or the next test run would have 30,000 folders to remove


def test_a_chain_of_10000_defined_by_recursion_runs(cache: Cache) -> None:
    task = Recursive(COUNT)
    answer, stats = task.run_graph()
    assert answer == COUNT + 1
    assert stats["stats"] == {Recursive.task_name: COUNT + 1}
    assert task.run_graph()[1]["cached"] == {Recursive.task_name: COUNT + 1}


def test_a_chain_of_10000_made_in_a_loop_runs(cache: Cache) -> None:
    up: Future[int] = Const(0)
    for n in range(COUNT):
        up = Iterative(n, up)
    assert isinstance(up, Iterative)
    answer, stats = up.run_graph()
    assert answer == COUNT
    assert stats["stats"] == {Iterative.task_name: COUNT}


def test_a_fan_in_of_10000_runs(cache: Cache) -> None:
    answer, stats = Sum(COUNT).run_graph()
    assert answer == COUNT * (COUNT - 1) // 2
    assert stats["stats"] == {Leaf.task_name: COUNT, Sum.task_name: 1}


def test_a_failure_at_the_start_of_a_deep_chain_is_told_once(cache: Cache) -> None:
    class Bad(Quick):
        def run_task(self) -> int:
            raise ValueError("at the root")

    up: Future[int] = Bad()
    for n in range(1_000):
        up = Iterative(n, up)
    assert isinstance(up, Iterative)
    with pytest.raises(ExceptionGroup) as caught:
        up.run_graph(executor="serial", on_error="continue")
    assert len(caught.value.exceptions) == 1


def test_a_deep_chain_that_raises_while_it_is_constructed_raises_that_very_error(cache: Cache) -> None:
    class Deep(Quick):
        def __init__(self, n: int) -> None:
            if n == 0:
                raise ZeroDivisionError("at the bottom")
            self.up = Deep(n - 1)

        def run_task(self) -> None: ...

    with pytest.raises(ZeroDivisionError, match="at the bottom"):
        Deep(500)


def test_an_endless_construction_is_stopped_before_it_takes_all_memory(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Task):
        def __init__(self, n: int) -> None:
            self.next = Endless(n + 1)

        def run_task(self) -> None: ...

    monkeypatch.setattr("taskproc.engine.construction._DEEPEST", 200)
    with pytest.raises(TaskDefinitionError, match="200 deep"):
        Endless(0)


def test_a_long_circle_is_found_without_recursion(cache: Cache) -> None:
    class Ring(Quick):
        def __init__(self, n: int) -> None:
            self.up: Any = None

        def run_task(self) -> None: ...

    ring = [Ring(n) for n in range(3_000)]
    for one, two in zip(ring, ring[1:] + ring[:1], strict=True):
        one.up = two
    with pytest.raises(CycleError):
        ring[0].run_graph(executor="serial")


def test_a_payload_does_not_grow_with_the_graph(cache: Cache) -> None:
    most = []
    for count in (20, 200):
        executor = Weighs()
        up: Future[int] = Const(count)  # other tasks each time
        for n in range(count):
            up = Iterative(n, up)
        assert isinstance(up, Iterative)
        up.run_graph(executor=executor)
        assert len(executor.sizes) == count
        most.append(max(executor.sizes))
    assert most[1] <= most[0] * 1.05
    assert most[1] < 8_000


def test_a_payload_of_many_jobs_holds_what_they_share_once(cache: Cache) -> None:
    few, many = Weighs(), Weighs()
    Sum(2).run_graph(executor=few, max_workers=1)
    Leaf.clear_all_tasks()
    Sum(400).run_graph(executor=many, max_workers=1)
    assert sum(many.sizes) < 400 * 1_000 + sum(few.sizes)
