"""No task gets the answer of another: not by what one does to the other's objects, nor by a like name.

The arguments that look alike are in test_look_alike_arguments.py.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from taskproc import Cache, Const, FutureDict, FutureList, Task
from taskproc.errors import ArgumentError, TaskprocError


@dataclass
class Plain:
    n: int


# --- Mutable things ---


class Appends(Task):
    """Changes what it is given, and what it finds."""

    def __init__(self, given: list[int], up: Any = None, default: list[int] = []) -> None:  # noqa: B006
        given.append(1)
        default.append(2)
        self.given, self.up, self.default = given, up, default

    def run_task(self) -> Any:
        self.given.append(3)
        self.default.append(4)
        if self.up is not None:
            self.up.get_result().append(5)
        return self.given, self.default, self.up and self.up.get_result()


def test_mutable_defaults_and_arguments_start_afresh_for_every_task(cache: Cache) -> None:
    given = [0]
    for other in ([7], [8]):
        assert Appends(given).run_graph(executor="serial")[0] == ([0, 1, 3], [2, 4], None)
        assert Appends(other).run_graph(executor="serial")[0] == ([*other, 1, 3], [2, 4], None)
    assert given == [0]
    assert Appends([0]).run_graph(executor="serial", force=True)[0] == ([0, 1, 3], [2, 4], None)


class Gives(Task):
    def __init__(self, value: Any) -> None:
        self.value = value

    def run_task(self) -> Any:
        return self.value


class All(Task):
    def __init__(self, parts: Any) -> None:
        self.parts = FutureList(parts)

    def run_task(self) -> list[Any]:
        return self.parts.get_result()


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_a_task_that_changes_its_upstreams_result_changes_nobody_elses(cache: Cache, executor: str) -> None:
    up = Gives([0])
    tasks = [All([up]), Appends([1], up), All([up]), Appends([2], up), All([up])]
    answer, _ = All(tasks).run_graph(executor=executor, max_workers=1)
    assert answer[0] == answer[2] == answer[4] == [[0]]
    assert answer[1][0] == [1, 1, 3]
    assert answer[3][0] == [2, 1, 3]
    assert up.get_result() == [0]
    assert up.get_result() is not up.get_result()


def test_an_answer_changed_by_its_caller_stays_stored_as_it_was(cache: Cache) -> None:
    answer, _ = Gives([0]).run_graph(executor="serial")
    answer.append(1)
    assert Gives([0]).get_result() == [0]
    assert Gives([0]).run_graph(executor="serial")[0] == [0]


def test_a_result_that_is_the_tasks_own_attribute_is_a_copy_of_it(cache: Cache) -> None:
    task = Gives([0])
    answer, _ = task.run_graph(executor="serial")
    answer.append(1)
    assert task.value == [0]
    assert task.run_graph(executor="serial", force=True)[0] == [0]


@pytest.mark.parametrize("wrap", [lambda x: x, Const, lambda x: FutureList([Const(x)]), lambda x: Plain(x)])
def test_an_argument_changed_after_construction_changes_no_task(
    cache: Cache, wrap: Callable[[Any], Any]
) -> None:
    values: list[int] = [1]
    task = Gives(wrap(values))
    values.append(2)
    stored = task.run_graph(executor="serial")[0]
    plain = stored.get_result() if hasattr(stored, "get_result") else getattr(stored, "n", stored)
    assert plain in ([1], [[1]])
    assert Gives(wrap([1])) is task
    assert Gives(wrap([1, 2])) is not task


SHARED: list[int] = []


class Spoils(Task):
    """Changes an object of the module in place, as a careless task may."""

    def run_task(self) -> None:
        SHARED.append(1)


class Holds(Task):
    def __init__(self) -> None:
        self.first = Spoils()
        self.shared = SHARED

    def run_task(self) -> list[int]:
        return self.shared


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_an_attribute_that_another_task_changed_in_place_is_recorded_as_the_task_got_it(
    tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process a task may spoil what another one holds; then no later run takes its answer."""
    for _ in range(2):
        monkeypatch.setattr(f"{__name__}.SHARED", [])
        with Cache(tmp_path / "cache"):
            spoilt = Holds().run_graph(executor=executor)[0]
    assert spoilt == []  # the second time nothing was there to spoil it


# --- Names ---


def make(offset: int) -> Callable[[int], Any]:
    class Local(Task):
        def __init__(self, n: int) -> None:
            self.n = n

        def run_task(self) -> int:
            return self.n + offset

    return Local


