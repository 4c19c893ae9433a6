"""Make values of the JSON forms of `encodings` again: objects of users' classes, functions, Futures.

An object is made without its class's constructor, which may do anything: its fields are all that
the form holds, and are set as they were. Whether a class still is what it was when the form was
written is asked of `encoding_for`.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments.array_decodings import ARRAY_DECODINGS
from taskproc.core.arguments.encodings import (
    Encodable,
    encode_enum,
    encode_fields,
    encoding_for,
    field_names,
    is_model,
)
from taskproc.core.arguments.hidden_state import HEAP_TYPE
from taskproc.core.arguments.names import class_name, found_name
from taskproc.core.arguments.plain_decodings import PLAIN_DECODINGS, Decoding, Form
from taskproc.core.arguments.subclass_encodings import (
    DATES,
    SubclassEncoding,
    builtin_base,
    encode_namedtuple,
)

if TYPE_CHECKING:
    from taskproc.core.arguments.decoder import Decoder

_HASH_OF_ATTRS = "_attrs_cached_hash"


def _decode_enum(decoder: Decoder, form: dict[str, Any]) -> Any:
    kind: Any = decoder.named_class(form["__enum__"])
    if encoding_for(kind) is not encode_enum or issubclass(kind, enum.Flag) != ("value" in form):
        raise _changed(decoder, kind, "an enum of this kind")
    if "value" in form:
        return kind(decoder.inside(".value", form["value"]))
    if form["name"] not in kind.__members__:
        raise decoder.refused(f"the enum {class_name(kind)} has no member {form['name']!r} any more")
    return kind.__members__[form["name"]]


def _decode_class(decoder: Decoder, form: dict[str, Any]) -> Any:
    name = form["__class__"]
    found = decoder.found(name)
    if not isinstance(found, type) or found_name(found) != name:
        # A Task class is known by its task name, wherever it was made.
        found = decoder.named_class(name)
        if not issubclass(found, Encodable):
            raise decoder.refused(f"the class {name} does not stand under that name")
    return found


def _decode_function(decoder: Decoder, form: dict[str, Any]) -> Any:
    name = form["__function__"]
    found = decoder.found(name)
    if isinstance(found, type) or found_name(found) != name:
        raise decoder.refused(f"what is now found as {name} is something else: {found!r:.100}")
    return found


def _decode_future(decoder: Decoder, form: dict[str, Any]) -> Any:
    # These import the arguments; by now they are loaded.
    from taskproc.core.future import Const, FutureDict, FutureList, Item
    from taskproc.core.input_file import InputFile

    if "__item__" in form:
        key = decoder.inside(".key", form["__item__"])
        return Item(decoder.inside(".future", form["of"]), key)
    if "__const__" in form:
        return Const(decoder.inside(".value", form["__const__"]))
    if "__future_list__" in form:
        return FutureList(decoder.inside("", form["__future_list__"]))
    if "__future_dict__" in form:
        return FutureDict(decoder.inside("", form["__future_dict__"]))
    return InputFile(decoder.inside(".path", form["__input_file__"]))


def _decode_object(decoder: Decoder, form: dict[str, Any]) -> Any:
    if "args" in form:
        raise decoder.refused(f"{form['__object__']} says what it is made of (`__task_args__`), but not how")
    kind = decoder.named_class(form["__object__"])
    encoding = encoding_for(kind)
    if encoding is encode_namedtuple and form.keys() == {"__object__", "fields"}:
        return _make_namedtuple(decoder, kind, form["fields"])
    if encoding is not encode_fields:
        raise _changed(decoder, kind, "a class with fields")
    base = builtin_base(kind)
    if (base is not None) != ("value" in form):
        raise _changed(decoder, kind, f"derived from {'a' if base is None else 'no'} built-in class")
    plain = decoder.inside("", form["value"]) if base is not None else None
    made = _made(kind, base, plain)
    _set_fields(decoder, made, form)
    return made


def _make_namedtuple(decoder: Decoder, kind: Any, forms: Mapping[str, Any]) -> Any:
    if forms.keys() != set(kind._fields):
        raise decoder.refused(_other_fields(kind, forms, kind._fields))
    return tuple.__new__(kind, [decoder.inside(f".{name}", forms[name]) for name in kind._fields])


def _set_fields(decoder: Decoder, made: Any, form: dict[str, Any]) -> None:
    kind, forms = type(made), form["fields"]
    names = field_names(kind) or ()
    if not forms.keys() <= set(names):
        raise decoder.refused(_other_fields(kind, forms, names))
    fields = {name: decoder.inside(f".{name}", forms[name]) for name in names if name in forms}
    if is_model(kind):
        _set_model(made, fields, decoder.inside("", form["extra"]) if "extra" in form else None)
    elif "extra" in form:
        raise _changed(decoder, kind, "a pydantic model")
    else:
        # Past any `__setattr__` of a frozen class.
        more = {name: decoder.inside(f".{name}", item) for name, item in form.get("more", {}).items()}
        for name, item in {**fields, **more}.items():
            object.__setattr__(made, name, item)
    if _HASH_OF_ATTRS in getattr(getattr(kind.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(made, _HASH_OF_ATTRS, None)
    if any(name not in forms and hasattr(made, name) for name in names):
        raise decoder.refused(_other_fields(kind, forms, names))


def _set_model(made: Any, fields: dict[str, Any], extra: dict[str, Any] | None) -> None:
    """Give a pydantic model its fields, past `model_construct`, which goes by aliases and by defaults."""
    kind = type(made)
    object.__setattr__(made, "__dict__", fields)
    object.__setattr__(made, "__pydantic_fields_set__", set(fields))
    if not getattr(kind, "__pydantic_root_model__", False):
        allows = kind.model_config.get("extra") == "allow"
        object.__setattr__(made, "__pydantic_extra__", (extra or {}) if allows else extra)
        object.__setattr__(made, "__pydantic_private__", _private_attributes(kind, fields))


def _private_attributes(kind: Any, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a new pydantic model has as its private attributes, which are no part of its form."""
    if not kind.__private_attributes__:
        return None
    made: dict[str, Any] = {}
    for name, attribute in kind.__private_attributes__.items():
        if attribute.default_factory is None:
            if type(attribute.default).__name__ != "PydanticUndefinedType":
                made[name] = copy.deepcopy(attribute.default)
        elif getattr(attribute, "default_factory_takes_validated_data", False):
            made[name] = attribute.default_factory({**fields, **made})
        else:
            made[name] = attribute.default_factory()
    return made


