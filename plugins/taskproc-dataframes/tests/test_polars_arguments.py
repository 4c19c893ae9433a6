"""polars' objects as arguments: one task if and only if polars tells no difference between them."""

from __future__ import annotations

import copy
import datetime
import decimal
import itertools
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskproc.errors import ArgumentError

NAN = float("nan")
DAY = datetime.datetime(2024, 1, 1)

# For each data type, values of which no two are the same; None is added to each.
ITEMS: list[tuple[Any, list[Any]]] = [
    (pl.Int8, [0, 1, -1]),
    (pl.Int64, [0, 1, -1]),
    (pl.UInt64, [0, 1, 2**64 - 1]),
    (pl.Int128, [0, 1, 2**100]),
    (pl.Float32, [0.0, -0.0, 1.0, NAN]),
    (pl.Float64, [0.0, -0.0, 1.0, NAN]),
    (pl.Boolean, [False, True]),
    (pl.String, ["", "a", "aa", "é"]),
    (pl.Binary, [b"", b"a", b"aa"]),
    (pl.Date, [DAY.date(), DAY.date() + datetime.timedelta(1)]),
    (pl.Time, [datetime.time(0), datetime.time(0, 0, 0, 1)]),
    (pl.Datetime("us"), [DAY, DAY.replace(microsecond=1)]),
    (pl.Datetime("ns"), [DAY, DAY.replace(microsecond=1)]),
    (pl.Datetime("us", "UTC"), [DAY.replace(tzinfo=datetime.UTC)]),
    (pl.Datetime("us", "Europe/Paris"), [DAY.replace(tzinfo=datetime.UTC)]),
    (pl.Duration("us"), [datetime.timedelta(0), datetime.timedelta(1)]),
    (pl.Duration("ms"), [datetime.timedelta(0), datetime.timedelta(1)]),
    (pl.Decimal(10, 2), [decimal.Decimal("1.00"), decimal.Decimal("1.10")]),
    (pl.Decimal(10, 3), [decimal.Decimal("1.000"), decimal.Decimal("1.100")]),
    (pl.Categorical, ["a", "b", ""]),
    (pl.Enum(["a", "b"]), ["a", "b"]),
    (pl.Enum(["b", "a"]), ["a", "b"]),
    (pl.List(pl.Int64), [[], [1], [None], [1, None], [1, 1]]),
    (pl.List(pl.Int8), [[], [1], [None]]),
    (pl.List(pl.List(pl.String)), [[], [[]], [None], [["a"]], [["a"], []], [[], ["a"]]]),
    (pl.Array(pl.Int64, 2), [[1, 2], [None, 2], [2, 1]]),
    (pl.Array(pl.Int64, 1), [[1], [None]]),
    (pl.Array(pl.Int64, 0), [[]]),
    (pl.Array(pl.Int64, (2, 1)), [[[1], [2]], [[1], None]]),
    (
        pl.Struct({"x": pl.Int64, "y": pl.String}),
        [{"x": 1, "y": "a"}, {"x": None, "y": "a"}, {"x": None, "y": None}],
    ),
    (pl.Struct({"y": pl.Int64, "x": pl.String}), [{"y": 1, "x": "a"}, {"y": None, "x": None}]),
    (pl.Struct({"x": pl.List(pl.Int64)}), [{"x": []}, {"x": None}, {"x": [1]}]),
    (pl.List(pl.Struct({"x": pl.Int64})), [[], [None], [{"x": None}], [{"x": 1}, {"x": 2}]]),
    (pl.Null, []),
    (pl.Object, [1, 1.0, True, "a", (1,), [1], {"x": 1}]),
]


def shown(value: Any) -> Any:
    """An object of polars and all that can be seen of it, in a form that can be compared."""
    kind = type(value)
    if isinstance(value, pl.DataFrame):
        return (kind, value.height, [shown(column) for column in value.get_columns()])
    if isinstance(value, pl.Series):
        return (kind, value.name, repr(value.dtype), [repr(item) for item in value.to_list()])
    return (kind, repr(value))


def series_of(dtype: Any, items: list[Any], name: str = "") -> pl.Series:
    if dtype == pl.Object:
        return pl.Series(name, items, dtype=pl.Object)
    return pl.Series(name, items, dtype=dtype, strict=False)


@st.composite
def series(draw: Any, length: int | None = None, name: str | None = None) -> pl.Series:
    dtype, items = draw(st.sampled_from(ITEMS))
    size = {"max_size": 3} if length is None else {"min_size": length, "max_size": length}
    values = draw(st.lists(st.sampled_from([*items, None]), **size))
    made = series_of(dtype, values, draw(st.sampled_from(["", "a"])) if name is None else name)
    if draw(st.booleans()) and dtype != pl.Object:  # in two chunks, cut out of a longer one
        longer = pl.concat([made, made], rechunk=False)
        made = longer.slice(0, len(made))
    return made


