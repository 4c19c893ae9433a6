"""Decide what of pandas' objects makes them what they are: all that pandas itself would tell apart.

Each function takes one object and gives plain values, numpy's arrays and other objects of pandas,
which have functions here as well. Never imports pandas: whoever holds a frame has imported it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from taskproc_dataframes.texts import told_texts


def _frame(frame: Any) -> Any:
    return {
        "columns": frame.columns,
        "index": frame.index,
        # By place, as two columns may have one name.
        "values": [column.array for _, column in frame.items()],
        **_notes(frame),
    }


def _series(series: Any) -> Any:
    return {"values": series.array, "index": series.index, "name": series.name, **_notes(series)}


def _notes(frame: Any) -> dict[str, Any]:
    return {"attrs": frame.attrs, "allows_duplicates": frame.flags.allows_duplicate_labels}


def _index(index: Any) -> Any:
    freq = getattr(index, "freq", None)
    return {"values": index.array, "name": index.name, "freq": None if freq is None else _offset(freq)}


def _range_index(index: Any) -> Any:
    return {"range": range(index.start, index.stop, index.step), "name": index.name}


def _multi_index(index: Any) -> Any:
    # Not only the tuples: the order of the levels decides how a frame is unstacked.
    return {"levels": list(index.levels), "codes": list(index.codes), "names": list(index.names)}


def _numpy_array(array: Any) -> Any:
    values = array.to_numpy()
    if values.dtype.hasobject:
        items = values.tolist()
        return told_texts(items) if set(map(type, items)) == {str} else {"items": items}
    return {"array": values}


def _masked_array(array: Any) -> Any:
    # What stands below the mask means nothing.
    values = array.to_numpy(dtype=array.dtype.numpy_dtype, na_value=0)
    return {"array": values, "missing": array.isna()}


def _string_array(array: Any) -> Any:
    dtype = array.dtype
    missing = array.isna()
    values = array.to_numpy(dtype=object, na_value="").tolist()
    # pandas 2 has two classes of arrays for the two kinds of missing values, pandas 3 has one.
    kind = {"storage": dtype.storage, "na_value": repr(dtype.na_value)}
    return {**kind, "missing": missing, **told_texts(values)}


def _arrow_array(array: Any) -> Any:
    dtype = array.dtype
    arrow = dtype.pyarrow_dtype
    missing = array.isna()
    kind = {"type": str(arrow), "missing": missing}
    if str(arrow) in ("string", "large_string"):
        return {**kind, **told_texts(array.to_numpy(dtype=object, na_value="").tolist())}
    if dtype.kind in "biuf":
        filling = False if dtype.kind == "b" else 0
        return {**kind, "array": array.to_numpy(dtype=dtype.numpy_dtype, na_value=filling)}
    return {**kind, "items": array.tolist()}


def _categorical(array: Any) -> Any:
    return {"codes": array.codes, "categories": array.categories, "ordered": array.ordered}


def _datetime_array(array: Any) -> Any:
    freq = getattr(array, "freq", None)  # that of its index, since pandas 3.1
    return {
        "array": array.asi8,
        "unit": array.unit,
        "tz": _zone(getattr(array, "tz", None)),
        "freq": None if freq is None else _offset(freq),
    }


def _period_array(array: Any) -> Any:
    return {"array": array.asi8, "freq": _offset(array.dtype.freq)}


def _interval_array(array: Any) -> Any:
    return {"left": array.left, "right": array.right, "closed": array.closed}


def _sparse_array(array: Any) -> Any:
    return {
        "length": len(array),
        "places": array.sp_index.indices
        if array.kind == "integer"
        else array.sp_index.to_int_index().indices,
        "array": array.sp_values,
        "kind": array.kind,
        "fill_value": array.fill_value,
    }


def _timestamp(moment: Any) -> Any:
    return {"value": moment.asm8, "tz": _zone(moment.tz), "fold": moment.fold}


def _period(period: Any) -> Any:
    return {"value": period.ordinal, "freq": _offset(period.freq)}


def _interval(interval: Any) -> Any:
    return {"left": interval.left, "right": interval.right, "closed": interval.closed}


def _zone(zone: Any) -> Any:
    """A time zone: taskproc knows those of the standard library, the others go by their text."""
    library = type(zone).__module__.partition(".")[0]
    # pytz gives each stretch of a zone's history an object, and often a class, of its own.
    if library == "pytz":
        return {"library": library, "zone": getattr(zone, "zone", None) or repr(zone)}
    if library == "dateutil":
        kind = type(zone).__name__
        if kind not in ("tzutc", "tzoffset", "tzfile", "tzstr"):
            raise ValueError(f"a zone of dateutil's class {kind} does not say which it is; name the zone")
        return {"library": library, "zone": repr(zone)}
    return zone


def _offset(offset: Any) -> Any:
    """A frequency: its class, and all that it was made with."""
    more = {name: value for name, value in offset.kwds.items() if name != "calendar"}
    calendar = offset.kwds.get("calendar")
    if calendar is not None:
        # A numpy.busdaycalendar, which says itself what it is made of.
        more["calendar"] = [calendar.weekmask, calendar.holidays]
    return {
        "class": f"{type(offset).__module__}.{type(offset).__qualname__}",
        "n": offset.n,
        "normalize": offset.normalize,
        "more": more,
    }


# Where the classes say they live: in pandas 3, and in pandas 2.
_ENCODERS: Mapping[str, tuple[Callable[[Any], Any], str, str]] = {
    "DataFrame": (_frame, "pandas", "pandas.core.frame"),
    "Series": (_series, "pandas", "pandas.core.series"),
    "Index": (_index, "pandas", "pandas.core.indexes.base"),
    "RangeIndex": (_range_index, "pandas", "pandas.core.indexes.range"),
    "MultiIndex": (_multi_index, "pandas", "pandas.core.indexes.multi"),
    "DatetimeIndex": (_index, "pandas", "pandas.core.indexes.datetimes"),
    "TimedeltaIndex": (_index, "pandas", "pandas.core.indexes.timedeltas"),
    "PeriodIndex": (_index, "pandas", "pandas.core.indexes.period"),
    "IntervalIndex": (_index, "pandas", "pandas.core.indexes.interval"),
    "CategoricalIndex": (_index, "pandas", "pandas.core.indexes.category"),
    "Categorical": (_categorical, "pandas", "pandas.core.arrays.categorical"),
    "NumpyExtensionArray": (_numpy_array, "pandas.arrays", "pandas.core.arrays.numpy_"),
    "IntegerArray": (_masked_array, "pandas.arrays", "pandas.core.arrays.integer"),
    "FloatingArray": (_masked_array, "pandas.arrays", "pandas.core.arrays.floating"),
    "BooleanArray": (_masked_array, "pandas.arrays", "pandas.core.arrays.boolean"),
    "StringArray": (_string_array, "pandas.arrays", "pandas.core.arrays.string_"),
    "StringArrayNumpySemantics": (_string_array, "pandas.arrays", "pandas.core.arrays.string_"),
    "ArrowStringArray": (_string_array, "pandas.arrays", "pandas.core.arrays.string_arrow"),
    "ArrowStringArrayNumpySemantics": (_string_array, "pandas.arrays", "pandas.core.arrays.string_arrow"),
    "ArrowExtensionArray": (_arrow_array, "pandas.arrays", "pandas.core.arrays.arrow.array"),
    "DatetimeArray": (_datetime_array, "pandas.arrays", "pandas.core.arrays.datetimes"),
    "TimedeltaArray": (_datetime_array, "pandas.arrays", "pandas.core.arrays.timedeltas"),
    "PeriodArray": (_period_array, "pandas.arrays", "pandas.core.arrays.period"),
    "IntervalArray": (_interval_array, "pandas.arrays", "pandas.core.arrays.interval"),
    "SparseArray": (_sparse_array, "pandas.arrays", "pandas.core.arrays.sparse.array"),
    "Timestamp": (_timestamp, "pandas", "pandas._libs.tslibs.timestamps"),
    "Timedelta": (lambda delta: delta.asm8, "pandas", "pandas._libs.tslibs.timedeltas"),
    "Period": (_period, "pandas", "pandas._libs.tslibs.period"),
    "Interval": (_interval, "pandas", "pandas._libs.interval"),
    "NaTType": (lambda nat: None, "pandas.api.typing", "pandas._libs.tslibs.nattype"),
    "NAType": (lambda na: None, "pandas.api.typing", "pandas._libs.missing"),
}


def pandas_types() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """The classes of pandas, as `module:Qualname`, each with what encodes it."""
    for name, (encode, *modules) in _ENCODERS.items():
        for module in modules:
            yield f"{module}:{name}", encode
