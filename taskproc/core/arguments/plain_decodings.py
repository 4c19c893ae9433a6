"""The values of the JSON forms of `plain_encodings`: Python's own and the standard library's.

Knows nothing of classes that users make.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from taskproc.core.arguments.decoder import Decoder

Decoding: TypeAlias = Callable[["Decoder", dict[str, Any]], Any]


class Form(NamedTuple):
    """What makes a value of one form, and which keys may stand beside its mark."""

    decoding: Decoding
    others: tuple[str, ...] = ()


# These modules are only imported for values of theirs; the names are ours, not the stored text's.
def _standard(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _decode_text(decoder: Decoder, form: dict[str, Any]) -> str:
    return bytes.fromhex(form["__str__"]).decode("utf-8", "surrogatepass")


def _decode_float(decoder: Decoder, form: dict[str, Any]) -> float:
    return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}[form["__float__"]]


def _decode_complex(decoder: Decoder, form: dict[str, Any]) -> complex:
    real, imag = decoder.items(form["__complex__"])
    if not (type(real) is type(imag) is float):
        raise TypeError("its parts are no floats")
    return complex(real, imag)


def _pairs(decoder: Decoder, pairs: Any) -> list[tuple[Any, Any]]:
    found = []
    for key_form, form in pairs:
        key = decoder.inside(".keys()", key_form)
        found.append((key, decoder.inside(f"[{key!r}]", form)))
    return found


def _unlike(container: Any, forms: Any) -> Any:
    """The container, if none of its members have become one that were told apart."""
    if len(container) != len(forms):
        raise ValueError("members that were told apart when they were stored are equal now")
    return container


def _decode_dict(decoder: Decoder, form: dict[str, Any]) -> dict[Any, Any]:
    return _unlike(dict(_pairs(decoder, form["__dict__"])), form["__dict__"])  # type: ignore[no-any-return]


def _decode_ordered_dict(decoder: Decoder, form: dict[str, Any]) -> Any:
    pairs = form["__ordered_dict__"]
    return _unlike(collections.OrderedDict(_pairs(decoder, pairs)), pairs)


def _decode_default_dict(decoder: Decoder, form: dict[str, Any]) -> Any:
    factory = decoder.inside(".default_factory", form["default"])
    plain = decoder.decode(form["__default_dict__"])
    if type(plain) is not dict:
        raise TypeError("its items are no dict")
    return collections.defaultdict(factory, plain)


def _decode_set(decoder: Decoder, form: dict[str, Any]) -> Any:
    return _unlike(set(_members(decoder, form["__set__"])), form["__set__"])


def _decode_frozenset(decoder: Decoder, form: dict[str, Any]) -> Any:
    return _unlike(frozenset(_members(decoder, form["__frozenset__"])), form["__frozenset__"])


def _members(decoder: Decoder, forms: Any) -> list[Any]:
    return [decoder.inside("{...}", form) for form in forms]


def _decode_range(decoder: Decoder, form: dict[str, Any]) -> range:
    return range(*decoder.items(form["__range__"]))


def _decode_slice(decoder: Decoder, form: dict[str, Any]) -> slice:
    start, stop, step = decoder.items(form["__slice__"])
    return slice(start, stop, step)


def _decode_datetime(decoder: Decoder, form: dict[str, Any]) -> Any:
    return _in_zone(decoder, _standard("datetime", "datetime").fromisoformat(form["__datetime__"]), form)


def _decode_time(decoder: Decoder, form: dict[str, Any]) -> Any:
    return _in_zone(decoder, _standard("datetime", "time").fromisoformat(form["__time__"]), form)


def _in_zone(decoder: Decoder, value: Any, form: dict[str, Any]) -> Any:
    zone = decoder.inside(".tzinfo", form["zone"]) if "zone" in form else None
    return value.replace(tzinfo=zone, fold=form.get("fold", 0))


def _decode_zone(decoder: Decoder, form: dict[str, Any]) -> Any:
    told = form["__zone__"]
    if isinstance(told, str):
        return _standard("zoneinfo", "ZoneInfo")(told)
    return _standard("datetime", "timezone")(*decoder.items(told))


def _decode_path(decoder: Decoder, form: dict[str, Any]) -> Any:
    if form["class"] not in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        raise ValueError(f"there is no {form['class']!r} among the paths")
    return _standard("pathlib", form["class"])(decoder.decode(form["__path__"]))


def _decode_partial(decoder: Decoder, form: dict[str, Any]) -> Any:
    function = decoder.inside(".func", form["__partial__"])
    args = decoder.inside(".args", form["args"])
    keywords = decoder.inside(".keywords", form["keywords"])
    return functools.partial(function, *args, **keywords)


PLAIN_DECODINGS: Mapping[str, Form] = {
    "__str__": Form(_decode_text),
    "__int__": Form(lambda decoder, form: int(form["__int__"], 16)),
    "__float__": Form(_decode_float),
    "__complex__": Form(_decode_complex),
    "__bytes__": Form(lambda decoder, form: bytes.fromhex(form["__bytes__"])),
    "__bytearray__": Form(lambda decoder, form: bytearray.fromhex(form["__bytearray__"])),
    "__tuple__": Form(lambda decoder, form: tuple(decoder.items(form["__tuple__"]))),
    "__dict__": Form(_decode_dict),
    "__set__": Form(_decode_set),
    "__frozenset__": Form(_decode_frozenset),
    "__range__": Form(_decode_range),
    "__slice__": Form(_decode_slice),
    "__ellipsis__": Form(lambda decoder, form: ...),
    "__ordered_dict__": Form(_decode_ordered_dict),
    "__default_dict__": Form(_decode_default_dict, ("default",)),
    "__datetime__": Form(_decode_datetime, ("zone", "fold")),
    "__date__": Form(lambda decoder, form: _standard("datetime", "date").fromisoformat(form["__date__"])),
    "__time__": Form(_decode_time, ("zone", "fold")),
    "__timedelta__": Form(
        lambda decoder, form: _standard("datetime", "timedelta")(*decoder.items(form["__timedelta__"]))
    ),
    "__zone__": Form(_decode_zone),
    "__decimal__": Form(lambda decoder, form: _standard("decimal", "Decimal")(form["__decimal__"])),
    "__fraction__": Form(
        lambda decoder, form: _standard("fractions", "Fraction")(*decoder.items(form["__fraction__"]))
    ),
    "__uuid__": Form(lambda decoder, form: _standard("uuid", "UUID")(form["__uuid__"])),
    "__path__": Form(_decode_path, ("class",)),
    "__partial__": Form(_decode_partial, ("args", "keywords")),
}
