"""Decide, class by class, the JSON form of a value that may stand in a task's arguments.

Every form but JSON's own is an object whose first key begins and ends with two underscores.
Knows nothing of tasks. Imports none of the libraries whose values it knows.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from taskproc.core.arguments.arrays import numpy_encoding
from taskproc.core.arguments.hidden_state import hides_state
from taskproc.core.arguments.names import class_name, found_name
from taskproc.core.arguments.plain_encodings import BUILTIN, STANDARD, Encoding, unsupported
from taskproc.core.arguments.registered import encode_registered
from taskproc.core.arguments.subclass_encodings import (
    PLAIN_VALUE,
    base_of_fields,
    builtin_base,
    subclass_encoding,
)
from taskproc.core.records import JSON
from taskproc.errors import ArgumentError

if TYPE_CHECKING:
    from taskproc.core.arguments import Encoder

MAX_DEPTH = 100
"""How deep containers may stand in each other; well below what Python's stack can take."""


class Encodable:
    """Base of what knows its own JSON form: tasks and our other Futures."""

    __slots__ = ()

    def encode_with(self, encoder: Encoder) -> JSON:
        """The JSON form, taken as it is. `encoder` encodes what it holds; `encoder.where` names it."""
        raise TypeError(f"{type(self).__qualname__} does not say how it is encoded")

    def fresh_copy(self) -> Self:
        """A copy that nobody else can change; by default the object itself, as it never changes."""
        return self


def encoding_for(kind: type) -> Encoding:
    """How values of exactly this class are encoded. Depends on nothing but the class."""
    if (exact := _EXACT.get(kind)) is not None:
        return exact
    if issubclass(kind, Encodable):
        return _encode_with_itself
    if hasattr(kind, "__task_args__"):
        return _encode_own_way
    if has_future_methods(kind):
        return _encode_foreign_future
    if issubclass(kind, enum.Enum):
        return encode_enum
    if issubclass(kind, type):
        return _encode_class
    if (known := STANDARD.get(class_name(kind))) is not None:
        return known
    if field_names(kind) is not None:
        return _encode_by_name if hides_state(kind, base_of_fields(kind)) else encode_fields
    return numpy_encoding(kind) or subclass_encoding(kind) or _encode_by_name


def has_future_methods(kind: type) -> bool:
    """Whether a class has the three methods of a Future."""
    return (
        callable(getattr(kind, "get_result", None))
        and callable(getattr(kind, "to_json", None))
        and callable(getattr(kind, "get_upstreams", None))
    )


