"""Decide the JSON form of values whose classes a plugin has registered.

Consulted for classes only that have no form of their own, so that no plugin changes a key. Knows
a class by its name, and nothing of where the registration comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from taskproc.core.arguments.names import class_name
from taskproc.core.records import JSON
from taskproc.errors import ArgumentError

if TYPE_CHECKING:
    from taskproc.core.arguments.encoder import Encoder


@dataclass(frozen=True)
class ArgumentType:
    """A class of somebody else's whose objects may be arguments of tasks.

    Attributes:
        name: `module:Qualname` of the class, as its `__module__` and `__qualname__` say, so that
            registering imports nothing ("pandas:DataFrame"). Its subclasses are not meant.
        encode: gives for an object a value that can be an argument without it: of built-in
            classes, numpy's, other registered ones, nested as you like. It must tell all that
            the object holds, and nothing else: two objects of which it gives equal values are one
            and the same to the cache.
    """

    name: str
    encode: Callable[[Any], Any]


class Registration(NamedTuple):
    """An argument type, and what people call the plugin that registered it."""

    type: ArgumentType
    plugin: str


FindType: TypeAlias = Callable[[str], Registration | None]
"""Gives the registration of a class by its name, or None."""


def encode_registered(encoder: Encoder, value: Any, registration: Registration) -> JSON:
    """The JSON form of an object of a registered class.

    Raises:
        ArgumentError: the plugin raises, or gives a value that can't be part of a key.
    """
    name = class_name(type(value))
    where = f"{encoder.where} ({name} by {registration.plugin})"
    try:
        told = registration.type.encode(value)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a panic in Rust code, as polars has it, is no Exception
        raise ArgumentError(
            f"{where}: the plugin failed to encode it: {type(error).__name__}: {error}; pass the object as "
            "the output of a task, or report this to the plugin's authors"
        ) from error
    return {"__registered__": name, "value": encoder.encode(told, where)}
