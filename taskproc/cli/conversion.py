"""Turn a typed text, or a JSON value, into what an annotation wants.

Knows nothing of options or tasks. An annotation it does not know accepts JSON, or else text.
"""

from __future__ import annotations

import collections.abc
import datetime
import inspect
import json
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Literal, Union

TRUE = ("true", "yes", "1")
FALSE = ("false", "no", "0")


class Misfit(Exception):
    """A value is not what the annotation wants; the message says what is, where that helps."""


def describe(wanted: Any) -> str:
    """An annotation as a person would write it."""
    wanted = _bare(wanted)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return f"{wanted.__name__} ({', '.join(wanted.__members__)})"
    text = inspect.formatannotation(wanted)
    for prefix in ("typing.", "pathlib._local.", "pathlib."):
        text = text.replace(prefix, "")
    return text


def from_text(text: str, wanted: Any) -> Any:
    """The value that `text` stands for where `wanted` is the annotation.

    Raises:
        Misfit: it stands for none.
    """
    wanted = _bare(wanted)
    if typing.get_origin(wanted) in (Union, types.UnionType):
        return _first_that_fits(text, wanted, from_text)
    if typing.get_origin(wanted) is Literal:
        for choice in typing.get_args(wanted):
            if text == (choice if isinstance(choice, str) else _name(choice)):
                return choice
        raise Misfit
    if isinstance(wanted, type) and typing.get_origin(wanted) is None:
        for base, read in _READERS:
            if issubclass(wanted, base):
                return _read(read, wanted, text)
    known = _container(wanted) is not None or is_dataclass(wanted)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if known:
            raise Misfit(f"it is not JSON: {error}") from None
        return text
    return from_json(value, wanted)


def from_json(value: Any, wanted: Any) -> Any:
    """The value that a JSON value stands for where `wanted` is the annotation.

    Raises:
        Misfit: it stands for none.
    """
    wanted = _bare(wanted)
    origin = typing.get_origin(wanted)
    if origin in (Union, types.UnionType):
        return _first_that_fits(value, wanted, from_json)
    if origin is Literal:
        for choice in typing.get_args(wanted):
            if type(value) is type(choice) and value == choice:
                return choice
        raise Misfit
    container = _container(wanted)
    if container is not None:
        return container(value, typing.get_args(wanted))
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _dataclass(value, wanted)
    if not isinstance(wanted, type) or origin is not None:
        return value
    return _plain(value, wanted)


def _plain(value: Any, wanted: type) -> Any:
    """A JSON value for a class that is neither a container nor a dataclass."""
    if wanted in (int, float, bool, str, types.NoneType):
        if wanted is float and type(value) is int:
            return float(value)
        if type(value) is not wanted:
            raise Misfit(f"{json.dumps(value)} is not {describe(wanted)}")
        return value
    for base, read in _READERS:
        if issubclass(wanted, base):
            if not isinstance(value, str):
                raise Misfit(f"{json.dumps(value)} is not a text")
            return _read(read, wanted, value)
    return value


def _read(read: Callable[[type, str], Any], wanted: type, text: str) -> Any:
    try:
        return read(wanted, text)
    except (ValueError, KeyError, ArithmeticError):
        raise Misfit from None