def field_names(kind: Any) -> tuple[str, ...] | None:
    """The fields of a dataclass, an attrs class or a pydantic model, else None."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    attributes = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return tuple(attribute.name for attribute in attributes)
    return tuple(kind.model_fields) if is_model(kind) else None


def is_model(kind: Any) -> bool:
    """Whether a class is a pydantic model."""
    if dataclasses.is_dataclass(kind) or isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        return False
    fields = getattr(kind, "model_fields", None)
    return isinstance(fields, Mapping) and hasattr(kind, "__pydantic_validator__")


def _encode_with_itself(encoder: Encoder, value: Encodable) -> JSON:
    return value.encode_with(encoder)


def encode_enum(encoder: Encoder, value: enum.Enum) -> JSON:
    # Combined flags have no name of their own in every version of Python.
    if isinstance(value, enum.Flag):
        return {"__enum__": encoder.name_of_class(type(value)), "value": encoder.encode(value.value)}
    return {"__enum__": encoder.name_of_class(type(value)), "name": value.name}


def _encode_class(encoder: Encoder, value: type) -> JSON:
    name = found_name(value)
    # A Task class is known by its task name, wherever it was made.
    if name is None and not issubclass(value, Encodable):
        raise ArgumentError(
            f"{encoder.where}: the class {class_name(value)} can't be found under that name, so another "
            "process could not tell which one is meant; define it at the top level of a module"
        )
    return {"__class__": name or class_name(value)}


def _encode_function(encoder: Encoder, value: types.FunctionType) -> JSON:
    name = found_name(value)
    if name is not None:
        return {"__function__": name}
    if encoder.code_of is None:
        raise ArgumentError(
            f"{encoder.where}: the function {value.__module__}.{value.__qualname__} has no name to find it "
            "by; define it at the top level of a module"
        )
    return {"__code__": encoder.code_of(value)}


def _encode_by_name(encoder: Encoder, value: Any) -> JSON:
    """The last resort: an attribute of its own that tells, a place to find it at, or a plugin."""
    if hasattr(value, "__task_args__"):
        return _encode_own_way(encoder, value)
    name = found_name(value)
    if name is not None:
        return {"__function__": name}
    registration = encoder.find_type(class_name(type(value))) if encoder.find_type is not None else None
    if registration is not None:
        return encode_registered(encoder, value, registration)
    if field_names(type(value)) is not None:
        raise unsupported(encoder, value, "it derives from a class whose fields can't be seen")
    raise unsupported(encoder, value)


def _encode_own_way(encoder: Encoder, value: Any) -> JSON:
    told = value.__task_args__
    where = f"{encoder.where}.__task_args__"
    return {
        "__object__": encoder.name_of_class(type(value)),
        "args": encoder.encode(told() if callable(told) else told, where),
    }


def _encode_foreign_future(encoder: Encoder, value: Any) -> JSON:
    name = encoder.name_of_class(type(value))
    return {"__future__": name, "json": encoder.encode(value.to_json(), f"{encoder.where}.to_json()")}


def encode_fields(encoder: Encoder, value: Any) -> JSON:
    kind = type(value)
    names = field_names(kind) or ()
    if not {"__dataclass_fields__", "__attrs_attrs__", "__pydantic_validator__"} & vars(kind).keys():
        _refuse_more_than(encoder, value, names)
    where = encoder.where
    encoded = {
        "__object__": encoder.name_of_class(kind),
        "fields": {
            name: encoder.encode(getattr(value, name), f"{where}.{name}")
            for name in names
            if hasattr(value, name)
        },
    }
    if extra := getattr(value, "__pydantic_extra__", None):
        encoded["extra"] = encoder.encode(extra)
    if not is_model(kind) and (more := _more_than_fields(encoder, value, names)):
        encoded["more"] = more
    if (base := builtin_base(kind)) is not None:
        encoded["value"] = encoder.encode(PLAIN_VALUE[base](value))
    return encoded


def _more_than_fields(encoder: Encoder, value: Any, names: tuple[str, ...]) -> dict[str, JSON]:
    """The attributes of an object that are no fields, as far as they have a form.

    One without a form (a lock, a logger) follows from the fields, as a rule; but not if the
    constructor takes what is no field (`InitVar`).
    """
    attributes = getattr(value, "__dict__", None) or {}
    more: dict[str, JSON] = {}
    for name in attributes.keys() - set(names):
        if isinstance(getattr(type(value), name, None), functools.cached_property):
            continue
        try:
            more[name] = encoder.encode(attributes[name], f"{encoder.where}.{name}")
        except ArgumentError:
            if _takes_what_is_no_field(type(value)):
                raise
    return more


def _takes_what_is_no_field(kind: Any) -> bool:
    fields = getattr(kind, "__dataclass_fields__", {}).values()
    return any(field._field_type.name == "_FIELD_INITVAR" for field in fields)


def _refuse_more_than(encoder: Encoder, value: Any, names: tuple[str, ...]) -> None:
    more = getattr(value, "__dict__", {}).keys() - set(names)
    if more:
        raise unsupported(
            encoder,
            value,
            f"its attribute {min(more)!r} is not a field, and would be lost",
            "decorate the class itself (@dataclass), or give it a `__task_args__`",
        )


_EXACT: Mapping[type, Encoding] = {
    **BUILTIN,
    type: _encode_class,
    types.FunctionType: _encode_function,
    types.BuiltinFunctionType: _encode_by_name,
}
