"""Decide what of polars' objects makes them what they are: names, data types, and each value.

How the values lie in memory (chunks, slices, what stands where a value is missing) does not count.
Never imports polars: whoever holds a frame has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from taskproc_dataframes.texts import told_bytes, told_texts

_NUMBERS = frozenset(
    {
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float16",
        "Float32",
        "Float64",
    }
)
_MOMENTS = frozenset({"Date", "Time", "Datetime", "Duration"})
_BY_TEXT = frozenset({"String", "Categorical", "Enum", "Decimal"})
_LARGE = frozenset({"Int128", "UInt128"})


def _frame(frame: Any) -> Any:
    return {"columns": [_told_series(column) for column in frame.get_columns()], "height": frame.height}


def _told_series(series: Any) -> dict[str, Any]:
    return {"name": series.name, "type": _told_type(series.dtype), **_told_values(series)}


def _told_values(series: Any) -> dict[str, Any]:
    told = {"length": len(series), **_content(series)}
    if series.null_count():
        told["missing"] = series.is_null().to_numpy()
    return told


def _content(series: Any) -> dict[str, Any]:
    """The values of a series; what is told where one is missing is the same for all that miss it."""
    kind = type(series.dtype).__name__
    if kind in _MOMENTS:
        series, kind = series.to_physical(), "Int64"
    if kind in _NUMBERS:
        return {"array": series.fill_null(0).to_numpy()}
    if kind == "Boolean":
        return {"array": series.fill_null(False).to_numpy()}
    if kind in _BY_TEXT:
        return told_texts(series.cast(_polars().String).fill_null("").to_list())
    if kind in _LARGE:  # numpy has none as large
        return told_texts(["" if number is None else str(number) for number in series.to_list()])
    if kind == "Binary":
        return told_bytes(series.fill_null(b"").to_list())
    if kind in ("List", "Array"):
        lists = series if kind == "List" else series.arr.to_list()
        lengths = lists.list.len().fill_null(0)
        return {"lengths": lengths.to_numpy(), "items": _told_values(lists.filter(lengths > 0).explode())}
    if kind == "Struct":
        # Where the struct itself is missing its fields are, too.
        fields = series.struct.unnest().get_columns()
        return {"fields": [_told_values(field) for field in fields]}
    if kind == "Null":
        return {}
    return {"items": series.to_list()}


def _told_type(dtype: Any) -> Any:
    """A data type: its class, and what it was made with."""
    kind = type(dtype).__name__
    if kind in ("List", "Array"):
        return [kind, _told_type(dtype.inner), getattr(dtype, "size", None)]
    if kind == "Struct":
        return [kind, *[[field.name, _told_type(field.dtype)] for field in dtype.fields]]
    if kind == "Enum":
        return [kind, told_texts(dtype.categories.to_list())]
    if kind == "Categorical" and (categories := getattr(dtype, "categories", None)) is not None:
        # Which strings have been met in it so far is a matter of this process.
        return [kind, categories.name(), categories.namespace(), repr(categories.physical())]
    # Datetime(time_unit='us', time_zone=None), Decimal(precision=10, scale=2), Int64.
    return repr(dtype)


def _polars() -> Any:
    return sys.modules["polars"]


def polars_types() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """The classes of polars, as `module:Qualname`, each with what encodes it."""
    yield "polars.dataframe.frame:DataFrame", _frame
    yield "polars.series.series:Series", _told_series
