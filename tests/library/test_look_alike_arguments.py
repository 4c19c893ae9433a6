"""Arguments that look alike, and are not the same, make tasks with answers of their own.

Whatever two arguments have one key must be one and the same to `run_task`, or the answer
would depend on who asked first.
"""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import enum
import fractions
import functools
import itertools
import math
import operator
import pathlib
import unicodedata
import zoneinfo
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pydantic
import pytest

from taskproc import Cache, Const, FutureDict, FutureList, Task
from taskproc.errors import ArgumentError


class Pair(NamedTuple):
    x: int
    y: int


class Couple(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Other(enum.IntEnum):
    LOW = 1


class Word(str):
    pass


class Count(int):
    pass


@dataclass
class Derived:
    """Its second argument is no field, but leaves its mark on the object."""

    n: int
    factor: InitVar[int] = 1
    more: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self, factor: int) -> None:
        self.scaled = self.n * factor


@attrs.define(slots=False)
class Marked:
    n: int

    def mark(self, with_what: int) -> Marked:
        self.mark_ = with_what
        return self


class Open(pydantic.BaseModel, extra="allow"):
    n: int


@dataclass
class Plain:
    n: int


def marked(thing: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


def appends(value: Any) -> Any:
    """What a task may do to its argument; tells whether one object stands in two places."""
    value[0].append(9)
    return value


def look(value: Any) -> Any:
    """All that code may find out of a value, as plain as can be."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.strides, value.tobytes(), value.flags.writeable
    if isinstance(value, list | tuple) and value and all(isinstance(part, list) for part in value):
        return repr(appends(value))
    if isinstance(value, dict):
        items = [(repr(key), repr(item)) for key, item in value.items()]
        return type(value).__name__, items, getattr(value, "default_factory", None)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, int) and abs(value) > 10**100:
        return hex(value)
    attributes = sorted(getattr(value, "__dict__", {}).items(), key=repr)
    return type(value).__name__, repr(value), attributes, getattr(value, "fold", None)


class Look(Task):
    def __init__(self, value: Any) -> None:
        self.value = value

    def run_task(self) -> Any:
        return look(self.value)


ONE_LIST = [1]
UTC = datetime.UTC
NOON = datetime.datetime(2024, 1, 2, 12, tzinfo=UTC)
PARIS = zoneinfo.ZoneInfo("Europe/Paris")

# Pairs that a careless key takes for one: either they are two tasks, or nobody can tell them apart.
PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "tuple, list": (lambda: (1, 2), lambda: [1, 2]),
    "keys of a dict": (lambda: {1: "a"}, lambda: {"1": "a"}),
    "a dict, its items": (lambda: {"a": 1}, lambda: [("a", 1)]),
    "namedtuple, tuple": (lambda: Pair(1, 2), lambda: (1, 2)),
    "two namedtuples": (lambda: Pair(1, 2), lambda: Couple(1, 2)),
    "enum, value": (lambda: Colour.RED, lambda: 1),
    "int enum, value": (lambda: Level.LOW, lambda: 1),
    "two enums": (lambda: Level.LOW, lambda: Other.LOW),
    "enum, its name": (lambda: Colour.RED, lambda: "RED"),
    "true, one": (lambda: True, lambda: 1),
    "one, one point zero": (lambda: 1, lambda: 1.0),
    "true deep inside": (lambda: {"a": [True]}, lambda: {"a": [1]}),
    "true as a key": (lambda: {True: "a"}, lambda: {1: "a"}),
    "minus zero": (lambda: 0.0, lambda: -0.0),
    "minus zero in a list": (lambda: [0.0], lambda: [-0.0]),
    "minus zero in a set": (lambda: {0.0}, lambda: {-0.0}),
    "minus zero in a complex": (lambda: complex(0.0, -0.0), lambda: complex(0.0, 0.0)),
    "minus zero in an array": (lambda: np.array([0.0]), lambda: np.array([-0.0])),
    "infinities": (lambda: math.inf, lambda: -math.inf),
    "nan, its text": (lambda: math.nan, lambda: "nan"),
    "neighbours": (lambda: 0.1 + 0.2, lambda: 0.3),
    "the smallest float, zero": (lambda: 5e-324, lambda: 0.0),
    "two large floats": (lambda: 1e16, lambda: 1e16 + 2),
    "a float beyond the integers": (lambda: float(2**53), lambda: 2**53),
    "two very large integers": (lambda: 10**5000, lambda: 10**5000 + 1),
    "a very large integer, its text": (lambda: 10**1000, lambda: str(10**1000)),
    "an integer that no float holds": (lambda: 2**53, lambda: 2**53 + 1),
    "none, its text": (lambda: None, lambda: "None"),
    "text, bytes": (lambda: "a", lambda: b"a"),
    "bytes, bytearray": (lambda: b"a", lambda: bytearray(b"a")),
    "set, frozenset": (lambda: {1}, lambda: frozenset({1})),
    "set of one, of true": (lambda: {1}, lambda: {True}),
    "set, list": (lambda: {1, 2}, lambda: [1, 2]),
    "composed, decomposed": (lambda: "\u00e9", lambda: "e\u0301"),
    "composed, decomposed keys": (lambda: {"\u00e9": 1}, lambda: {"e\u0301": 1}),
    "two letters of one look": (lambda: "A", lambda: "\u0391"),
    "upper, lower": (lambda: "a", lambda: "A"),
    "surrogates": (lambda: "\ud83d\ude00", lambda: "\U0001f600"),
    "a subclass of str": (lambda: Word("a"), lambda: "a"),
    "a subclass of int": (lambda: Count(1), lambda: 1),
    "a subclass with an attribute": (lambda: marked(Count(1), unit="m"), lambda: Count(1)),
    "decimals": (lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal("1.00")),
    "decimal, float": (lambda: decimal.Decimal("0.5"), lambda: 0.5),
    "fraction, float": (lambda: fractions.Fraction(1, 2), lambda: 0.5),
    "equal instants": (lambda: NOON, lambda: NOON.astimezone(PARIS)),
    "with a zone, without": (lambda: NOON, lambda: NOON.replace(tzinfo=None)),
    "two zones of one offset": (
        lambda: NOON.astimezone(PARIS),
        lambda: NOON.astimezone(datetime.timezone(datetime.timedelta(hours=1))),
    ),
    "the hour that comes twice": (
        lambda: datetime.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS),
        lambda: datetime.datetime(2024, 10, 27, 2, 30, tzinfo=PARIS, fold=1),
    ),
    "fold without a zone": (
        lambda: datetime.datetime(2024, 1, 2),
        lambda: datetime.datetime(2024, 1, 2, fold=1),
    ),
    "date, datetime": (lambda: datetime.date(2024, 1, 2), lambda: datetime.datetime(2024, 1, 2)),
    "path, text": (lambda: pathlib.Path("a"), lambda: "a"),
    "paths that are written otherwise": (lambda: pathlib.Path("a/b"), lambda: pathlib.Path("a//./b")),
    "paths that lead to one place": (lambda: pathlib.Path("b"), lambda: pathlib.Path("a/../b")),
    "path, pure path": (lambda: pathlib.Path("a"), lambda: pathlib.PurePosixPath("a")),
    "ranges of equal members": (lambda: range(0, 3, 2), lambda: range(0, 4, 2)),
    "range, list": (lambda: range(2), lambda: [0, 1]),
    "a class, its name": (lambda: Plain, lambda: "Plain"),
    "an object, its fields": (lambda: Plain(1), lambda: {"n": 1}),
    "counters": (lambda: collections.Counter(a=1, b=0), lambda: collections.Counter(a=1)),
    "order of an OrderedDict": (
        lambda: collections.OrderedDict(a=1, b=2),
        lambda: collections.OrderedDict(b=2, a=1),
    ),
    "default of a defaultdict": (
        lambda: collections.defaultdict(int, a=1),
        lambda: collections.defaultdict(list, a=1),
    ),
    "order of a dict": (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    "order of a dict of integers": (lambda: {1: 1, 2: 2}, lambda: {2: 2, 1: 1}),
    "order of a Counter": (lambda: collections.Counter(a=1, b=2), lambda: collections.Counter(b=2, a=1)),
    "one object twice, two objects": (lambda: [ONE_LIST, ONE_LIST], lambda: [[1], [1]]),
    "one object twice in a tuple": (lambda: (ONE_LIST, ONE_LIST), lambda: ([1], [1])),
    "an attribute that is no field": (lambda: Derived(1, 2), lambda: Derived(1, 3)),
    "a field that is not compared": (lambda: Derived(1, 1, {"a": 1}), lambda: Derived(1, 1)),
    "an attribute given later": (lambda: marked(Plain(1), unit="m"), lambda: Plain(1)),
    "an attrs class marked later": (lambda: Marked(1).mark(2), lambda: Marked(1).mark(3)),
    "more in a pydantic model": (lambda: Open(n=1, m=1), lambda: Open(n=1, m=2)),  # type: ignore[call-arg]
    "types of an array": (lambda: np.arange(3, dtype="i4"), lambda: np.arange(3, dtype="i8")),
    "byte orders of an array": (lambda: np.arange(3, dtype="<i4"), lambda: np.arange(3, dtype=">i4")),
    "same bytes of two types": (lambda: np.zeros(2, "i4"), lambda: np.zeros(2, "f4")),
    "shapes of an array": (lambda: np.zeros((2, 3)), lambda: np.zeros((3, 2))),
    "array, list": (lambda: np.array([1.0]), lambda: [1.0]),
    "array of one, of none": (lambda: np.array(1.0), lambda: np.array([1.0])),
    "array, scalar": (lambda: np.array(1.0), lambda: np.float64(1.0)),
    "numpy's float, Python's": (lambda: np.float64(1.0), lambda: 1.0),
    "numpy's bool, Python's": (lambda: np.bool_(True), lambda: True),
    "units of a time": (lambda: np.datetime64("2024-01-01", "D"), lambda: np.datetime64("2024-01-01", "h")),
    "an array the other way round": (
        lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
        lambda: np.arange(6).reshape(2, 3),
    ),
    "a view of an array": (lambda: np.arange(6)[::2], lambda: np.array([0, 2, 4])),
    "an array read only": (lambda: np.broadcast_to(np.arange(3), (3,)), lambda: np.arange(3)),
    "texts of an array": (lambda: np.array(["a", "bb"]), lambda: np.array(["a", "bb"], dtype="U9")),
    "partials": (lambda: functools.partial(int, "1", 10), lambda: functools.partial(int, "1", base=10)),
    "slices": (lambda: slice(1), lambda: slice(0, 1)),
}


@pytest.fixture(scope="module")
def two_places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache for the first of each pair, and one for the second."""
    return tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")


def looked_at(value: Any, where: Path) -> tuple[int, Any] | None:
    """The id of the task that looks at a value, and what it sees; None if the value is refused by name."""
    with Cache(where):
        try:
            task = Look(value)
        except ArgumentError as error:
            if "value" in str(error):
                return None
            raise
        return task.task_id, task.run_graph(executor="serial", force=True)[0]


@pytest.mark.parametrize("name", PAIRS)
def test_two_arguments_are_two_tasks_or_look_the_same_to_the_task(
    two_places: tuple[Path, Path], name: str
) -> None:
    pair = PAIRS[name]
    seen = [looked_at(make(), place) for make, place in zip(pair, two_places, strict=True)]
    if None in seen:
        return
    (one, first), (two, second) = filter(None, seen)
    if one == two:
        assert first == second
    else:
        assert [first, second] == [look(make()) for make in pair]
        assert first != second


@pytest.mark.parametrize(
    "make",
    [
        lambda: (n for n in (1, 2)),
        lambda: iter([1, 2]),
        lambda: map(int, "12"),
        lambda: zip([1], [2], strict=True),
        lambda: {"a": 1}.keys(),
        lambda: itertools.count(),
        lambda: open(__file__),  # noqa: SIM115
        lambda: operator.itemgetter(1),
        lambda: [iter([1])],
        lambda: {"a": (n for n in ())},
        lambda: Plain(iter([1])),  # type: ignore[arg-type]
        lambda: memoryview(b"a"),
        lambda: object(),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_what_can_be_used_up_or_has_no_definite_content_is_refused(
    cache: Cache, make: Callable[[], Any]
) -> None:
    with pytest.raises(ArgumentError, match="value"):
        Look(make())


def test_future_and_its_json_are_two(cache: Cache) -> None:
    up = Look(1)
    futures: list[Any] = [up, up["a"], Const(1), FutureList([up]), FutureDict({"a": up})]
    others: list[Any] = [1, [up], {"a": up}, *[future.to_json() for future in futures]]
    assert len({Look(value).task_id for value in [*futures, *others]}) == len(futures) + len(others)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_text_arrives_in_the_form_it_was_given(cache: Cache, form: str) -> None:
    text = unicodedata.normalize(form, "é ñ 각")  # type: ignore[arg-type]
    assert Look(text).run_graph(executor="serial")[0] == look(text)


def test_all_call_forms_are_one_task(cache: Cache) -> None:
    class Forms(Task):
        def __init__(self, a: int, b: int = 2, *more: int, c: int = 3, **rest: int) -> None:
            self.told = (a, b, more, c, rest)

        def run_task(self) -> Any:
            return self.told

    same = [Forms(1), Forms(a=1), Forms(1, 2), Forms(1, b=2), Forms(b=2, a=1), Forms(1, c=3), Forms(c=3, a=1)]
    assert len(set(map(id, same))) == 1
    others = [Forms(1, 2, 3), Forms(1, c=4), Forms(1, d=3), Forms(1, more=3), Forms(2), Forms(1, 3)]
    assert len({task.task_id for task in [*others, same[0]]}) == len(others) + 1
    assert Forms(1, more=3).run_graph(executor="serial")[0] == (1, 2, (), 3, {"more": 3})


class All(Task):
    def __init__(self, parts: Any) -> None:
        self.parts = FutureList(parts)

    def run_task(self) -> list[Any]:
        return self.parts.get_result()


def look_alikes() -> list[Any]:
    """Values that are equal for Python, or look alike, and are all to be told apart."""
    return [
        1, True, 1.0, 1 + 0j, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1}, {True: 1}, {1.0: 1},
        {"1": 1}, np.int64(1), np.int32(1), np.uint8(1), np.float64(1), np.bool_(True), decimal.Decimal(1),
        fractions.Fraction(1), Level.LOW, Other.LOW, Colour.RED, Count(1), Word("1"), bytearray(b"1"),
        np.array(1), np.array([1]), range(1), slice(1), [[1]], [(1,)], ([1],), ((1,),), {"a": 1}, [("a", 1)],
        pathlib.Path("1"), pathlib.PurePosixPath("1"), Plain(1), Pair(1, 1), Couple(1, 1), Plain, int, None,
        "None", "", [], (), {}, {None: None}, math.nan, "nan", "NaN", -0.0, 0.0, 0, False, "\0", "\0\0",
    ]  # fmt: skip


def test_a_crowd_of_look_alikes_have_an_answer_each(cache: Cache) -> None:
    many = look_alikes()
    tasks = [Look(value) for value in many]
    assert len({task.task_id for task in tasks}) == len(many)
    answers, _ = All(tasks).run_graph(executor="serial")
    assert answers == [look(copy.deepcopy(value)) for value in many]
    with Cache(Path(cache.location)):
        again, stats = All([Look(value) for value in many]).run_graph(executor="serial")
    assert again == answers
    assert stats["stats"] == {}


def test_deepcopy_of_the_arguments_is_the_same_task(cache: Cache) -> None:
    value = {"a": [1, (2, {3})], "b": np.arange(3)}
    assert Look(value) is Look(copy.deepcopy(value))
