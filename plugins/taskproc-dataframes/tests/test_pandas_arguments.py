"""pandas' objects as arguments: one task if and only if pandas tells no difference between them."""

from __future__ import annotations

import copy
import decimal
import itertools
import zoneinfo
from typing import Any

import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from taskproc.core.arguments import Encoder
from taskproc.errors import ArgumentError

NAN = float("nan")
PARIS = zoneinfo.ZoneInfo("Europe/Paris")

# What "the same" means, by what pandas shows of an object


def shown(value: Any) -> Any:
    """An object of pandas and all that can be seen of it, in a form that can be compared."""
    kind = type(value)
    if isinstance(value, pd.DataFrame):
        columns = [shown(value.iloc[:, place].array) for place in range(value.shape[1])]
        return (kind, shown(value.columns), shown(value.index), columns, shown(value.attrs), flags(value))
    if isinstance(value, pd.Series):
        return (
            kind,
            shown(value.array),
            shown(value.index),
            shown(value.name),
            shown(value.attrs),
            flags(value),
        )
    if isinstance(value, pd.MultiIndex):
        codes = [list(map(int, codes)) for codes in value.codes]
        return (kind, [shown(level) for level in value.levels], codes, shown(list(value.names)))
    if isinstance(value, pd.RangeIndex):
        return (kind, value.start, value.stop, value.step, shown(value.name))
    if isinstance(value, pd.Index):
        return (kind, shown(value.array), shown(value.name), shown(getattr(value, "freq", None)))
    if isinstance(value, pd.Categorical):
        return (kind, shown(value.categories), list(map(int, value.codes)), value.ordered)
    if isinstance(value, pd.arrays.SparseArray):
        return (kind, shown(value.dtype), shown(list(np.asarray(value))), value.kind, list(value.sp_values))
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return (kind, shown(value.dtype), [shown(item) for item in value.tolist()])
    if isinstance(value, pd.StringDtype):
        return (kind, value.storage, repr(value.na_value))
    if isinstance(value, list | tuple):
        return (kind, [shown(item) for item in value])
    if isinstance(value, dict):
        return (kind, {repr(name): shown(item) for name, item in value.items()})
    if isinstance(value, pd.Timestamp):
        return (kind, value.unit, repr(value), value.nanosecond, repr(value.tz), value.fold)
    if isinstance(value, pd.Timedelta):
        return (kind, value.unit, str(value), value.nanoseconds)
    if isinstance(value, pd.offsets.BaseOffset):
        return (
            kind,
            value.n,
            value.normalize,
            {k: repr(v) for k, v in value.kwds.items() if k != "calendar"},
        )
    return (kind, repr(value))


def flags(value: Any) -> bool:
    return bool(value.flags.allows_duplicate_labels)


# Arrays of every kind

