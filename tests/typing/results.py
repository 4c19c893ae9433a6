# pyright: reportUnnecessaryTypeIgnoreComment=true
"""What mypy --strict and pyright must know of a task's result. Not run, only checked.

A line with `type: ignore` must be an error: both checkers are told to complain about an
ignore comment that is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, assert_type

from taskproc import Cache, Const, Future, FutureDict, FutureList, InputFile, Task
from taskproc.core.future import Item
from taskproc.core.records import Explanation, Plan, Record

T = TypeVar("T")


class Choose(Task):
    left: Future[int]
    right: Future[int]

    def __init__(self, n: int, k: int) -> None:
        if 0 < k < n:
            self.left = Choose(n - 1, k - 1)
            self.right = Choose(n - 1, k)
        else:
            self.left = Const(0)
            self.right = Const(1)

    def run_task(self) -> int:
        return self.left.get_result() + self.right.get_result()


class Inferred(Task):
    """The published style: upstreams without annotations."""

    def __init__(self) -> None:
        self.composed = Takes(upstream=Choose(6, 3))

    def run_task(self) -> str:
        return self.composed.get_result().upper()


class Takes(Task):
    def __init__(self, upstream: Future[int]) -> None:
        self.upstream = upstream
        self.scores = FutureList([Choose(n, 0) for n in range(10)])
        self.by_name = FutureDict({"a": Choose(1, 0)})

    def run_task(self) -> str:
        assert_type(self.upstream.get_result(), int)
        assert_type(self.scores.get_result(), list[int])
        assert_type(self.by_name.get_result(), dict[str, int])
        return str(sum(self.by_name.get_result().values()) / len(self.scores))


class Multi(Task):
    def run_task(self) -> dict[str, list[int]]:
        return {"foo": [42]}


class Pair(Task):
    def run_task(self) -> tuple[int, str]:
        return (1, "a")


class Six(Task):
    def run_task(self) -> tuple[int, str, bytes, float, bool, None]:
        return (1, "a", b"", 0.0, True, None)


class Many(Task):
    def run_task(self) -> tuple[int, ...]:
        return (1, 2)


class Named(NamedTuple):
    first: int
    second: str


class Gives(Task):
    def run_task(self) -> Named:
        return Named(1, "a")


@dataclass
class Configured(Task):
    n: int
    upstream: Future[int]

    def run_task(self) -> int:
        return self.n


class Wrap(Task, Generic[T]):
    def __init__(self, wrapped: Future[T]) -> None:
        self.wrapped = wrapped

    def run_task(self) -> list[T]:
        return [self.wrapped.get_result()]


class Grid:
    """Neither a mapping nor a sequence, as an array is."""

    def __getitem__(self, key: tuple[int, int]) -> float:
        return 0.0


class MakesGrid(Task):
    def run_task(self) -> Grid:
        return Grid()


class Number:
    """A Future of somebody else's."""

    def get_result(self) -> int:
        return 1

    def to_json(self) -> dict[str, Any]:
        return {}

    def get_upstreams(self) -> list[Task]:
        return []


def want_int(future: Future[int]) -> None: ...
def want_object(future: Future[object]) -> None: ...
def want_str(future: Future[str]) -> None: ...
def want_list(future: Future[Sequence[int]]) -> None: ...
def want_dict(future: Future[Mapping[str, int]]) -> None: ...


# A task is a Future of what its run_task returns.
want_int(Choose(6, 3))
want_object(Choose(6, 3))
want_str(Choose(6, 3))  # type: ignore[arg-type]
want_int(Const(1))
want_str(Const(1))  # type: ignore[arg-type]
want_int(Number())
want_str(Number())  # type: ignore[arg-type]
want_str(Inferred())
want_int(1)  # type: ignore[arg-type]
Takes(Choose(6, 3))
Takes(Inferred())  # type: ignore[arg-type]

assert_type(Choose(6, 3).get_result(), int)
assert_type(Choose(6, 3).run_graph()[0], int)
assert_type(Choose(6, 3).run_graph()[1]["stats"], dict[str, int])
assert_type(Multi().run_graph()[0], dict[str, list[int]])
assert_type(Choose.task_name, str)
assert_type(Choose(6, 3).task_id, int)

want_int(Configured(1, Const(2)))
Configured(1, Const("x"))  # type: ignore[arg-type]
assert_type(Wrap(Choose(6, 3)).get_result(), list[int])
assert_type(Wrap(Choose(6, 3))[0], Item[int])

# What is asked without running anything.
assert_type(Choose(6, 3).plan(code="class"), Plan)
assert_type(Choose(6, 3).plan().run_counts, dict[str, int])
assert_type(Choose(6, 3).why(), Explanation)
assert_type(Choose(6, 3).is_cached(), bool)
assert_type(Choose(6, 3).get_record(), Record | None)
assert_type(Choose(6, 3).get_arguments(), dict[str, Any])
Choose(6, 3).plan(code="some")  # type: ignore[arg-type]
with Cache("cache") as cache:
    cache.put(Choose(6, 3), 20)
    for choose in cache.tasks(Choose):
        assert_type(choose, Choose)
        assert_type(choose.get_result(), int)
    cache.tasks(int)  # type: ignore[type-var]


# Input files.
def want_path(future: Future[Path]) -> None: ...


want_path(InputFile("data.txt"))
want_path(InputFile(Path("data.txt")))
want_str(InputFile("data.txt"))  # type: ignore[arg-type]
InputFile(3)  # type: ignore[arg-type]
assert_type(InputFile("data.txt").get_result(), Path)
assert_type(FutureList([InputFile("data.txt")]).get_result(), list[Path])

# Items.
assert_type(Multi()["foo"], Item[list[int]])
assert_type(Multi()["foo"][0], Item[int])
assert_type(Multi()["foo"][0].get_result(), int)
assert_type(Pair()[0], Item[int])
assert_type(Pair()[1], Item[str])
assert_type(Six()[0], Item[int])
assert_type(Six()[2], Item[bytes])
assert_type(Six()[5], Item[None])
assert_type(Many()[1], Item[int])
assert_type(Gives()[1], Item[str])
assert_type(Const({"a": 1})["a"], Item[int])
assert_type(Const([1])[0:1].get_result(), Sequence[int])
assert_type(MakesGrid()[0, 1], Item[float])
want_int(Pair()[0])
want_int(Pair()[1])  # type: ignore[arg-type]
Multi()[0]  # type: ignore[call-overload]
Choose(6, 3)[0]  # type: ignore[misc]
for _ in Multi():  # type: ignore[misc]
    pass

# Lists and dicts of Futures.
futures = FutureList([Choose(n, 0) for n in range(10)])
assert_type(futures.get_result(), list[int])
assert_type(futures[0].get_result(), int)
futures.append(Const(3))
futures.append(Const("x"))  # type: ignore[arg-type]
want_list(futures)
assert_type(futures[1:], FutureList[int])
assert_type(futures + FutureList([Const("x")]), FutureList[int | str])
assert_type(futures.copy().get_result(), list[int])
assert_type(FutureDict({"a": Const(1)}) | FutureDict(b=Const("x")), FutureDict[str, int | str])
want_dict(FutureDict({"a": Choose(1, 0)}))
mixed: FutureList[int] = FutureList([Choose(1, 0), Const(3), Number()])
nested = FutureDict({"a": FutureList([Choose(1, 0)])})
assert_type(nested.get_result(), dict[str, list[int]])
