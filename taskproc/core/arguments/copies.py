"""Copy arguments so that a task sees nothing of them that its key does not tell.

Two calls with one key are one task, whoever comes first: so what the key leaves out (the
order of a dict, whether two places hold one object, how an array lies in memory) is made the
same in every copy.
"""

from __future__ import annotations

import copy
import datetime
import sys
import types
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import PosixPath, PurePosixPath
from types import FunctionType
from typing import Any

from taskproc.core.arguments.canonical import canonical
from taskproc.core.arguments.encoder import Encoder
from taskproc.core.arguments.encodings import Encodable, field_names, has_future_methods
from taskproc.errors import ArgumentError

_IMMUTABLE = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, range, type(...), type, FunctionType,
        types.BuiltinFunctionType, types.ModuleType, PosixPath, PurePosixPath,
        datetime.date, datetime.timedelta,
    }
)  # fmt: skip


def fresh(value: Any) -> Any:
    """A copy that shares nothing mutable with `value`, nor one of its parts with another.

    Dicts come in the order of their keys. Futures, functions, classes and modules are kept as
    they are, wherever they stand; a FutureList or FutureDict is copied as the container it is.

    Args:
        value: what an Encoder has encoded, so nothing that contains itself.

    Raises:
        ArgumentError: an object in it can't be copied.
    """
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if issubclass(kind, Encodable) and issubclass(kind, list | dict):
        make: Any = kind
        return _fill(make.__new__(make), value)
    if isinstance(value, Encodable):
        return value.fresh_copy()
    if isinstance(value, type | types.ModuleType) or has_future_methods(kind):
        return value
    if kind is list or kind is dict:
        return _fill(kind(), value)
    if kind is tuple or kind is set or kind is frozenset:
        return kind(map(fresh, value))
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        named: Any = kind
        return named._make(map(fresh, value))
    return _copy_of_object(value)


def _copy_of_object(value: Any) -> Any:
    kind = type(value)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None) and not value.dtype.hasobject:
        return value.copy(order="C")
    try:
        copied = copy.deepcopy(value)
    except Exception as error:
        raise ArgumentError(
            f"an object of class {kind.__module__}.{kind.__qualname__} can't be copied ({error}), and "
            "arguments are copied so that nobody changes them later; give the class a `__deepcopy__`, "
            "or pass the object as the output of a task"
        ) from error
    if copied is value:  # it says itself that it need not be copied
        return value
    if issubclass(kind, dict) and not issubclass(kind, OrderedDict):
        items = [(key, dict.__getitem__(copied, key)) for key in in_order(dict.keys(copied))]
        dict.clear(copied)
        dict.update(copied, [(key, fresh(item)) for key, item in items])
    for name in field_names(kind) or ():
        if hasattr(copied, name):
            object.__setattr__(copied, name, fresh(getattr(copied, name)))
    return copied


def _fill(new: Any, value: Any) -> Any:
    if isinstance(value, list):
        # Long lists of plain items are common, and need no look at each.
        new.extend(value if _IMMUTABLE.issuperset(map(type, value)) else map(fresh, value))
    else:
        for key in in_order(value):
            new[fresh(key)] = fresh(value[key])
    # What a user's subclass of ours keeps beside its members.
    for name, item in getattr(value, "__dict__", {}).items():
        setattr(new, name, fresh(item))
    return new


def in_order(keys: Iterable[Any]) -> list[Any]:
    """The keys of a dict in an order that depends on them alone."""
    known = list(keys)
    if len(known) < 2:
        return known
    kinds = set(map(type, known))
    # Numbers of several types compare, but 1 and True are one key: which one stands here is the first's.
    if kinds <= {str} or kinds <= {int} or kinds <= {bytes}:
        return sorted(known)
    encoder = Encoder(lambda function: function.__qualname__, lambda name: None)
    try:
        return sorted(known, key=lambda key: canonical(encoder.encode(key)))
    except ArgumentError:  # a key that only a plugin knows
        return known
