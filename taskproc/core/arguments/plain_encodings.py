"""The JSON forms of Python's own values: those of the built-in classes and the standard library.

Knows nothing of classes that users make.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from taskproc.core.arguments.canonical import canonical
from taskproc.core.records import JSON
from taskproc.errors import ArgumentError

if TYPE_CHECKING:
    from taskproc.core.arguments import Encoder

Encoding: TypeAlias = Callable[["Encoder", Any], JSON]

LARGE = 1 << 2000
"""Integers from here on are written in hexadecimal: Python may refuse to write them in decimal."""


# What helps with the commonest classes of other libraries, which nobody can decorate.
_FRAMES = frozenset({"DataFrame", "Series", "Index", "MultiIndex", "DatetimeIndex", "Timestamp"})
_PLUGINS: Mapping[str, str] = {"pandas": "taskproc-dataframes", "polars": "taskproc-dataframes"}


def unsupported(encoder: Encoder, value: Any, why: str = "", way_out: str = "") -> ArgumentError:
    """The error for a value that can't be part of a key."""
    kind = type(value)
    plugin = _PLUGINS.get(kind.__module__.partition(".")[0]) if kind.__qualname__ in _FRAMES else None
    way_out = way_out or (
        (f"install {plugin}" if plugin else "make its class a dataclass (or give it a `__task_args__`)")
        + ", or pass it as the output of a task"
    )
    return ArgumentError(
        f"{encoder.where}: an object of class {kind.__module__}.{kind.__qualname__} "
        f"can't be part of a task's key{why and ': ' + why}; {way_out}"
    )


def lost_attributes(value: Any) -> bool:
    """Whether an object has attributes of its own, in its `__dict__` or in slots."""
    return bool(object.__getstate__(value))


def _encode_text(encoder: Encoder, value: str) -> JSON:
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can't tell two lone surrogates from the one character they would make.
        return {"__str__": value.encode("utf-8", "surrogatepass").hex()}
    return value


def _encode_int(encoder: Encoder, value: int) -> JSON:
    return value if -LARGE < value < LARGE else {"__int__": hex(value)}


def _encode_float(encoder: Encoder, value: float) -> JSON:
    return value if math.isfinite(value) else {"__float__": repr(value)}


def _encode_complex(encoder: Encoder, value: complex) -> JSON:
    return {"__complex__": [encoder.encode(value.real), encoder.encode(value.imag)]}