def _bool(wanted: type, text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError
    return text.lower() in TRUE


def _none(wanted: type, text: str) -> None:
    if text not in ("null", "None"):
        raise ValueError


# Looked through in order: a class is read by the first of its bases that stands here.
_READERS: tuple[tuple[type, Callable[[Any, str], Any]], ...] = (
    (Enum, lambda wanted, text: wanted[text]),
    (bool, _bool),
    (types.NoneType, _none),
    (str, lambda wanted, text: wanted(text)),
    (int, lambda wanted, text: wanted(text)),
    (float, lambda wanted, text: wanted(text)),
    (complex, lambda wanted, text: wanted(text)),
    (bytes, lambda wanted, text: text.encode()),
    (pathlib.PurePath, lambda wanted, text: wanted(text)),
    (Decimal, lambda wanted, text: wanted(text)),
    (Fraction, lambda wanted, text: wanted(text)),
    (uuid.UUID, lambda wanted, text: wanted(text)),
    (datetime.date, lambda wanted, text: wanted.fromisoformat(text)),
    (datetime.time, lambda wanted, text: wanted.fromisoformat(text)),
)


def _first_that_fits(value: Any, wanted: Any, convert: Callable[[Any, Any], Any]) -> Any:
    """The value by the first member of a union that takes it; None first, str last."""
    members = sorted(typing.get_args(wanted), key=lambda member: (member is str) - (member is types.NoneType))
    reasons: list[str] = []
    for member in members:
        if member is bool and value in ("1", "0") and int in members:
            continue
        try:
            return convert(value, member)
        except Misfit as misfit:
            reasons.append(str(misfit))
    raise Misfit(next((reason for reason in reasons if reason and len(members) <= 2), ""))


def _bare(wanted: Any) -> Any:
    """The annotation without Annotated, NewType, Final and alias statements around it."""
    while True:
        if typing.get_origin(wanted) in (typing.Annotated, typing.Final):
            wanted = typing.get_args(wanted)[0]
        elif isinstance(wanted, typing.NewType):
            wanted = wanted.__supertype__
        elif type(wanted).__name__ == "TypeAliasType":
            wanted = wanted.__value__
        else:
            return wanted


def _container(wanted: Any) -> Callable[[Any, tuple[Any, ...]], Any] | None:
    """What reads a container of this annotation from JSON, or None if it is no container."""
    kind = typing.get_origin(wanted) or wanted
    if kind in (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        return lambda value, members: list(_items(value, members))
    if kind in (set, frozenset, collections.abc.Set):
        made: type = set if kind is collections.abc.Set else kind
        return lambda value, members: made(_items(value, members))
    if kind is tuple:
        return _tuple
    if kind in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _dict
    return None


def _items(value: Any, members: tuple[Any, ...]) -> Iterable[Any]:
    if not isinstance(value, list):
        raise Misfit(f"{json.dumps(value)} is not a JSON list")
    return [from_json(item, members[0]) if members else item for item in value]


def _tuple(value: Any, members: tuple[Any, ...]) -> tuple[Any, ...]:
    if not members or members[-1] is ...:
        return tuple(_items(value, members))
    if not isinstance(value, list) or len(value) != len(members):
        raise Misfit(f"{json.dumps(value)} is not a JSON list of {len(members)}")
    return tuple(from_json(item, member) for item, member in zip(value, members, strict=True))


def _dict(value: Any, members: tuple[Any, ...]) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise Misfit(f"{json.dumps(value)} is not a JSON object")
    if not members:
        return value
    return {from_text(key, members[0]): from_json(item, members[1]) for key, item in value.items()}


def _dataclass(value: Any, wanted: type) -> Any:
    if not isinstance(value, dict):
        raise Misfit(f"{json.dumps(value)} is not a JSON object")
    known = {field.name: field for field in fields(wanted) if field.init}
    unknown = [name for name in value if name not in known]
    missing = [
        name
        for name, field in known.items()
        if name not in value and field.default is MISSING and field.default_factory is MISSING
    ]
    if unknown or missing:
        fault = f"has no {unknown[0]!r}" if unknown else f"needs {missing[0]!r}"
        raise Misfit(f"{wanted.__name__} {fault}; its fields: {', '.join(known)}")
    try:
        hints = typing.get_type_hints(wanted)
    except Exception:  # noqa: BLE001 - whatever a user's annotation raises
        hints = {}
    return wanted(**{name: from_json(item, hints.get(name, Any)) for name, item in value.items()})


def _name(choice: Any) -> str:
    return choice.name if isinstance(choice, Enum) else json.dumps(choice, default=str)
