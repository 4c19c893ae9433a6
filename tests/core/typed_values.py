"""Values of many kinds for property tests, and what "equal in value and type" means for them.

`typed` says so without a look at the Encoder, which the tests compare with it.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import decimal
import functools
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import golden_values
import numpy as np
import pydantic
from golden_values import Access, Color, Level, Pair, Point, Text
from hypothesis import strategies as st

from taskproc.core.future import Const, FutureDict, FutureList, Item


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    start: Any
    stop: Any = None


@attrs.define
class Attrs:
    x: Any
    _hidden: Any = attrs.field(factory=list)


@attrs.frozen(cache_hash=True)
class Cached:
    x: Any


class Model(pydantic.BaseModel):
    x: Any
    y: Any = pydantic.Field(default=None, alias="why")
    _private: list[int] = pydantic.PrivateAttr(default_factory=list)


class Words(list[Any]):
    pass


class Count(int):
    pass


class Moment(datetime.datetime):
    pass


class Triple(NamedTuple):
    a: Any
    b: Any
    c: Any = None


def typed(value: Any) -> Any:
    """A value and the types of all its parts, in a form that can be compared and hashed."""
    kind = type(value)
    if isinstance(value, collections.OrderedDict):
        return (kind, tuple((typed(k), typed(v)) for k, v in value.items()))
    if isinstance(value, dict):
        default = getattr(value, "default_factory", None)
        return (kind, repr(default), _multiset((typed(k), typed(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (kind, tuple(typed(item) for item in value))
    if isinstance(value, set | frozenset):
        return (kind, _multiset(typed(item) for item in value))
    if isinstance(value, functools.partial):
        return (kind, value.func, typed(value.args), typed(value.keywords))
    if isinstance(value, np.ndarray):
        return (kind, value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, np.generic):
        return (kind, repr(value), str(value.dtype))
    if isinstance(value, Const):
        return (kind, typed(value.value))
    if isinstance(value, Item):
        return (kind, typed(value.future), typed(value.key))
    if isinstance(value, Point | Span | Attrs | Cached | Model):
        names = [name for name in ("x", "y", "start", "stop", "_hidden") if hasattr(value, name)]
        return (kind, tuple((name, typed(getattr(value, name))) for name in names))
    # Python may refuse to write a large integer in decimal.
    return (kind, hex(value) if isinstance(value, int) else repr(value))


def _multiset(items: Any) -> Any:
    return frozenset(collections.Counter(items).items())


NUMBERS = st.integers(-2, 2) | st.sampled_from([10**700, -(10**700)])
ATOMS = (
    st.none()
    | st.booleans()
    | NUMBERS
    | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf"), 1j])
    | st.sampled_from(["", "1", "a", "__tuple__", "__dict__", "é", "\ud83d\ude00", "\U0001f600", b"", b"a"])
)
"""Plain values, few of each type, so that two of them are often equal but for their types."""

ZONES = st.sampled_from(
    [None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=1)), zoneinfo.ZoneInfo("Europe/Paris")]
)
DATES = (
    st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([datetime.datetime(2024, 10, 27, 2, 30, fold=fold) for fold in (0, 1)])
    | st.sampled_from([datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), Moment(2024, 1, 1)])
    | ZONES
)
NUMPY = (
    st.builds(
        lambda kind, value: getattr(np, kind)(value),
        st.sampled_from(["int8", "int64", "uint8", "float32", "float64", "complex64", "bool_", "str_"]),
        st.integers(0, 1),
    )
    | st.sampled_from([np.float32("nan"), np.float64("-0.0"), np.bytes_(b"a\0"), np.longdouble("0.1")])
    | st.sampled_from(["<f8", ">f8", "S3", [("a", "i1"), ("b", "<f8", (2,))], "M8[s]"]).map(np.dtype)
)
LEAVES = (
    DATES
    | NUMPY
    | st.sampled_from([*Color, *Level, Access.READ, Access.READ | Access.WRITE, Access(0)])
    | st.sampled_from([pathlib.PosixPath("a"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), "a"])
    | st.sampled_from([decimal.Decimal(text) for text in ("1", "1.0", "-0", "NaN", "1E+5", "sNaN7")])
    | st.fractions(max_denominator=3)
    | st.uuids().map(lambda made: uuid.UUID(int=made.int % 3))
    | st.sampled_from([Text("a"), Text("é"), Count(1), Count(10**700), Pair(1, "a"), Pair(1.0, "a")])
    | st.sampled_from([golden_values.twice, len, str.upper, np.mean, np.sin, Point, int, pathlib.PurePath])
    | st.sampled_from([range(2), range(0, 4, 2), ..., int])
)
"""Values of the standard library's and of users' classes that hold no others."""

UNHASHABLE = (
    st.sampled_from([bytearray(b"a"), slice(1), slice(True), slice(1.0, None)])
    | st.sampled_from([(0,), (2, 0), (0, 2)]).flatmap(
        lambda shape: st.sampled_from(["<i4", "<i8", "S2"]).map(lambda dtype: np.zeros(shape, dtype))
    )
    | st.just(collections.Counter("aab"))
)
HASHABLE_ATOMS = ATOMS | st.tuples(ATOMS, ATOMS) | st.frozensets(ATOMS, max_size=3)
HASHABLE = HASHABLE_ATOMS | LEAVES.filter(lambda value: not isinstance(value, decimal.Decimal))


def containers(inner: Any, keys: Any) -> Any:
    """Containers of all kinds around the values of `inner`."""
    pairs = st.tuples(inner, inner)
    some, mapping = st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)
    return (
        some
        | pairs
        | mapping
        | st.sets(keys, max_size=3)
        | some.map(Words)
        | mapping.map(collections.OrderedDict)
        | mapping.map(lambda items: collections.defaultdict(list, items))
        | pairs.map(lambda pair: Triple(*pair))
        | pairs.map(lambda pair: Point(*pair))
        | pairs.map(lambda pair: Span(*pair))
        | pairs.map(lambda pair: Attrs(*pair))
        | inner.map(Cached)
        | pairs.map(lambda pair: Model(x=pair[0], why=pair[1]))
        | pairs.map(lambda pair: functools.partial(golden_values.twice, pair[0], x=pair[1]))
        | inner.map(Const)
        | st.tuples(inner, keys).map(lambda pair: Const(pair[0])[pair[1]])
        | some.map(lambda items: FutureList([Const(item) for item in items]))
        | mapping.map(lambda items: FutureDict({key: Const(item) for key, item in items.items()}))
    )


PLAIN_VALUES = st.recursive(
    HASHABLE_ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE_ATOMS, inner, max_size=3)
        | st.sets(HASHABLE_ATOMS, max_size=3)
    ),
    max_leaves=8,
)
"""Nested values of built-in classes."""

VALUES = st.recursive(ATOMS | LEAVES | UNHASHABLE, lambda inner: containers(inner, HASHABLE), max_leaves=6)
"""Nested values of every kind whose form tells the value."""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if type(value) is list else [value]


RELATIVES: tuple[Callable[[Any], Any], ...] = (
    copy.deepcopy,
    _as_tuple,
    lambda value: (value,),
    lambda value: {"x": value},
    lambda value: {"x": value, "y": None},
    lambda value: Point(value),
    lambda value: Span(value),
    lambda value: Const(value),
)
"""What may be mistaken for another: a copy, and things like it of other types."""
