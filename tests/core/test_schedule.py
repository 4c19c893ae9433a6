"""The laws of the scheduler, on random graphs with random limits, failures and damage."""

from __future__ import annotations

import random
from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskproc.core.records import TaskKey
from taskproc.core.schedule import MAX_REOPENINGS, Scheduler
from taskproc.errors import RateLimitError

LANE = ""


def key(number: int) -> TaskKey:
    return TaskKey("m.T", f"{number:032x}")


class World:
    """A graph of tasks with labels, and an engine that answers a scheduler at random."""

    def __init__(self, seed: int, size: int, limits: dict[str, int], failing: float, damaging: float) -> None:
        self.random = random.Random(seed)
        self.upstreams = {
            key(n): [key(m) for m in self.random.sample(range(n), min(n, self.random.randrange(4)))]
            for n in range(size)
        }
        self.labels = {k: tuple(self.random.sample("abc", self.random.randrange(3))) for k in self.upstreams}
        self.limits = limits
        self.failing = failing
        self.damaging = damaging
        self.runs: Counter[TaskKey] = Counter()
        self.done: set[TaskKey] = set()
        self.failed: set[TaskKey] = set()
        self.running: list[TaskKey] = []
        self.reopened: Counter[TaskKey] = Counter()

    def scheduler(self, on_error: Literal["stop", "continue"]) -> Scheduler:
        return Scheduler(
            self.upstreams,
            upstreams_of=self.upstreams.__getitem__,
            labels_of=self.labels.__getitem__,
            lane_of=lambda _: LANE,
            rate_limits=self.limits,
            on_error=on_error,
        )

    def check_started(self, started: list[TaskKey], room: int) -> None:
        assert len(started) <= room
        for task in started:
            assert all(upstream in self.done for upstream in self.upstreams[task])
            assert task not in self.done
        self.running += started
        for label, limit in self.limits.items():
            assert sum(label in self.labels[task] for task in self.running) <= limit

    def answer(self, scheduler: Scheduler) -> None:
        task = self.running.pop(self.random.randrange(len(self.running)))
        fate = self.random.random()
        upstreams = self.upstreams[task]
        if fate < self.failing:
            self.failed.add(task)
            scheduler.failed(task)
        elif fate < self.failing + self.damaging and upstreams:
            broken = self.random.choice(upstreams)
            culprit = scheduler.damaged(task, [broken])
            if culprit is None:
                self.reopened[broken] += broken in self.done
                self.done.discard(broken)
            else:
                self.failed.add(task)
                scheduler.failed(task)
        elif fate < self.failing + self.damaging + 0.1:
            scheduler.returned(task)
        elif fate < self.failing + self.damaging + 0.2:
            scheduler.postponed(task)
            if self.random.random() < 0.5:
                scheduler.retry(task)
            else:
                self.done.add(task)
                scheduler.succeeded(task)
        else:
            self.runs[task] += 1
            self.done.add(task)
            scheduler.succeeded(task)

    def play(self, on_error: Literal["stop", "continue"]) -> None:
        scheduler = self.scheduler(on_error)
        for _ in range(20_000):
            if scheduler.finished:
                break
            room = self.random.randrange(1, 5)
            started = scheduler.ready({LANE: room})
            assert not (started and scheduler.stopped)
            assert not (started and self.failed and on_error == "stop")
            self.check_started(started, room)
            if self.running:
                self.answer(scheduler)
        assert scheduler.finished, "the loop ends"
        assert not self.running


limits = st.dictionaries(st.sampled_from("abc"), st.integers(1, 3))


@given(st.integers(0, 2**32), st.integers(1, 40), limits)
def test_each_stale_task_runs_exactly_once_when_nothing_goes_wrong(
    seed: int, size: int, limits: dict[str, int]
) -> None:
    world = World(seed, size, limits, failing=0.0, damaging=0.0)
    world.play("stop")
    assert world.done == set(world.upstreams)
    assert all(count == 1 for count in world.runs.values())


