"""Decide the JSON form of a task's arguments, and so which tasks are one and the same.

Arguments that are equal in value and in type give equal JSON, in every process and on every
supported Python; others do not. Knows nothing of tasks but that they are Encodable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any

from taskproc.core.arguments.encodings import MAX_DEPTH, Encodable, encoding_for
from taskproc.core.arguments.names import class_name
from taskproc.core.arguments.plain_encodings import LARGE, Encoding
from taskproc.core.arguments.registered import FindType
from taskproc.core.records import JSON
from taskproc.errors import ArgumentError

__all__ = ["Encodable", "Encoder"]


class Encoder:
    """Turns values into JSON that keeps their types.

    Args:
        code_of: gives the JSON form of a function that has no name to find it by (a lambda, a
            closure); None: such functions are refused.
        find_type: gives what a plugin has registered for a class that has no form of its own, by
            its name; None: such classes are refused.

    Attributes:
        where: what is being encoded, for error messages.
        class_code: gives a digest of the code of a class that was made in a function, by which it
            is told from the next one that the function makes; None: such classes go by name.
        known_elsewhere: keys of the tasks that are written down without their names, since
            whoever compares the JSON compares them beside it.
    """

    __slots__ = ("_depth", "_encodings", "class_code", "code_of", "find_type", "known_elsewhere", "where")

    def __init__(
        self, code_of: Callable[[FunctionType], JSON] | None = None, find_type: FindType | None = None
    ) -> None:
        self.code_of = code_of
        self.find_type = find_type
        self.class_code: Callable[[type], str] | None = None
        self.known_elsewhere: Collection[object] = ()
        self.where = "value"
        self._depth = 0
        self._encodings: dict[type, Encoding] = {}

    def encode(self, value: Any, where: str | None = None) -> JSON:
        """The JSON form of a value.

        Args:
            value: anything that `Encoder` knows, down to its last part.
            where: what the value is, for error messages ("Choose(n=...)"); None: `self.where`.

        Raises:
            ArgumentError: the value, or a part of it, can't be part of a key.
        """
        kind = type(value)
        if kind is int:
            if -LARGE < value < LARGE:
                return value
        elif kind is str:
            if value.isascii():
                return value
        elif value is None or kind is bool or (kind is float and value - value == 0.0):
            return value
        encoding = self._encodings.get(kind)
        if encoding is None:
            encoding = self._encodings[kind] = encoding_for(kind)
        return encoding(self._inside(self.where if where is None else where), value)

    def name_of_class(self, kind: type) -> str:
        """What a class is called: by its name and, if a function made it, by its code as well."""
        name = class_name(kind)
        if "<locals>" not in name or self.class_code is None:
            return name
        return f"{name}#{self.class_code(kind)}"

    def leaving_out(self, keys: Collection[object]) -> Encoder:
        """This encoder, for one to whom the tasks of these keys are known elsewhere."""
        other = Encoder(self.code_of, self.find_type)
        other._encodings = self._encodings
        other.class_code = self.class_code
        other.known_elsewhere = keys
        return other

    def _inside(self, where: str) -> Encoder:
        """This encoder, one level further in."""
        if self._depth >= MAX_DEPTH:
            raise ArgumentError(
                f"{where[:200]}...: nested more than {MAX_DEPTH} deep, or contains itself, so it can't be "
                "part of a task's key; flatten it, or pass it as the output of a task"
            )
        inner = object.__new__(Encoder)
        inner.code_of = self.code_of
        inner.find_type = self.find_type
        inner.class_code = self.class_code
        inner.known_elsewhere = self.known_elsewhere
        inner.where = where
        inner._depth = self._depth + 1
        inner._encodings = self._encodings
        return inner
