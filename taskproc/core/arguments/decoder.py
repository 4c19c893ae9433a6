"""Decide which value a JSON form stands for: the inverse of the Encoder.

What decodes has the JSON form it was decoded from, or is refused: a class that has changed since
gives no value rather than another one. The JSON is text that others may have written, so what
it names is looked up among what is loaded, never imported, and no constructor of a user's class
is called. Knows nothing of where the text was kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taskproc.core.arguments.decodings import DECODINGS
from taskproc.core.arguments.encodings import MAX_DEPTH
from taskproc.core.arguments.names import class_name, find_loaded
from taskproc.core.arguments.plain_encodings import is_marked
from taskproc.core.records import JSON
from taskproc.errors import UndecodableError

_ATOMS: Final = frozenset({type(None), bool, int, float, str})


def decode(
    value: JSON,
    of_task: Callable[[str, str], Any],
    find: Callable[[str], Any] = find_loaded,
    where: str = "value",
) -> Any:
    """The value that an Encoder gave this JSON form, with its types; it shares nothing with `value`.

    Args:
        value: the JSON form.
        of_task: gives the task of a name and a key.
        find: gives the class or function of a `module:qualname`, or None.
        where: what the value is, for error messages ("Choose(n=...)").

    Raises:
        UndecodableError: the form does not tell the value (an array's digest, a lambda's code),
            names a class that can't be found or has changed since, or is not the Encoder's.
    """
    return Decoder(of_task, find, where).decode(value)


class Decoder:
    """One walk through a JSON form. Knows where in the value it is, for error messages."""

    __slots__ = ("_find", "_path", "_where", "of_task")

    def __init__(self, of_task: Callable[[str, str], Any], find: Callable[[str], Any], where: str) -> None:
        self.of_task: Callable[[str, str], Any] = of_task
        self._find = find
        self._where = where
        self._path: list[str | int] = []

    def decode(self, value: Any) -> Any:
        """The value of a form that stands where this walk is."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is list:
            return self.items(value)
        if kind is not dict or not all(type(key) is str for key in value):
            raise self.refused(f"an object of class {kind.__qualname__} is not JSON")
        marks = [key for key in value if is_marked(key)]
        if not marks:
            return {key: self.inside(f"[{key!r}]", item) for key, item in value.items()}
        mark = next((key for key in marks if key in DECODINGS), marks[0])
        known = DECODINGS.get(mark)
        if known is None or not value.keys() <= {mark, *known.others}:
            raise self.refused(f"this version of taskproc knows no form with the keys {', '.join(value)}")
        try:
            return known.decoding(self, value)
        except UndecodableError:
            raise
        except Exception as error:
            raise self.refused(f"{mark} can't be made into a value again: {error!r}") from error

    def inside(self, step: str | int, value: Any) -> Any:
        """The value of a form that stands one step further in."""
        self._path.append(step)
        if len(self._path) > MAX_DEPTH:
            raise self.refused(f"nested more than {MAX_DEPTH} deep, and no Encoder has written that")
        decoded = self.decode(value)
        self._path.pop()
        return decoded

    def items(self, values: Any) -> list[Any]:
        """The values of a list of forms."""
        # Long lists of plain items are common, and need no look at each.
        if _ATOMS.issuperset(map(type, values)):
            return list(values)
        return [self.inside(index, item) for index, item in enumerate(values)]

    def named_class(self, name: str) -> type:
        """The class of this name.

        Raises:
            UndecodableError: there is none, or it has another name of its own.
        """
        found = self.found(name)
        if not isinstance(found, type) or class_name(found) != name:
            raise self.refused(f"what is now found as {name} is something else: {found!r:.100}")
        return found

    def found(self, name: str) -> Any:
        """What has this name; UndecodableError if nothing has."""
        found = self._find(name)
        if found is None:
            raise self.refused(
                f"{name} is not there: it was made inside a function, moved or renamed, or its module is not "
                "imported yet (stored text never makes taskproc import one); import it first"
            )
        return found

    def refused(self, why: str) -> UndecodableError:
        """The error for a form that stands where this walk is."""
        steps = [step if isinstance(step, str) else f"[{step}]" for step in self._path]
        where = self._where + "".join(steps)
        return UndecodableError(
            f"{where if len(where) <= 200 else f'{where[:200]}...'} can't be decoded: {why}"
        )