@given(st.integers(0, 2**32), st.integers(1, 40), limits)
def test_a_task_runs_again_only_after_its_result_was_found_damaged(
    seed: int, size: int, limits: dict[str, int]
) -> None:
    world = World(seed, size, limits, failing=0.0, damaging=0.15)
    world.play("continue")
    for task, count in world.runs.items():
        assert count <= 1 + world.reopened[task]
        assert world.reopened[task] <= MAX_REOPENINGS


@given(st.integers(0, 2**32), st.integers(1, 40), limits)
def test_nothing_starts_after_a_stopping_failure_and_running_tasks_finish(
    seed: int, size: int, limits: dict[str, int]
) -> None:
    World(seed, size, limits, failing=0.2, damaging=0.0).play("stop")


@given(st.integers(0, 2**32), st.integers(1, 40), limits)
def test_after_a_failure_everything_independent_of_it_still_runs(
    seed: int, size: int, limits: dict[str, int]
) -> None:
    world = World(seed, size, limits, failing=0.2, damaging=0.0)
    world.play("continue")
    blocked = set(world.failed)
    for task, upstreams in world.upstreams.items():
        if blocked.intersection(upstreams):
            blocked.add(task)
    assert world.done == set(world.upstreams) - blocked


@given(st.integers(0, 2**32), st.integers(1, 30), limits)
def test_the_loop_ends_whatever_fails_or_is_damaged(seed: int, size: int, limits: dict[str, int]) -> None:
    World(seed, size, limits, failing=0.1, damaging=0.2).play("continue")


def test_a_chain_of_100_000_needs_no_recursion_even_when_its_first_link_fails() -> None:
    upstreams = {key(n): [key(n - 1)] if n else [] for n in range(100_000)}
    scheduler = Scheduler(upstreams, upstreams.__getitem__, lambda _: (), lambda _: LANE, {}, "continue")
    (first,) = scheduler.ready({LANE: 10})
    scheduler.failed(first)
    assert scheduler.finished
    assert scheduler.status(key(99_999)) == "blocked"


def test_tasks_without_room_in_their_lane_do_not_hold_up_the_others() -> None:
    lanes = {key(0): "a", key(1): "b"}
    scheduler = Scheduler(lanes, lambda _: [], lambda _: (), lanes.__getitem__, {})
    assert scheduler.ready({"b": 1}) == [key(1)]
    assert scheduler.count_ready("a") == 1


def test_an_unlimited_task_starts_while_a_limited_one_waits_for_its_label() -> None:
    labels = {key(0): ("gpu",), key(1): ("gpu",), key(2): ()}
    scheduler = Scheduler(labels, lambda _: [], labels.__getitem__, lambda _: LANE, {"gpu": 1})
    assert scheduler.ready({LANE: 10}) == [key(0), key(2)]
    scheduler.succeeded(key(0))
    assert scheduler.ready({LANE: 10}) == [key(1)]


def test_a_result_damaged_again_and_again_is_given_up() -> None:
    upstreams = {key(0): [], key(1): [key(0)]}
    scheduler = Scheduler([key(1)], upstreams.__getitem__, lambda _: (), lambda _: LANE, {})
    for _ in range(MAX_REOPENINGS):
        assert scheduler.ready({LANE: 1}) == [key(1)]
        assert scheduler.damaged(key(1), [key(0)]) is None
        assert scheduler.ready({LANE: 1}) == [key(0)]
        scheduler.succeeded(key(0))
    assert scheduler.ready({LANE: 1}) == [key(1)]
    assert scheduler.damaged(key(1), [key(0)]) == key(0)


def test_the_root_can_be_reopened_after_the_run_has_ended() -> None:
    upstreams = {key(0): [], key(1): [key(0)]}
    scheduler = Scheduler([], upstreams.__getitem__, lambda _: (), lambda _: LANE, {})
    assert scheduler.finished
    assert scheduler.damaged(None, [key(1)]) is None
    assert not scheduler.finished
    assert scheduler.ready({LANE: 1}) == [key(1)]


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True, None])
def test_a_limit_that_is_no_positive_integer_is_refused(limit: object) -> None:
    with pytest.raises(RateLimitError, match="integer of 1 or more"):
        Scheduler([], lambda _: [], lambda _: (), lambda _: LANE, {"gpu": limit})  # type: ignore[dict-item]
