"""The JSON forms of values whose classes are derived from Python's own: that one's value, and the class.

Knows nothing of classes with fields, but what they hold beside these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.hidden_state import HEAP_TYPE, hides_state
from taskproc.core.arguments.names import class_name
from taskproc.core.arguments.plain_encodings import STANDARD, Encoding, lost_attributes, unsupported
from taskproc.core.records import JSON

if TYPE_CHECKING:
    from taskproc.core.arguments import Encoder

DATES = ("datetime:datetime", "datetime:date", "datetime:time", "datetime:timedelta")

PLAIN_VALUE: Mapping[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    list: lambda value: list.__getitem__(value, slice(None)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
"""What gives the value of a subclass's object, whatever methods the subclass has."""


class SubclassEncoding:
    """How values of a class derived from a built-in one are encoded: its value, and the class's name."""

    __slots__ = ("base",)

    def __init__(self, base: type) -> None:
        self.base = base

    def __call__(self, encoder: Encoder, value: Any) -> JSON:
        if lost_attributes(value):
            raise unsupported(encoder, value, "its attributes would be lost")
        if self.base in PLAIN_VALUE:
            plain = encoder.encode(PLAIN_VALUE[self.base](value))
        else:
            plain = STANDARD[class_name(self.base)](encoder, value)
        return {"__subclass__": encoder.name_of_class(type(value)), "value": plain}


def subclass_encoding(kind: type) -> Encoding | None:
    """How values of a class derived from a built-in one are encoded; None if it is none or hides state."""
    base = builtin_base(kind) or next((c for c in kind.__mro__ if class_name(c) in DATES), None)
    if base is None or hides_state(kind, base):
        return None
    fields = getattr(kind, "_fields", None)
    return encode_namedtuple if base is tuple and isinstance(fields, tuple) else SubclassEncoding(base)


def base_of_fields(kind: type) -> type:
    """The built-in class that one with fields derives from: what that holds is told, or is the same."""
    plain = BaseException.__basicsize__
    errors = (c for c in kind.__mro__ if issubclass(c, BaseException) and not c.__flags__ & HEAP_TYPE)
    return builtin_base(kind) or next((c for c in errors if c.__basicsize__ == plain), object)


def encode_namedtuple(encoder: Encoder, value: Any) -> JSON:
    """A namedtuple: the name of the class, and the fields."""
    if lost_attributes(value):
        raise unsupported(encoder, value, "its attributes would be lost")
    where = encoder.where
    items = zip(value._fields, tuple.__iter__(value), strict=True)
    fields = {name: encoder.encode(item, f"{where}.{name}") for name, item in items}
    return {"__object__": encoder.name_of_class(type(value)), "fields": fields}


def builtin_base(kind: type) -> type | None:
    """The built-in class whose value objects of this class have, or None."""
    return next((base for base in kind.__mro__ if base in PLAIN_VALUE), None)