def _decode_subclass(decoder: Decoder, form: dict[str, Any]) -> Any:
    kind = decoder.named_class(form["__subclass__"])
    encoding = encoding_for(kind)
    if not isinstance(encoding, SubclassEncoding):
        raise _changed(decoder, kind, "a subclass of a built-in class")
    return _made(kind, encoding.base, decoder.inside("", form["value"]))


def _made(kind: Any, base: Any, plain: Any) -> Any:
    """An object of a class, made without its constructor; with the value of the built-in base, if any."""
    if base is None:
        # Not always object's: an exception, say, is made by BaseException.
        return next(c for c in kind.__mro__ if not c.__flags__ & HEAP_TYPE).__new__(kind)
    if type(plain) is not base:
        raise TypeError(f"its value is a {type(plain).__name__}, not a {base.__name__}")
    if base is list or base is bytearray:
        made = base.__new__(kind)
        base.extend(made, plain)
    elif base is dict or base is set:
        made = base.__new__(kind)
        base.update(made, plain)
    elif class_name(base) in DATES:
        made = base.__new__(kind, *plain.__reduce_ex__(4)[1])
    else:
        made = base.__new__(kind, plain)
    return made


def _changed(decoder: Decoder, kind: type, was: str) -> Exception:
    return decoder.refused(
        f"the class {class_name(kind)} was {was} when this was stored, and is not any more"
    )


def _other_fields(kind: type, stored: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return (
        f"the fields of {class_name(kind)} are {', '.join(names) or 'none'} now; when this was stored "
        f"they were {', '.join(stored) or 'none'}"
    )


def _refuse(why: str) -> Decoding:
    def decoding(decoder: Decoder, form: dict[str, Any]) -> Any:
        raise decoder.refused(why)

    return decoding


DECODINGS: Mapping[str, Form] = {
    **PLAIN_DECODINGS,
    **ARRAY_DECODINGS,
    "__enum__": Form(_decode_enum, ("name", "value")),
    "__class__": Form(_decode_class),
    "__function__": Form(_decode_function),
    "__object__": Form(_decode_object, ("args", "fields", "extra", "value")),
    "__subclass__": Form(_decode_subclass, ("value",)),
    "__task__": Form(lambda decoder, form: decoder.of_task(form["__task__"], form["__key__"]), ("__key__",)),
    "__item__": Form(_decode_future, ("of",)),
    "__const__": Form(_decode_future),
    "__future_list__": Form(_decode_future),
    "__future_dict__": Form(_decode_future),
    "__input_file__": Form(_decode_future),
    "__future__": Form(_refuse("it is a Future of a class that does not say how it is made"), ("json",)),
    "__registered__": Form(_refuse("a plugin said what is in it, but not how it is made"), ("value",)),
    "__code__": Form(_refuse("a lambda or closure is stored by the digest of its code only")),
}
"""The forms that are known, by their marks."""
