"""Futures, wherever a task keeps them, are its upstreams; in `run_task` their values are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from taskproc import Cache, Const, Future, FutureDict, FutureList, Task
from taskproc.errors import ArgumentError, CycleError, FailedTaskError, MissingItemError


class Number(Task):
    def __init__(self, n: int) -> None:
        self.n = n

    def run_task(self) -> int:
        return self.n


class Multi(Task):
    def run_task(self) -> dict[str | int, Any]:
        return {"foo": [1, 2, 3], "deep": {"a": (10, 20)}, 7: "seven"}


class Keeps(Task):
    """Keeps Futures in plain containers."""

    def __init__(self) -> None:
        self.in_list = [Number(1), [Number(2)]]
        self.in_dict = {"a": Number(3), "b": {"c": Number(4)}}
        self.in_tuple = (Number(5), "x")
        self.in_set = {Number(6)}
        self._hidden = Number(7)

    def run_task(self) -> list[int]:
        (member,) = self.in_set
        inner: Any = self.in_list[1]
        other: Any = self.in_dict["b"]
        first: Any = self.in_list[0]
        third: Any = self.in_dict["a"]
        tasks = [first, inner[0], third, other["c"], self.in_tuple[0], member, self._hidden]
        return [task.get_result() for task in tasks]


class Reads(Task):
    """Gives back the value of any Future."""

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def run_task(self) -> Any:
        return self.future.get_result()


class Takes(Task):
    """Takes containers of Futures as arguments."""

    def __init__(self, tasks: list[Future[int]], named: dict[str, Any]) -> None:
        self.tasks = tasks
        self.named = named

    def run_task(self) -> Any:
        return [task.get_result() for task in self.tasks], self.named["deep"][0].get_result()


class Doubled:
    """A Future of a stranger: no base class, three methods."""

    def __init__(self, of: Future[int]) -> None:
        self.of = of

    def get_result(self) -> int:
        return 2 * self.of.get_result()

    def to_json(self) -> dict[str, Any]:
        return {"doubled": self.of.to_json()}

    def get_upstreams(self) -> Iterable[Task]:
        return self.of.get_upstreams()


@dataclass
class Pair:
    first: Future[int]
    second: Future[int]


class TakesPair(Task):
    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def run_task(self) -> int:
        return self.pair.first.get_result() + self.pair.second.get_result()


def answer(task: Task) -> Any:
    return task.run_graph(max_workers=2)[0]


def test_a_future_in_a_plain_list_dict_tuple_or_set_attribute_is_an_upstream(cache: Cache) -> None:
    task = Keeps()
    assert task.plan().run_counts == {Number.task_name: 7, Keeps.task_name: 1}
    assert answer(task) == [1, 2, 3, 4, 5, 6, 7]


def test_futures_inside_lists_and_dicts_in_arguments_are_upstreams(cache: Cache) -> None:
    task = Takes([Number(1), Number(2)], {"deep": [Number(3)], "plain": 4})
    assert answer(task) == ([1, 2], 3)
    assert task is Takes([Number(1), Number(2)], {"deep": [Number(3)], "plain": 4})
    assert task is not Takes([Number(2), Number(1)], {"deep": [Number(3)], "plain": 4})


def test_a_future_in_a_field_of_a_dataclass_is_an_upstream(cache: Cache) -> None:
    assert answer(TakesPair(Pair(Number(3), Const(4)))) == 7


def test_anyones_class_with_the_three_methods_is_a_future(cache: Cache) -> None:
    assert isinstance(Doubled(Const(1)), Future)
    task = Reads(Doubled(Number(21)))
    assert task is Reads(Doubled(Number(21)))
    assert task is not Reads(Doubled(Number(22)))
    assert answer(task) == 42
    assert answer(Reads(FutureList([Doubled(Const(4)), Doubled(Doubled(Number(2)))]))) == [8, 8]


def test_future_lists_and_dicts_nest_as_one_likes(cache: Cache) -> None:
    inner: FutureDict[int, int] = FutureDict({0: Number(2)})
    members: dict[Any, Future[Any]] = {
        "a": FutureList[Any]([Number(1), inner]),
        "b": FutureList[Any]([]),
        3: Const("c"),
    }
    nested = FutureDict(members)
    assert answer(Reads(nested)) == {"a": [1, {0: 2}], "b": [], 3: "c"}


def test_a_future_list_is_a_list_and_a_future_dict_a_dict(cache: Cache) -> None:
    many: FutureList[int] = FutureList([Number(1)])
    many.append(Number(2))
    assert len(many) == 2
    assert list(many) == [Number(1), Number(2)]
    named: FutureDict[str, int] = FutureDict({"a": Number(1)})
    named["b"] = Number(2)
    assert len(named) == 2
    assert list(named) == ["a", "b"]
    assert answer(Reads(many)) == [1, 2]
    assert answer(Reads(named)) == {"a": 1, "b": 2}
    assert many.get_result() == [1, 2]
    assert isinstance(many, list)
    assert isinstance(named, dict)


def test_what_is_appended_to_an_attribute_in_init_is_an_upstream(cache: Cache) -> None:
    class Grows(Task):
        def __init__(self) -> None:
            self.parts: FutureList[int] = FutureList()
            for n in range(5):
                self.parts.append(Number(n))

        def run_task(self) -> int:
            return sum(self.parts.get_result())

    assert answer(Grows()) == 10


def test_any_future_can_be_indexed_and_its_items_too(cache: Cache) -> None:
    assert answer(Reads(Multi()["foo"][1])) == 2
    assert answer(Reads(Multi()["deep"]["a"][0])) == 10
    assert answer(Reads(Multi()[7])) == "seven"
    assert answer(Reads(Multi()["foo"][1:])) == [2, 3]
    assert answer(Reads(Const([5, 6])[1])) == 6
    assert answer(Reads(FutureList([Multi()["foo"]]))) == [[1, 2, 3]]
    assert answer(Reads(Doubled(Multi()["foo"][2]))) == 6
    assert Reads(Multi()["foo"]) is not Reads(Multi()["deep"])
    assert Multi()["foo"][0].get_result() == 1


def test_indexing_needs_nothing_of_the_whole_but_one_run(cache: Cache) -> None:
    class Two(Task):
        def __init__(self) -> None:
            self.one = Multi()["foo"]
            self.two = Multi()["deep"]

        def run_task(self) -> int:
            return len(self.one.get_result()) + len(self.two.get_result())

    _, stats = Two().run_graph(max_workers=1)
    assert stats["stats"][Multi.task_name] == 1


def test_a_missing_item_names_task_and_key(cache: Cache) -> None:
    with pytest.raises(FailedTaskError) as caught:
        answer(Reads(Multi()["fooo"]))
    assert "Multi() has no item 'fooo'" in str(caught.value)
    assert "'foo'" in str(caught.value)  # what there is instead
    assert isinstance(caught.value.__cause__, MissingItemError)
    assert caught.value.task_name == Reads.task_name


def test_a_member_that_is_no_future_is_an_error_that_names_its_place() -> None:
    with pytest.raises(ArgumentError, match=r"FutureList\[1\].*Const\(value\)"):
        FutureList[Any]([Const(1), 2])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match=r"FutureDict\['b'\]"):
        FutureDict[str, Any]({"a": Const(1), "b": 2})  # type: ignore[arg-type]


def test_a_const_is_an_upstream_that_runs_nothing(cache: Cache) -> None:
    task = Reads(Const({"a": (1, 2)}))
    answered, stats = task.run_graph(max_workers=1)
    assert answered == {"a": (1, 2)}
    assert stats["stats"] == {Reads.task_name: 1}


def test_each_get_result_loads_anew(cache: Cache) -> None:
    class Changes(Task):
        def __init__(self) -> None:
            self.up = Multi()

        def run_task(self) -> list[int]:
            self.up.get_result()["foo"].append(99)
            return list(self.up.get_result()["foo"])

    assert answer(Changes()) == [1, 2, 3]
    assert Multi().get_result() is not Multi().get_result()


def test_in_a_job_an_upstream_is_of_its_own_class_with_its_attributes(cache: Cache) -> None:
    class Looks(Task):
        def __init__(self) -> None:
            self.up = Number(3)

        def run_task(self) -> Any:
            return isinstance(self.up, Number), self.up.n, self.up.task_args, self.up.task_name

    assert answer(Looks()) == (True, 3, {"n": 3}, Number.task_name)


def test_tasks_that_wait_for_each_other_are_named_in_order(cache: Cache) -> None:
    class Ring(Task):
        def __init__(self, n: int) -> None:
            self.up: Any = None

        def run_task(self) -> int:
            return 1

    one, two, three = Ring(1), Ring(2), Ring(3)
    one.up, two.up, three.up = two, three, one
    for call in (one.plan, one.run_graph):
        with pytest.raises(
            CycleError, match=r"Ring\(n=1\) -> .*Ring\(n=2\) -> .*Ring\(n=3\) -> .*Ring\(n=1\)"
        ):
            call()


def test_a_task_that_constructs_itself_is_a_cycle_too(cache: Cache) -> None:
    class Endless(Task):
        def __init__(self, n: int) -> None:
            self.up = Endless(1 - n)

        def run_task(self) -> int:
            return 1

    with pytest.raises(CycleError, match=r"Endless\(n=0\) -> .*Endless\(n=1\) -> .*Endless\(n=0\)"):
        Endless(0)
