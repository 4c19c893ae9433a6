"""Decide the JSON form of objects of any class by the parts that pickling would take them apart into.

For what has no form of its own: a pickle may differ from process to process where the parts are
the same (sets are laid out anew in each). Knows nothing of tasks.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

from taskproc.core.arguments.encoder import Encoder
from taskproc.core.arguments.registered import ArgumentType, Registration
from taskproc.errors import ArgumentError

_MOST_OBJECTS = 10_000
_PROTOCOL = 4


def taking_apart(encoder: Encoder) -> Encoder:
    """An encoder like this one, for one value, that takes objects of unknown classes apart.

    It refuses what goes round in a circle or is too deep, as any encoder does, and what holds so
    many objects that most must be the same ones met again and again.
    """
    other = encoder.leaving_out(encoder.known_elsewhere)
    known, taken_apart = encoder.find_type, Registration(ArgumentType("", _counting_parts()), "its parts")
    other.find_type = lambda name: (known(name) if known is not None else None) or taken_apart
    return other


def _counting_parts() -> Callable[[Any], list[Any]]:
    count = 0

    def parts(value: Any) -> list[Any]:
        nonlocal count
        count += 1
        if count > _MOST_OBJECTS:
            raise ArgumentError(f"it holds more than {_MOST_OBJECTS} objects")
        return _parts(value)

    return parts


def _parts(value: Any) -> list[Any]:
    """What makes an object: class or function, its arguments, the state, items of a list and of a dict."""
    reduce = copyreg.dispatch_table.get(type(value))
    told: Any = reduce(value) if reduce is not None else value.__reduce_ex__(_PROTOCOL)
    if isinstance(told, str):
        return [told]
    made_by, args, state = told[0], list(told[1]), told[2] if len(told) > 2 else None
    items, pairs = [None if one is None else list(one) for one in [*told[3:5], None, None][:2]]
    if getattr(made_by, "__name__", "") == "__newobj__":  # the name is how pickle knows it as well
        made_by, *args = args
    return [made_by, args, state, items, pairs, *told[5:]]