NUMBERS = [0, 1, -1]
ITEMS: dict[Any, list[Any]] = {
    "int64": NUMBERS,
    "int8": NUMBERS,
    "uint8": [0, 1, 255],
    "float64": [0.0, -0.0, 1.0, NAN, float("inf")],
    "float32": [0.0, -0.0, 1.0, NAN],
    "complex128": [0j, 1j, complex(NAN, 0)],
    "bool": [False, True],
    "object": [0, 1, 1.0, True, None, NAN, pd.NA, pd.NaT, "a", "1", (1,), b"a", [1], decimal.Decimal("1.0"),
               decimal.Decimal("1.00"), pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01", tz="UTC"),
               pd.Timestamp(1), pd.Timestamp(2), pd.Timedelta(1), pd.Timedelta(2), pd.Period("2024", "D"),
               pd.Interval(0, 1), pd.Interval(0.0, 1.0), pd.Interval(0, 1, "both")],
    "Int64": [*NUMBERS, None],
    "Int8": [*NUMBERS, None],
    "Float64": [0.0, -0.0, 1.0, None],
    "boolean": [False, True, None],
    "string[python]": ["", "a", "aa", "é", None],
    "string[pyarrow]": ["", "a", "aa", "é", None],
    pd.StringDtype("python", na_value=np.nan): ["", "a", "aa", None],
    pd.StringDtype("pyarrow", na_value=np.nan): ["", "a", "aa", None],
    "category": ["a", "b", None],
    pd.CategoricalDtype(["a", "b"]): ["a", "b", None],
    pd.CategoricalDtype(["b", "a"]): ["a", "b", None],
    pd.CategoricalDtype(["a", "b"], ordered=True): ["a", "b", None],
    pd.CategoricalDtype([1, 2]): [1, 2, None],
    pd.CategoricalDtype([1.0, 2.0]): [1.0, 2.0, None],
    "datetime64[ns]": [0, 1, 2, "NaT"],
    "datetime64[s]": ["2024-01-01", "2024-01-02", "NaT"],
    "datetime64[us, UTC]": ["2024-01-01", "2024-01-02", "NaT"],
    pd.DatetimeTZDtype("us", PARIS): ["2024-01-01", "2024-01-02", "NaT"],
    "timedelta64[ns]": [0, 1, "NaT"],
    "timedelta64[ms]": [0, 1, "NaT"],
    "period[D]": ["2024-01-01", "2024-01-02", "NaT"],
    "period[W-TUE]": ["2024-01-01", "2024-01-09", "NaT"],
    "period[W-WED]": ["2024-01-01", "2024-01-09", "NaT"],
    "interval": [pd.Interval(0, 1), pd.Interval(1, 2)],
    "Sparse[int64]": NUMBERS,
    "Sparse[float64]": [0.0, 1.0, NAN],
    pd.SparseDtype("int64", 1): NUMBERS,
    "int64[pyarrow]": [*NUMBERS, None],
    "double[pyarrow]": [0.0, 1.0, None],
    "bool[pyarrow]": [False, True, None],
    pd.ArrowDtype(pa.string()): ["", "a", "aa", None],
    pd.ArrowDtype(pa.large_string()): ["", "a", None],
    pd.ArrowDtype(pa.binary()): [b"", b"a", None],
    pd.ArrowDtype(pa.date32()): [0, 1, None],
    pd.ArrowDtype(pa.timestamp("ns")): [0, 1, None],
    pd.ArrowDtype(pa.timestamp("us", "UTC")): [0, 1, None],
    pd.ArrowDtype(pa.decimal128(5, 2)): [decimal.Decimal("1.00"), None],
    pd.ArrowDtype(pa.list_(pa.int64())): [[1], [], [None], None],
}  # fmt: skip


def array_of(dtype: Any, items: list[Any]) -> Any:
    if isinstance(dtype, pd.ArrowDtype):
        return pd.arrays.ArrowExtensionArray(pa.array(items, type=dtype.pyarrow_dtype))
    if isinstance(dtype, str) and dtype.startswith("datetime64[us, "):
        return pd.Series(pd.DatetimeIndex(items).tz_localize("UTC").as_unit("us")).array
    if isinstance(dtype, str) and dtype.startswith(("timedelta64", "datetime64[ns")):
        numbers = [np.iinfo("i8").min if item == "NaT" else item for item in items]
        return pd.Series(np.array(numbers, "i8").view(dtype)).array
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.Series(pd.DatetimeIndex(items).tz_localize(PARIS).as_unit("us")).array
    if dtype == "object":
        values = np.empty(len(items), object)
        for place, item in enumerate(items):
            values[place] = item
        return pd.Series(values, dtype=object).array
    if isinstance(dtype, str) and dtype.startswith("period"):
        return pd.PeriodIndex(items, dtype=dtype).array
    if dtype == "interval":
        return pd.arrays.IntervalArray(items, dtype=None if items else "interval[int64, right]")
    return pd.Series(items, dtype=dtype).array


@st.composite
def arrays(draw: Any, length: int | None = None) -> Any:
    dtype = draw(st.sampled_from(list(ITEMS)))
    size = {"max_size": 3} if length is None else {"min_size": length, "max_size": length}
    return array_of(dtype, draw(st.lists(st.sampled_from(ITEMS[dtype]), **size)))


NAMES = st.sampled_from([None, "a", "b", 1, 1.0, True, ("a", 1), pd.Timestamp("2024-01-01")])


