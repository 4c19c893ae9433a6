"""Arguments keep their types: told apart by the key, and in `run_task` what they were."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import attrs
import numpy as np
import pydantic
import pytest

from taskproc import Cache, FutureList, Task
from taskproc.errors import ArgumentError

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Options:
    rate: float
    names: tuple[str, ...]


@attrs.frozen
class Shape:
    sides: int


class Model(pydantic.BaseModel):
    depth: int


class Own:
    def __init__(self, n: int) -> None:
        self.n = n

    @property
    def __task_args__(self) -> list[int]:
        return [self.n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


class Foreign:
    pass


def named(x: int) -> int:
    return x + 1


class Echo(Task):
    def __init__(self, value: Any) -> None:
        self.value = value

    def run_task(self) -> Any:
        return self.value


class All(Task):
    def __init__(self, parts: Any) -> None:
        self.parts = FutureList(parts)

    def run_task(self) -> list[Any]:
        return self.parts.get_result()


VALUES: list[Any] = [
    None, True, 1, 1.0, "1", 1 + 0j, b"1", -0.0, 0.0, math.inf, 10**30, "ä\ud800",
    [1, 2], (1, 2), {1, 2}, frozenset({1, 2}), [1.0, 2], [[1, 2]], ([1], 2), Point(1, 2), [], (), {},
    {1: "a"}, {"1": "a"}, {True: "a"}, {(1, 2): [3]}, {"__tuple__": [1, 2]}, OrderedDict(a=1), range(3),
    Colour.RED, Options(0.5, ("a",)), Shape(3), Model(depth=2), Own(3), Echo, named, len,
    pathlib.Path("a/b"), pathlib.PurePosixPath("a/b"), decimal.Decimal("1.0"), decimal.Decimal("1.00"),
    uuid.UUID(int=5), datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2),
    datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(days=1),
    np.float32(1), np.float64(1), np.int64(1),
]  # fmt: skip


def test_arguments_come_back_as_they_were_with_their_types(cache: Cache) -> None:
    got, _ = All([Echo(value) for value in VALUES]).run_graph(max_workers=2)
    for value, back in zip(VALUES, got, strict=True):
        assert type(back) is type(value)
        assert back == value
        assert repr(back) == repr(value) or isinstance(value, Own | set | frozenset)


def test_arguments_of_different_type_or_value_are_different_tasks(cache: Cache) -> None:
    assert len({Echo(value).task_id for value in VALUES}) == len(VALUES)


def test_nan_arrays_and_functions_without_a_name_come_back(cache: Cache) -> None:
    offset = 3
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    got, _ = All([Echo(math.nan), Echo(array), Echo(lambda x: x + offset)]).run_graph(max_workers=1)
    assert math.isnan(got[0])
    assert got[1].dtype == np.int16
    assert (got[1] == array).all()
    assert got[2](4) == 7
    assert Echo(math.nan) is Echo(float("nan"))
    assert Echo(array) is Echo(array.copy())
    assert Echo(array) is not Echo(array.astype(np.int32))
    assert Echo(lambda x: x + 1) is not Echo(lambda x: x + 2)


def test_equal_arguments_of_equal_types_are_one_task(cache: Cache) -> None:
    assert Echo({"a": 1, "b": 2}) is Echo({"b": 2, "a": 1})
    assert Echo({3, 1, 2}) is Echo({1, 2, 3})
    assert Echo(Options(0.5, ("a",))) is Echo(Options(0.5, ("a",)))
    assert Echo(Model(depth=2)) is Echo(Model(depth=2))
    assert Echo(Own(3)) is Echo(Own(3))


def test_a_list_changed_after_construction_changes_no_task(cache: Cache) -> None:
    values = [1]
    task = Echo(values)
    values.append(2)
    assert task.run_graph(executor="serial")[0] == [1]
    assert Echo([1]) is task
    assert Echo([1, 2]) is not task


def test_an_init_that_changes_its_argument_changes_nobody_elses(cache: Cache) -> None:
    class Eats(Task):
        def __init__(self, values: list[int]) -> None:
            values.append(9)
            self.values = values

        def run_task(self) -> list[int]:
            return self.values

    mine = [1]
    task = Eats(mine)
    assert mine == [1]
    assert Eats([1]) is task
    assert task.task_args == {"values": [1]}
    assert task.run_graph(executor="serial")[0] == [1, 9]


def test_task_args_is_plain_json(cache: Cache) -> None:
    class Choose(Task):
        def __init__(self, n: int, k: int = 3) -> None: ...

        def run_task(self) -> None: ...

    assert Choose(6).task_args == {"n": 6, "k": 3}
    assert Echo((1, [2])).task_args == {"value": {"__tuple__": [1, [2]]}}
    inner = Echo(1)
    assert Echo(inner).task_args == {"value": inner.to_json()}
    assert Echo(Echo(inner)).task_args == {"value": Echo(inner).to_json()}  # never nested
    for value in VALUES:
        assert json.loads(json.dumps(Echo(value).task_args)) == Echo(value).task_args


def test_an_unsupported_argument_names_class_parameter_and_path_and_two_ways_out(cache: Cache) -> None:
    with pytest.raises(TypeError) as caught:
        Echo({"a": [1, Foreign()]})
    text = str(caught.value)
    for part in ("Echo(value=...)", "['a'][1]", "Foreign", "dataclass", "output of a task"):
        assert part in text
    assert isinstance(caught.value, ArgumentError)


def test_arguments_that_do_not_fit_name_the_task_and_its_signature(cache: Cache) -> None:
    for args, kwargs, fault in [
        ((), {}, "missing"),
        ((1, 2), {}, "too many"),
        ((1,), {"valeu": 2}, "valeu"),
    ]:
        with pytest.raises(TypeError, match=rf"Echo: .*{fault}.*signature is .*Echo\(value"):
            Echo(*args, **kwargs)