def _encode_list(encoder: Encoder, value: list[Any] | tuple[Any, ...]) -> list[JSON]:
    kinds = set(map(type, value))
    # Long lists of plain items are common, and need no look at each.
    if kinds == {int} and min(value) > -LARGE and max(value) < LARGE:
        return list(value)
    if kinds == {str} and all(map(str.isascii, value)):
        return list(value)
    where = encoder.where
    return [encoder.encode(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _encode_tuple(encoder: Encoder, value: tuple[Any, ...]) -> JSON:
    return {"__tuple__": _encode_list(encoder, value)}


def _encode_dict(encoder: Encoder, value: dict[Any, Any]) -> JSON:
    if all(type(key) is str and key.isascii() and not is_marked(key) for key in value):
        where = encoder.where
        return {key: encoder.encode(item, f"{where}[{key!r}]") for key, item in value.items()}
    return {"__dict__": sorted(_encode_pairs(encoder, value), key=canonical)}


def is_marked(key: str) -> bool:
    """Whether a key may be the mark of a form: a dict that has one is written as pairs."""
    return key.startswith("__") and key.endswith("__")


def _encode_pairs(encoder: Encoder, value: dict[Any, Any]) -> list[JSON]:
    where = encoder.where
    return [
        [encoder.encode(key, f"{where}.keys()"), encoder.encode(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]


def _encode_ordered_dict(encoder: Encoder, value: Any) -> JSON:
    if lost_attributes(value):
        raise unsupported(encoder, value, "its attributes would be lost")
    return {"__ordered_dict__": _encode_pairs(encoder, value)}


def _encode_default_dict(encoder: Encoder, value: Any) -> JSON:
    return {
        "__default_dict__": _encode_dict(encoder, value),
        "default": encoder.encode(value.default_factory, f"{encoder.where}.default_factory"),
    }


def _encode_set(encoder: Encoder, value: set[Any]) -> JSON:
    return {"__set__": _sorted_items(encoder, value)}


def _encode_frozenset(encoder: Encoder, value: frozenset[Any]) -> JSON:
    return {"__frozenset__": _sorted_items(encoder, value)}


def _sorted_items(encoder: Encoder, value: set[Any] | frozenset[Any]) -> list[JSON]:
    where = f"{encoder.where}{{...}}"
    return sorted((encoder.encode(item, where) for item in value), key=canonical)


def _encode_range(encoder: Encoder, value: range) -> JSON:
    return {"__range__": [encoder.encode(part) for part in (value.start, value.stop, value.step)]}


def _encode_slice(encoder: Encoder, value: slice) -> JSON:
    return {"__slice__": [encoder.encode(part) for part in (value.start, value.stop, value.step)]}


def _encode_datetime(encoder: Encoder, value: Any) -> JSON:
    encoded = {"__datetime__": value.replace(tzinfo=None).isoformat()}
    return _with_zone(encoder, value, encoded)


def _encode_time(encoder: Encoder, value: Any) -> JSON:
    return _with_zone(encoder, value, {"__time__": value.replace(tzinfo=None).isoformat()})


def _with_zone(encoder: Encoder, value: Any, encoded: dict[str, JSON]) -> JSON:
    if value.tzinfo is not None:
        encoded["zone"] = encoder.encode(value.tzinfo, f"{encoder.where}.tzinfo")
    if value.fold:
        encoded["fold"] = value.fold
    return encoded


def _encode_zone(encoder: Encoder, value: Any) -> JSON:
    if value.key is None:
        raise unsupported(encoder, value, "it has no key", "name the zone: ZoneInfo('Europe/Paris')")
    return {"__zone__": value.key}


def _encode_fixed_zone(encoder: Encoder, value: Any) -> JSON:
    return {"__zone__": [encoder.encode(part) for part in value.__getinitargs__()]}


def _encode_partial(encoder: Encoder, value: functools.partial[Any]) -> JSON:
    if value.__dict__:
        raise unsupported(encoder, value, "its attributes would be lost")
    where = encoder.where
    return {
        "__partial__": encoder.encode(value.func, f"{where}.func"),
        "args": encoder.encode(list(value.args), f"{where}.args"),
        "keywords": encoder.encode(value.keywords, f"{where}.keywords"),
    }


BUILTIN: Mapping[type, Encoding] = {
    type(None): lambda encoder, value: None,
    bool: lambda encoder, value: value,
    int: _encode_int,
    str: _encode_text,
    float: _encode_float,
    complex: _encode_complex,
    bytes: lambda encoder, value: {"__bytes__": value.hex()},
    bytearray: lambda encoder, value: {"__bytearray__": value.hex()},
    list: _encode_list,
    tuple: _encode_tuple,
    dict: _encode_dict,
    set: _encode_set,
    frozenset: _encode_frozenset,
    range: _encode_range,
    slice: _encode_slice,
    type(...): lambda encoder, value: {"__ellipsis__": True},
    functools.partial: _encode_partial,
}

# By name, so that these modules are only imported by those who use them.
STANDARD: Mapping[str, Encoding] = {
    "collections:OrderedDict": _encode_ordered_dict,
    "collections:defaultdict": _encode_default_dict,
    "datetime:datetime": _encode_datetime,
    "datetime:date": lambda encoder, value: {"__date__": value.isoformat()},
    "datetime:time": _encode_time,
    "datetime:timedelta": lambda encoder, value: {
        "__timedelta__": [value.days, value.seconds, value.microseconds]
    },
    "datetime:timezone": _encode_fixed_zone,
    "zoneinfo:ZoneInfo": _encode_zone,
    # Whether the exponent's letter is a capital is for the thread's decimal context to say.
    "decimal:Decimal": lambda encoder, value: {"__decimal__": str(value).replace("e", "E")},
    "fractions:Fraction": lambda encoder, value: {
        "__fraction__": [encoder.encode(value.numerator), encoder.encode(value.denominator)]
    },
    "uuid:UUID": lambda encoder, value: {"__uuid__": str(value)},
    **{
        f"pathlib:{name}": lambda encoder, value: {
            "__path__": encoder.encode(str(value)),
            "class": type(value).__name__,
        }
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}