@st.composite
def indexes(draw: Any, length: int) -> Any:
    name = draw(NAMES)
    kind = draw(st.sampled_from(["range", "plain", "dates", "multi"]))
    if kind == "range":
        step = draw(st.integers(1, 2))
        return pd.RangeIndex(0, length * step, step, name=name)
    if kind == "dates":
        zone = draw(st.sampled_from([None, "UTC", PARIS]))
        index = pd.date_range("2024-01-01", periods=length, freq=draw(st.sampled_from(["D", "h"])), tz=zone)
        return (index if draw(st.booleans()) else index._with_freq(None)).rename(name)
    if kind == "multi":
        levels = [draw(arrays(length)) for _ in range(2)]
        try:
            return pd.MultiIndex.from_arrays(levels, names=[name, None])
        except (TypeError, ValueError, NotImplementedError):  # items that can't be hashed or ordered
            return pd.RangeIndex(length, name=name)
    try:
        return pd.Index(draw(arrays(length)), name=name)
    except (TypeError, ValueError):
        return pd.RangeIndex(length, name=name)


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    length = draw(st.integers(0, 2))
    index = draw(indexes(length))
    columns = draw(st.lists(arrays(length), max_size=2))
    frame = pd.DataFrame(
        {place: pd.Series(column) for place, column in enumerate(columns)}, index=range(length)
    )
    frame.index = index
    frame.columns = draw(indexes(len(columns)))
    if draw(st.booleans()):
        frame.attrs["unit"] = draw(st.sampled_from(["m", 1, 1.0]))
    return frame


@st.composite
def series(draw: Any) -> pd.Series:
    length = draw(st.integers(0, 2))
    made = pd.Series(draw(arrays(length)), name=draw(NAMES))
    made.index = draw(indexes(length))
    return made


VALUES = arrays() | st.integers(0, 2).flatmap(indexes) | series() | frames()


@settings(max_examples=500)
@given(st.lists(VALUES, min_size=2, max_size=6))
def test_two_objects_of_pandas_are_one_argument_if_and_only_if_pandas_shows_no_difference(key, values):
    told = [(key(value), shown(value)) for value in [*values, *copy.deepcopy(values)]]
    for (key_a, shown_a), (key_b, shown_b) in itertools.combinations(told, 2):
        assert (key_a == key_b) == (shown_a == shown_b)


@pytest.mark.parametrize("dtype", ITEMS, ids=str)
def test_each_item_counts_and_what_lies_below_a_missing_one_does_not(key, dtype):
    keys = {key(pd.Series(array_of(dtype, [item, item]))) for item in ITEMS[dtype]}
    assert len(keys) == len(ITEMS[dtype])
    whole = pd.Series(array_of(dtype, [*ITEMS[dtype], *ITEMS[dtype]]))
    assert key(whole) == key(whole.copy()) == key(pd.concat([whole[:2], whole[2:]]))
    assert key(whole[::2].reset_index(drop=True)) == key(whole[::2].copy().reset_index(drop=True))
    if dtype in ("Int64", "Float64", "boolean"):
        masked = pd.array([1, 0], dtype=dtype)
        masked[0] = pd.NA
        assert key(masked) == key(pd.array([None, 0], dtype=dtype))


def test_frames_are_told_apart_by_all_that_they_hold(key):
    frame = pd.DataFrame({"a": [1, 2], "b": [1.0, 2.0]})
    others = [
        frame,
        frame[["b", "a"]],
        frame.rename(columns={"a": "c"}),
        frame.rename_axis(columns="names"),
        frame.rename_axis("rows"),
        frame.set_axis([0, 1]),
        frame.set_axis([1, 0]),
        frame.set_axis(["x", "y"]),
        frame.astype({"a": "int32"}),
        frame.astype({"a": "Int64"}),
        frame.astype(object),
        frame.iloc[:1],
        frame.iloc[:0],
        frame[[]],
        frame.set_flags(allows_duplicate_labels=False),
        frame.set_axis(["a", "a"], axis=1),
        frame["a"],
        frame["b"],
        frame.to_dict("list"),
    ]
    noted = frame.copy()
    noted.attrs["unit"] = "m"
    others.append(noted)
    assert len({key(other) for other in others}) == len(others)
    assert key(frame.copy()) == key(frame[["a", "b"]]) == key(pd.DataFrame({"a": [1, 2], "b": [1.0, 2.0]}))