def test_classes_of_one_name_never_take_each_others_answer(cache: Cache) -> None:
    one, two = make(10), make(20)
    for _ in range(2):
        assert one(1).run_graph(executor="serial")[0] == 11
        assert two(1).run_graph(executor="serial")[0] == 21


def test_classes_of_one_name_never_take_each_others_place_below_a_downstream(cache: Cache) -> None:
    one, two = make(10), make(20)
    answers = []
    for kind in (one, two, one):
        try:
            answers.append(All([kind(1)]).run_graph(executor="serial")[0])
        except TaskprocError as error:
            answers.append(str(error))
    assert answers[0] == [11]
    assert answers[1] == [21] or "Local" in answers[1]
    assert answers[2] == [11] or "Local" in answers[2]
    try:
        both: Any = All([one(1), two(1)]).run_graph(executor="serial")[0]
    except TaskprocError as error:
        both = str(error)
    assert both == [11, 21] or "Local" in both


class Total(FutureList[int]):
    def get_result(self) -> Any:
        return sum(super().get_result())


class Names(FutureDict[str, int]):
    def get_result(self) -> Any:
        return sorted(super().get_result())


class Doubled(Const[int]):
    def get_result(self) -> int:
        return self.value * 2


class Value(Task):
    def __init__(self, future: Any) -> None:
        self.future = future

    def run_task(self) -> Any:
        return self.future.get_result()


@pytest.mark.parametrize(
    ("plain", "special"),
    [
        (lambda: FutureList([Gives(1), Gives(2)]), lambda: Total([Gives(1), Gives(2)])),
        (lambda: FutureDict(a=Gives(1)), lambda: Names(a=Gives(1))),
        (lambda: Const(3), lambda: Doubled(3)),
        (lambda: FutureList([FutureList([Gives(1)])]), lambda: FutureList([Total([Gives(1)])])),
    ],
    ids=["list", "dict", "const", "inside"],
)
def test_a_future_of_a_subclass_is_not_taken_for_one_of_its_base(
    cache: Cache, plain: Callable[[], Any], special: Callable[[], Any]
) -> None:
    for make in (plain, special, plain):
        task = Value(make())
        answer, _ = task.run_graph(executor="serial")
        assert answer == make().get_result()
    assert Value(plain()) is not Value(special())


def local_dataclass(factor: int) -> Any:
    @dataclass
    class Local:
        n: int

        def value(self) -> int:
            return self.n * factor

    return Local(1)


def local_namedtuple(factor: int) -> Any:
    class Local(NamedTuple):
        n: int

        def value(self) -> int:
            return self.n * factor

    return Local(1)


def local_enum(factor: int) -> Any:
    class Local(enum.Enum):
        A = factor

    return Local.A


def local_subclass(factor: int) -> Any:
    class Local(int):
        def value(self) -> int:
            return self * factor

    return Local(1)


def local_object(factor: int) -> Any:
    class Local:
        __task_args__ = (1,)

        def value(self) -> int:
            return factor

    return Local()


def local_future(factor: int) -> Any:
    class Local:
        def value(self) -> int:
            return factor

        def get_result(self) -> int:
            return factor

        def get_upstreams(self) -> tuple[()]:
            return ()

        def to_json(self) -> dict[str, Any]:
            return {}

    return Local()


class Asks(Task):
    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def run_task(self) -> Any:
        value = self.thing.value
        return value() if callable(value) else value


@pytest.mark.parametrize(
    "made", [local_dataclass, local_namedtuple, local_enum, local_subclass, local_object, local_future]
)
def test_an_object_of_a_class_made_in_a_function_is_not_taken_for_one_of_the_next_such_class(
    cache: Cache, made: Callable[[int], Any]
) -> None:
    for factor in (2, 3, 2):
        try:
            task = Asks(made(factor))
        except ArgumentError:
            continue  # refused: no wrong answer in that
        assert task.run_graph(executor="serial")[0] == factor
    for factor in (2, 3):
        with Cache(Path(cache.location)), contextlib.suppress(ArgumentError):
            assert Asks(made(factor)).run_graph(executor="serial")[0] == factor


def test_names_that_differ_by_case_only_are_two_tasks(cache: Cache) -> None:
    class job(Task):
        def run_task(self) -> str:
            return "lower"

    class Job(Task):
        def run_task(self) -> str:
            return "upper"

    for _ in range(2):
        assert job().run_graph(executor="serial")[0] == "lower"
        assert Job().run_graph(executor="serial")[0] == "upper"
    assert All([job(), Job()]).run_graph(executor="serial")[0] == ["lower", "upper"]
