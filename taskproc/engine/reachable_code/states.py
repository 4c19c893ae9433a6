"""Write down what can't be part of a key: the state of objects, as far as it can be looked into.

What a module keeps in an object that it made when it was loaded counts like any other value.
Attributes whose names begin with `_`, and those that methods set later, are an object's own
affair. Knows nothing of modules or of parts.
"""

from __future__ import annotations

import abc
import re
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MappingProxyType, MethodType, SimpleNamespace
from typing import Any

from taskproc.core.arguments import Encoder, canonical
from taskproc.core.arguments.names import class_name
from taskproc.core.records import JSON

MAX_TEXT = 64 * 1024
"""A value whose text is longer (in bytes), or that has more items, counts by its source."""

_DEEPEST = 50
_ABSTRACT = (object, abc.ABC, typing.Generic, typing.Protocol)
_SEQUENCES = (list, tuple, deque)
_SETS = (set, frozenset)
_MAPPINGS = (dict, MappingProxyType)


def encoded(value: Any, code_of: Callable[[FunctionType], JSON]) -> str | None:
    """The text of a value, or None if it has none or a long one."""
    try:
        text = canonical(Encoder(code_of).encode(value))
    except Exception:  # noqa: BLE001 - a user's class may raise anything here; then its source counts
        return None
    return text.decode("ascii") if len(text) <= MAX_TEXT else None


class States:
    """Writes down values with what is known of the objects in them.

    Args:
        code_of: gives the JSON form of a function that has no name.
        is_open: whether the objects of a class may be looked into.
        is_unsteady: whether methods of a class set an attribute of its objects later.
    """

    def __init__(
        self,
        code_of: Callable[[FunctionType], JSON],
        is_open: Callable[[type], bool],
        is_unsteady: Callable[[type, str], bool],
    ) -> None:
        self._encoder = Encoder(code_of)
        self._code_of = code_of
        self._is_open = is_open
        self._is_unsteady = is_unsteady

    def text(self, value: Any) -> str | None:
        """The text of a value; None if nothing is known of it but its class, or if it is long."""
        try:
            form = _Walk(self._encoder, self._code_of, self.attributes)
            text = canonical(form.of(value, 0))
        except Exception:  # noqa: BLE001 - a user's class may raise anything here
            return None
        return text.decode("ascii") if form.is_known and len(text) <= MAX_TEXT else None

    def attributes(self, value: Any) -> dict[str, Any] | None:
        """The attributes of an object that count; None if it can't be looked into."""
        kind = type(value)
        if is_namespace(kind):
            return dict(vars(value))
        if not all(base in _ABSTRACT or self._is_open(base) for base in kind.__mro__):
            return None
        return {
            name: item
            for name, item in state_of(value)
            if not name.startswith("_") and not self._is_unsteady(kind, name)
        }


def is_namespace(kind: type) -> bool:
    """Whether the objects of a class from outside are nothing but names with values."""
    return issubclass(kind, SimpleNamespace) or any(
        base.__name__ == "Namespace" and base.__module__ == "argparse" for base in kind.__mro__
    )


def state_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that an object keeps, in its dict and in its slots."""
    state = object.__getstate__(value)
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            yield from part.items()


class _Walk:
    """One walk through a value."""

    def __init__(
        self,
        encoder: Encoder,
        code_of: Callable[[FunctionType], JSON],
        attributes: Callable[[Any], Mapping[str, Any] | None],
    ) -> None:
        self._encoder = encoder
        self._code_of = code_of
        self._attributes = attributes
        self._inside: set[int] = set()
        self.is_known = False

    def of(self, value: Any, depth: int) -> JSON:
        """The JSON form of a value; of what can't be looked into it is the class."""
        try:
            form = self._encoder.encode(value)
        except Exception:  # noqa: BLE001 - a user's class may raise anything here
            return self._opened(value, depth)
        self.is_known = True
        return form

    def _opened(self, value: Any, depth: int) -> JSON:
        if id(value) in self._inside or depth > _DEEPEST:
            return {"__state__": "itself"}
        self._inside.add(id(value))
        try:
            return {"__state__": _kind_name(type(value)), "of": self._content(value, depth + 1)}
        finally:
            self._inside.discard(id(value))

    def _content(self, value: Any, depth: int) -> JSON:
        # By its type, not by isinstance: a proxy may answer for something that is not there yet.
        kind = type(value)
        if issubclass(kind, _SEQUENCES):
            return [self.of(item, depth) for item in value]
        if issubclass(kind, _SETS):
            return sorted((self.of(item, depth) for item in value), key=canonical)
        if issubclass(kind, _MAPPINGS):
            pairs = [[self.of(key, depth), self.of(item, depth)] for key, item in value.items()]
            return sorted(pairs, key=canonical)
        if kind is re.Pattern:
            self.is_known = True
            return [self._encoder.encode(value.pattern), value.flags]
        if kind is FunctionType:
            return self._code_of(value)
        if kind is MethodType:
            return [value.__func__.__qualname__, self.of(value.__self__, depth)]
        attributes = self._attributes(value)
        return attributes and {name: self.of(item, depth) for name, item in attributes.items()}


def _kind_name(kind: type) -> str:
    """Where inside its package a class from outside stands depends on the version."""
    name = class_name(kind)
    module, _, qualname = name.partition(":")
    return f"{module.partition('.')[0]}:{qualname}"
