"""Decide whether objects of a class hold more than Python can see.

A class written in C may: a pandas.Timestamp is a datetime with nanoseconds, an os.stat_result a
tuple with more than its items. Two such objects may differ and yet look equal. Knows nothing of
how values are encoded.
"""

from __future__ import annotations

from typing import Any

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set for every class made by a class statement
_MANAGED_WEAKREF = 1 << 3  # Py_TPFLAGS_MANAGED_WEAKREF
_MANAGED_DICT = 1 << 4  # Py_TPFLAGS_MANAGED_DICT
_POINTER = tuple.__itemsize__


def hides_state(kind: Any, base: type) -> bool:
    """Whether objects of a class derived from `base` may hold more than that and their attributes."""
    added = [parent for parent in kind.__mro__ if parent not in base.__mro__]
    hidden_items = getattr(kind, "n_fields", 0) != getattr(kind, "n_sequence_fields", 0)  # as os.stat_result
    return hidden_items or any(not c.__flags__ & HEAP_TYPE or _has_fields_of_c(c) for c in added)


def _has_fields_of_c(kind: type) -> bool:
    """Whether objects are larger than `__slots__`, `__dict__` and `__weakref__` account for."""
    base = kind.__base__ or object
    slots = vars(kind).get("__slots__", ())
    names = {slots} if isinstance(slots, str) else set(slots)
    pointers = len(names - {"__dict__", "__weakref__"})
    # Newer Pythons keep these two in front of the object.
    pointers += kind.__dictoffset__ != base.__dictoffset__ and not kind.__flags__ & _MANAGED_DICT
    pointers += kind.__weakrefoffset__ != base.__weakrefoffset__ and not kind.__flags__ & _MANAGED_WEAKREF
    return kind.__basicsize__ - base.__basicsize__ > pointers * _POINTER