def test_how_a_frame_lies_in_memory_does_not_count(key):
    one_block = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    blocks = pd.DataFrame({"a": [0.0, 2.0, 4.0]})
    blocks["b"] = [1.0, 3.0, 5.0]
    fortran = pd.DataFrame(np.asfortranarray(np.arange(6.0).reshape(3, 2)), columns=["a", "b"])
    strided = pd.DataFrame(np.arange(12.0).reshape(6, 2), columns=["a", "b"])[::2].reset_index(drop=True)
    assert key(one_block) == key(blocks) == key(fortran)
    assert key(strided) == key(strided.copy())


def test_missing_values_are_told_apart_as_pandas_tells_them(key):
    missing = [
        None,
        NAN,
        pd.NA,
        pd.NaT,
        np.datetime64("NaT", "ns"),
        np.float32("nan"),
        decimal.Decimal("NaN"),
    ]
    keys = {key(pd.Series([1, one], dtype=object)) for one in missing}
    assert len(keys) == len(missing)
    assert key(pd.Series([1, None], dtype="float64")) == key(pd.Series([1, NAN], dtype="float64"))


def test_text_columns_are_short_in_the_arguments_and_exact(holds, key):
    words = [f"word {n}" for n in range(10_000)]
    for dtype in (object, "string[python]", "string[pyarrow]", "str"):
        column = pd.Series(words, dtype=dtype)
        assert len(str(holds(column).task_args)) < 2_000
        for changed in ([*words[:-1], "Word 9999"], ["", *words[1:]], ["word 0w", "ord 1", *words[2:]]):
            assert key(pd.Series(changed, dtype=dtype)) != key(column)
    surrogates = [["\ud83d\ude00"], ["\ud83d", "\ude00"], ["\U0001f600"], ["", "\ud83d\ude00"]]
    assert len({key(pd.Series(texts, dtype=object)) for texts in surrogates}) == 4


def test_scalars_keep_their_nanoseconds_units_zones_and_folds(key):
    twice = [pd.Timestamp("2024-10-27 00:30", tz="UTC"), pd.Timestamp("2024-10-27 01:30", tz="UTC")]
    assert len({str(moment.tz_convert(PARIS))[:19] for moment in twice}) == 1
    scalars = [
        pd.Timestamp(0), pd.Timestamp(1), pd.Timestamp(0).as_unit("s"), pd.Timestamp(0, tz="UTC"),
        pd.Timestamp(0, tz=PARIS), *[moment.tz_convert(PARIS) for moment in twice],
        pd.Timestamp("2024-01-01").to_pydatetime(), pd.Timestamp("2024-01-01"),
        pd.Timedelta(0), pd.Timedelta(1), pd.Timedelta(0).as_unit("s"), pd.Timedelta(0).to_pytimedelta(),
        *[pd.Period("2024-01-02", freq) for freq in ("D", "W-TUE", "W-WED", "M")],
        pd.Interval(0, 1), pd.Interval(0, 2), pd.Interval(0, 1, "left"), pd.NaT, pd.NA, None, NAN,
    ]  # fmt: skip
    assert len({key(scalar) for scalar in scalars}) == len(scalars)
    assert [key(scalar) for scalar in copy.deepcopy(scalars)] == [key(scalar) for scalar in scalars]


def test_frequencies_of_an_index_are_told_apart_with_their_holidays(key):
    day = "2024-01-03"
    offsets = [
        None, pd.offsets.Day(), pd.offsets.BusinessDay(), pd.offsets.CustomBusinessDay(),
        pd.offsets.CustomBusinessDay(holidays=["2024-05-01"]),
        pd.offsets.CustomBusinessDay(weekmask="Sun Mon Tue Wed Thu"), pd.offsets.DateOffset(days=1),
    ]  # fmt: skip
    indexes = [pd.DatetimeIndex([day, "2024-01-04"], freq=offset) for offset in offsets]
    assert len({key(index) for index in indexes}) == len(offsets)
    assert [key(index) for index in copy.deepcopy(indexes)] == [key(index) for index in indexes]


