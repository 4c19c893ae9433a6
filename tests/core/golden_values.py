"""Values of every supported kind, and their digests: the same in every process and Python."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import operator
import pathlib
import uuid
import zoneinfo
from typing import Any, NamedTuple

from taskproc.core.arguments import Encoder, digest
from taskproc.core.future import Const, FutureDict, FutureList


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    first: int
    second: str


class Text(str):
    __slots__ = ()


class Own:
    """A class that says itself what it is made of."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.cache = object()

    @property
    def __task_args__(self) -> Any:
        return {"n": self.n}


def twice(x: int) -> int:
    return 2 * x


def values() -> dict[str, Any]:
    """A value for each name; no two are equal in value and type."""
    utc = datetime.UTC
    moment = datetime.datetime(2024, 10, 27, 2, 30)
    return {
        "none": None, "true": True, "one": 1, "one as float": 1.0, "one as complex": 1 + 0j,
        "minus zero": -0.0, "zero": 0.0, "zero as int": 0, "false": False,
        "nan": float("nan"), "inf": float("inf"), "minus inf": float("-inf"),
        "float": 0.1, "tiny": 5e-324, "large int": 10**5000, "minus large int": -(10**5000),
        "complex": complex(-0.0, float("nan")),
        "text": "text", "accents": "\u00e9\u00e4 \u2603 \U0001f600", "surrogates": "\ud83d\ude00",
        "name of nan": "nan", "bytes": b"text", "bytearray": bytearray(b"text"),
        "list": [1, 2], "tuple": (1, 2), "set": {1, 2}, "frozenset": frozenset({1, 2}),
        "empty list": [], "empty tuple": (), "empty set": set(), "empty dict": {},
        "nested": [[1, (2, [3])], {"a": {"b": (None,)}}], "strings in a set": {"a", "b", "c", "\u00e9"},
        "dict": {"1": "a"}, "dict of int": {1: "a"}, "dict of bool": {True: "a"}, "dict of float": {1.0: "a"},
        "dict of tuple": {(1, 2): [3], "x": 4, None: 5}, "dict like a tuple": {"__tuple__": [1, 2]},
        "dict like a dict": {"__dict__": [["1", "a"]]},
        "ordered": collections.OrderedDict(a=1, b=2), "ordered otherwise": collections.OrderedDict(b=2, a=1),
        "default dict": collections.defaultdict(list, a=[1]), "counter": collections.Counter("aab"),
        "range": range(1, 9, 2), "slice": slice(None, 3), "ellipsis": ...,
        "path": pathlib.PosixPath("a/b"), "pure path": pathlib.PurePosixPath("a/b"),
        "windows path": pathlib.PureWindowsPath("a/b"), "path as text": "a/b",
        "datetime": moment, "second fold": moment.replace(fold=1),
        "datetime in utc": moment.replace(tzinfo=utc),
        "datetime in a zone": moment.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        "datetime with an offset": moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        "date": moment.date(), "time": moment.time(), "time in utc": moment.time().replace(tzinfo=utc),
        "timedelta": datetime.timedelta(1, 2, 3), "zone": zoneinfo.ZoneInfo("UTC"), "utc": utc,
        "uuid": uuid.UUID(int=5), "decimal": decimal.Decimal("1.0"),
        "decimal of more": decimal.Decimal("1.00"),
        "fraction": fractions.Fraction(1, 3), "whole fraction": fractions.Fraction(1),
        "dataclass": Point(1, [2]), "dataclass of tuple": Point(1, (2,)),
        "like a dataclass": {"x": 1, "y": [2]},
        "enum": Color.RED, "other enum": Color.BLUE, "int enum": Level.LOW,
        "flag": Access.READ, "flags": Access.READ | Access.WRITE,
        "namedtuple": Pair(1, "a"), "like a namedtuple": (1, "a"), "subclass": Text("text"),
        "own way": Own(3), "own way of more": Own(4),
        "function": twice, "builtin": len, "builtin of a module": operator.add, "method": str.upper,
        "class": Point, "builtin class": int, "moved class": pathlib.PurePosixPath,
        "partial": functools.partial(twice, 1), "partial by name": functools.partial(twice, x=1),
        "const": Const(1), "const of list": Const([1]), "item": Const([1])[0],
        "future list": FutureList([Const(1)]), "future dict": FutureDict({"a": Const(1)}),
        "futures in a list": [Const(1)],
    }  # fmt: skip


def arrays() -> dict[str, Any]:
    """The same of numpy's kinds."""
    import numpy as np

    grid = np.arange(6, dtype="<i4").reshape(2, 3)
    pairs = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "<f8")], align=True))
    return {
        "int64": np.int64(1), "int32": np.int32(1), "float64": np.float64(1), "float32": np.float32(1),
        "np.bool": np.bool_(True), "np.str": np.str_("a"), "np.bytes": np.bytes_(b"a"),
        "nan64": np.float64("nan"),
        "complex64": np.complex64(1), "void": pairs[0],
        "datetime64[D]": np.datetime64("2024-01-01"), "datetime64[s]": np.datetime64("2024-01-01", "s"),
        "not a time": np.datetime64("NaT", "D"), "timedelta64": np.timedelta64(1, "D"),
        "array": grid, "array of other shape": grid.reshape(3, 2), "flat array": grid.ravel(),
        "transposed": grid.T, "array of int64": grid.astype("<i8"), "big endian": grid.astype(">i4"),
        "0-d array": np.array(1), "empty array": np.zeros((0, 3)), "other empty array": np.zeros((3, 0)),
        "dates": np.array(["2024-01-01", "NaT"], dtype="M8[D]"), "texts": np.array(["a", "bc"]),
        "empty texts": np.array(["", ""]), "pairs": pairs,
        "objects": np.array([1, "a", None, (1, 2)], dtype=object), "object": np.array(None, dtype=object),
        "list of arrays": [grid, grid], "dtype": np.dtype("<f8"), "dtype of pairs": pairs.dtype,
        "numpy class": np.float64, "numpy function": np.mean, "ufunc": np.sin,
    }  # fmt: skip


def digests(of: dict[str, Any]) -> dict[str, str]:
    """The digest of each value."""
    encoder = Encoder()
    return {name: digest(encoder.encode(value)) for name, value in of.items()}