@st.composite
def frames(draw: Any) -> pl.DataFrame:
    length = draw(st.integers(0, 3))
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True))
    return pl.DataFrame([draw(series(length, name)) for name in names])


@settings(max_examples=500)
@given(st.lists(series() | frames(), min_size=2, max_size=6))
def test_two_objects_of_polars_are_one_argument_if_and_only_if_polars_shows_no_difference(key, values):
    told = [(key(value), shown(value)) for value in [*values, *copy.deepcopy(values)]]
    for (key_a, shown_a), (key_b, shown_b) in itertools.combinations(told, 2):
        assert (key_a == key_b) == (shown_a == shown_b)


@pytest.mark.parametrize(("dtype", "items"), ITEMS, ids=lambda part: str(part)[:40])
def test_each_item_counts_and_how_they_lie_in_memory_does_not(key, dtype, items):
    items = [*items, None]
    keys = {key(series_of(dtype, [item, item])) for item in items}
    assert len(keys) == len(items)
    whole = series_of(dtype, items * 2)
    if dtype == pl.Object:
        return  # has no chunks to speak of
    assert key(whole) == key(pl.concat([whole[:2], whole[2:]], rechunk=False)) == key(whole.rechunk())
    assert key(pl.concat([whole, whole]).slice(len(whole))) == key(whole)
    assert key(whole[list(range(len(whole)))]) == key(whole)


def test_data_types_and_names_count(key):
    empty = [series_of(dtype, []) for dtype, _ in ITEMS]
    assert len({key(one) for one in empty}) == len(ITEMS)
    assert len({key(pl.Series(name, [1])) for name in ("", "a", "b")}) == 3


def test_what_stands_where_a_value_is_missing_does_not_count(key):
    numbers = pl.Series([1, 2, 3])
    assert key(numbers.set(numbers > 1, None)) == key(pl.Series([1, None, None]))
    frame = pl.DataFrame({"x": [1, 2], "keep": [True, False]})
    hidden = frame.select(pl.when("keep").then(pl.struct("x"))).to_series()
    assert key(hidden) == key(pl.Series("x", [{"x": 1}, None]))


def test_frames_are_told_apart_by_all_that_they_hold(key):
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    others = [
        frame,
        frame.select("b", "a"),
        frame.rename({"a": "c"}),
        frame.cast({"a": pl.Int32}),
        frame.head(1),
        frame.clear(),
        frame.select("a"),
        frame.reverse(),
        pl.DataFrame(),
        frame["a"],
        frame["b"],
        frame.to_dict(as_series=False),
    ]
    assert len({key(other) for other in others}) == len(others)
    assert key(frame) == key(frame.clone()) == key(pl.concat([frame.head(1), frame.tail(1)], rechunk=False))


def test_categories_that_were_met_in_another_order_do_not_count(key):
    before = key(pl.Series(["p", "q"], dtype=pl.Categorical))
    pl.Series(["q", "r", "p"], dtype=pl.Categorical)
    assert key(pl.Series(["x", "q", "p", "q"], dtype=pl.Categorical)[[2, 1]]) == before


def test_text_columns_are_short_in_the_arguments_and_exact(holds, key):
    words = [f"word {n}" for n in range(10_000)]
    for dtype in (pl.String, pl.Categorical):
        column = pl.Series(words, dtype=dtype)
        assert len(str(holds(column).task_args)) < 1_000
        for changed in ([*words[:-1], "Word 9999"], ["word 0w", "ord 1", *words[2:]], [None, *words[1:]]):
            assert key(pl.Series(changed, dtype=dtype)) != key(column)


def test_an_object_that_nobody_knows_is_refused_with_its_place(key):
    frame = pl.DataFrame({"a": [1], "b": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(ArgumentError) as raised:
        key(frame)
    for part in ("Holds(value=...)", "DataFrame by plugin", "['columns'][1]['items'][0]", "builtins.object"):
        assert part in str(raised.value)


def test_a_lazy_frame_is_refused(key):
    with pytest.raises(ArgumentError, match="LazyFrame can't be part of a task's key"):
        key(pl.LazyFrame({"a": [1]}))


def test_a_job_gets_the_frame_as_it_was(holds):
    frame = pl.DataFrame({"a": [1, None], "b": [["x"], []]})
    answer, _ = holds(frame).run_graph(max_workers=1)
    assert shown(answer) == shown(frame)
    assert holds(frame.clone()).get_result().equals(frame)


def test_a_frame_changed_after_construction_changes_no_task(holds):
    frame = pl.DataFrame({"a": [1, 2]})
    task = holds(frame)
    frame[0, "a"] = 5
    frame.insert_column(1, pl.Series("b", [1, 2]))
    assert task.value.to_dict(as_series=False) == {"a": [1, 2]}