def test_the_order_of_the_levels_of_an_index_counts(key):
    rows = [("b", 1), ("a", 2)]
    plain = pd.MultiIndex.from_tuples(rows)
    other = plain.set_levels([["b", "a"], [1, 2]]).set_codes([[0, 1], [0, 1]])
    assert list(plain) == list(other)
    # For it decides what comes of the frame.
    made = [list(pd.Series([1, 2], index).unstack(0).columns) for index in (plain, other)]
    assert made[0] != made[1]
    assert key(plain) != key(other)


def test_zones_of_other_libraries_are_told_by_their_text(key):
    paris = pytz.timezone("Europe/Paris")
    zones = [
        pytz.UTC, paris, pytz.timezone("Europe/Rome"), pytz.FixedOffset(60), "UTC", PARIS,
        dateutil.tz.tzutc(), dateutil.tz.tzoffset(None, 3600), dateutil.tz.tzoffset("X", 7200),
    ]  # fmt: skip
    moments = [pd.Timestamp("2024-01-01", tz=zone) for zone in zones]
    assert len({key(moment) for moment in moments}) == len(zones)
    assert len({key(pd.DatetimeIndex([moment])) for moment in moments}) == len(zones)
    # pytz has an object for each stretch of a zone's history; one of them stands in a timestamp.
    summer = pd.Timestamp("2024-07-01", tz=paris)
    assert summer.tz is not paris
    assert key(pd.Series([summer])) == key(pd.Series(pd.DatetimeIndex(["2024-07-01"]).tz_localize(paris)))


def test_the_local_zone_is_refused_because_it_is_another_one_elsewhere(key):
    with pytest.raises(ArgumentError, match=r"tzlocal does not say which it is; name the zone"):
        key(pd.Timestamp("2024-01-01", tz=dateutil.tz.tzlocal()))


def test_a_frame_holds_other_arguments_and_may_stand_in_them(key):
    nested = {"frames": [pd.DataFrame({"a": [{"x": (1,)}, pd.Series([1])]})]}
    again = {"frames": [pd.DataFrame({"a": [{"x": (1,)}, pd.Series([1])]})]}
    other = {"frames": [pd.DataFrame({"a": [{"x": [1]}, pd.Series([1])]})]}
    assert key(nested) == key(again) != key(other)


def test_what_a_frame_holds_and_nobody_knows_is_refused_with_its_place(key):
    frame = pd.DataFrame({"a": [1, 2], "b": [1, object()]})
    with pytest.raises(ArgumentError) as raised:
        key(frame)
    message = str(raised.value)
    for part in (
        "Holds(value=...)",
        "DataFrame by plugin",
        "['values'][1]",
        "['items'][1]",
        "builtins.object",
    ):
        assert part in message


def test_a_class_of_somebody_s_that_derives_from_a_frame_is_refused(key):
    class Own(pd.DataFrame):
        pass

    with pytest.raises(ArgumentError, match="Own can't be part of a task's key"):
        key(Own({"a": [1]}))


def test_without_the_plugin_no_object_of_pandas_loses_anything_unseen():
    for value in (pd.Timestamp(1), pd.Timedelta(1), pd.NaT, pd.Period("2024"), pd.DataFrame()):
        with pytest.raises(ArgumentError):
            Encoder().encode(value)


def test_a_frame_changed_after_construction_changes_no_task(holds):
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    task = holds(frame)
    frame.loc["x", "a"] = 5
    frame["b"] = 1
    frame.attrs["unit"] = "m"
    assert task.value.to_dict() == {"a": {"x": 1, "y": 2}}
    assert task.value.attrs == {}


def test_a_job_gets_the_frame_as_it_was(holds):
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": pd.Categorical(["x", "y"])})
    answer, _ = holds(frame).run_graph(max_workers=1)
    assert shown(answer) == shown(frame)
    assert holds(frame.copy()).get_result().equals(frame)
