"""Decide what a component is, and make one from the user's text.

A component is a dataclass with a class-level `name`; its fields are its options. Knows the
kinds of components and how the text of an option becomes a value; knows nothing of plugins,
of where a class came from, or of what a component does.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple, cast

from taskproc.errors import CacheError, ComponentOptionError, PluginError, TaskprocError
from taskproc.interfaces import ArgumentType, CacheBackend, ExecutorProvider, Launcher, Reporter


class Kind(NamedTuple):
    """One kind of component: its word, its base class, and the hook that registers classes of it."""

    word: str
    base: type
    hook: str


CACHE_BACKEND = Kind("cache backend", CacheBackend, "taskproc_register_cache_backends")
EXECUTOR = Kind("executor", ExecutorProvider, "taskproc_register_executors")
LAUNCHER = Kind("launcher", Launcher, "taskproc_register_launchers")
REPORTER = Kind("reporter", Reporter, "taskproc_register_reporters")
KINDS = (CACHE_BACKEND, EXECUTOR, LAUNCHER, REPORTER)

ARGUMENT_TYPE = "argument type"
ARGUMENT_TYPES_HOOK = "taskproc_register_argument_types"
_CLASS_NAME = re.compile(r"[^\s:.]+(?:\.[^\s:.]+)*:[^\s:]+")

COMPONENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]*")
_LOADING = (
    __name__,
    "taskproc.registry",
    "taskproc.registry.listeners",
    "taskproc.registry.plugin_sources",
    "taskproc.registry.plugin_loader",
    "importlib",
    "pluggy",
)
_BOOLEANS = types.MappingProxyType(
    {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
)
_SEQUENCES: types.MappingProxyType[Any, Callable[[Iterable[Any]], Any]] = types.MappingProxyType(
    {list: list, set: set, frozenset: frozenset, tuple: tuple, Sequence: tuple, Collection: tuple}
)


@dataclass(frozen=True)
class OptionInfo:
    """One option of a component: its name, its type and its default as text (None: required)."""

    name: str
    type: str
    default: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.type} " + ("(required)" if self.default is None else f"= {self.default}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The tail of an error message: a guess at what was meant, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def fault_of_class(kind: Kind, cls: object) -> str:
    """What keeps `cls` from being a component of `kind`, in words; "" if nothing does."""
    if not isinstance(cls, type):
        return f"{cls!r} is not a class: {kind.hook} returns classes"
    title = f"class {cls.__module__}.{cls.__qualname__}"
    if not issubclass(cls, kind.base):
        return f"{title} does not derive from taskproc.interfaces.{kind.base.__name__}"
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        return f"{title} has no name: give it a class-level `name: ClassVar[str] = ...`"
    if not COMPONENT_NAME.fullmatch(name):
        return f"{title} has the name {name!r}: a name is a letter, then letters, digits and _+.-"
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        return f"{title} lacks {', '.join(missing)} of {kind.base.__name__}"
    if not dataclasses.is_dataclass(cls) or not _fields_are_its_own(cls):
        return f"{title} is not a dataclass: decorate it with @dataclass(frozen=True)"
    return ""


def _fields_are_its_own(cls: type) -> bool:
    # A base that is a dataclass makes every subclass look like one, but the annotations of an
    # undecorated subclass are no fields of it.
    if "__dataclass_params__" in vars(cls):
        return True
    return all("ClassVar" in str(annotation) for annotation in inspect.get_annotations(cls).values())


def fault_of_argument_type(one: object) -> str:
    """What keeps `one` from being an argument type, in words; "" if nothing does."""
    if not isinstance(one, ArgumentType):
        return f"{one!r} is no taskproc.interfaces.ArgumentType: {ARGUMENT_TYPES_HOOK} returns those"
    name: object = one.name
    encode: object = one.encode
    if not isinstance(name, str) or not _CLASS_NAME.fullmatch(name):
        return f"an argument type is called {name!r}: give the class as 'module:Qualname'"
    if not callable(encode):
        return f"the argument type {one.name!r} has the encode {one.encode!r}, which can't be called"
    return ""


def options_of(cls: type) -> tuple[OptionInfo, ...]:
    """The options of a component class, in the order of its fields."""
    return tuple(
        OptionInfo(field.name, _type_text(field), _default_text(field)) for field in _option_fields(cls)
    )


def split_component_text(text: str) -> tuple[str, str]:
    """`"name:opt=val,..."` into the name and the text of its options."""
    name, _, options = text.partition(":")
    return name.strip(), options


def make_component(kind: Kind, cls: type, options_text: str) -> Any:
    """Make a component of the text of its options (`"opt=val,opt2=val"`).

    Raises:
        ComponentOptionError: an option is unknown, missing, given twice or of the wrong type,
            or the component refuses its value.
        PluginError: the component raised something else.
    """
    title = f"{kind.word} {cls.name!r}"  # type: ignore[attr-defined]
    fields = {field.name: field for field in _option_fields(cls)}
    try:
        values = _parse(title, options_text)
        unknown = next((name for name in values if name not in fields), None)
        if unknown is not None:
            raise ComponentOptionError(f"{title} has no option {unknown!r}{did_you_mean(unknown, fields)}")
        missing = [name for name, field in fields.items() if name not in values and _is_required(field)]
        if missing:
            raise ComponentOptionError(f"{title} needs the option {missing[0]!r}: {missing[0]}=VALUE")
        arguments = {name: _converted(title, cls, fields[name], texts) for name, texts in values.items()}
    except ComponentOptionError as error:
        known = ", ".join(map(str, options_of(cls))) or "none"
        raise ComponentOptionError(f"{error} (its options: {known})") from None
    return call_component(title, cls, arguments)


def call_component(title: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a component's constructor; errors other than ours name the component."""
    try:
        return make(**arguments)
    except TaskprocError:
        raise
    except (TypeError, ValueError) as error:
        raise ComponentOptionError(f"{title} refuses its options: {error}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{title} could not be made: {in_one_line(error)}") from error


def with_options(backend: CacheBackend, **options: Any) -> CacheBackend:
    """A cache backend with these options set; one that is None or False is left as it is.

    Raises:
        CacheError: the backend has no such option, or refuses its value.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    if not given:
        return backend
    is_component = dataclasses.is_dataclass(backend)
    known = {field.name for field in _option_fields(type(backend))} if is_component else set[str]()
    for name, value in given.items():
        if name not in known:
            raise CacheError(
                f"a cache of the kind {backend.name!r} has no option {name}={value!r}: leave it out, or use a"
                " kind that has it, such as the default, a directory"
            )
    title = f"cache backend {backend.name!r}"
    changed = call_component(title, partial(dataclasses.replace, backend), given)  # type: ignore[type-var]
    return cast(CacheBackend, changed)


def in_one_line(error: BaseException) -> str:
    """An exception as one line: type, message, and the place in the plugin where it was raised."""
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = _place_of(error)
    return f"{text} ({place})" if place else text


def _place_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    place = ""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        # Frames of the loading machinery say nothing about the plugin.
        if not module.startswith(_LOADING):
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _option_fields(cls: type) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init and not field.name.startswith("_")]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _type_text(field: dataclasses.Field[Any]) -> str:
    return field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)


def _default_text(field: dataclasses.Field[Any]) -> str | None:
    if _is_required(field):
        return None
    return "..." if field.default is dataclasses.MISSING else repr(field.default)


def _parse(title: str, text: str) -> dict[str, list[str]]:
    """`"a=1,b=x,y,a=2"` into `{"a": ["1", "2"], "b": ["x,y"]}`."""
    values: dict[str, list[str]] = {}
    last: list[str] = []
    for piece in text.split(",") if text else []:
        name, equals, value = piece.partition("=")
        if equals:
            last = values.setdefault(name.strip(), [])
            last.append(value)
        elif last:
            last[-1] += "," + piece  # a value may hold commas
        else:
            raise ComponentOptionError(
                f"option {piece!r} of {title} has no value: write {piece.strip()}=VALUE"
            )
    return values


def _converted(title: str, cls: type, field: dataclasses.Field[Any], texts: list[str]) -> Any:
    try:
        return _convert_all(_annotation_of(cls, field), texts)
    except ValueError as error:
        shown = ", ".join(map(repr, texts))
        why = f" ({error})" if isinstance(error, _NoText) else ""
        raise ComponentOptionError(
            f"option {field.name!r} of {title} is {shown}, but it wants {_type_text(field)}{why}"
        ) from None


class _NoText(ValueError):
    """No text stands for a value of this type, or not so many texts."""


def _annotation_of(cls: type, field: dataclasses.Field[Any]) -> Any:
    if not isinstance(field.type, str):
        return field.type
    owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
    names = vars(sys.modules[owner.__module__])
    holder = types.SimpleNamespace(__annotations__={field.name: field.type})
    try:
        return typing.get_type_hints(holder, globalns=names, localns=dict(vars(owner)))[field.name]
    except Exception:  # noqa: BLE001  # a name that only type checkers import: no text stands for it
        return object


def _members(annotation: Any) -> list[Any]:
    """The types that `annotation` allows, None left out and str last: it takes every text."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(annotation.__origin__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [one for part in typing.get_args(annotation) for one in _members(part)]
        return sorted((one for one in members if one is not type(None)), key=lambda one: one is str)
    return [annotation]


def _convert_all(annotation: Any, texts: list[str]) -> Any:
    """The value of an option that was given once or several times."""
    many = [one for one in _members(annotation) if (typing.get_origin(one) or one) in _SEQUENCES]
    single = [one for one in _members(annotation) if one not in many]
    if single and len(texts) == 1:
        return _first_that_fits(single, texts[0])
    if not many:
        raise _NoText(f"given {len(texts)} times, and it takes one value")
    container = _SEQUENCES[typing.get_origin(many[0]) or many[0]]
    elements: list[Any] = list(typing.get_args(many[0])) or [str]
    if container is tuple and len(elements) > 1 and elements[1] is not Ellipsis:
        if len(elements) != len(texts):
            raise _NoText(f"give it {len(elements)} times")
        return tuple(_first_that_fits(_members(one), text) for one, text in zip(elements, texts, strict=True))
    return container(_first_that_fits(_members(elements[0]), text) for text in texts)


def _first_that_fits(members: list[Any], text: str) -> Any:
    fault = ValueError()
    for member in members:
        try:
            return _convert(member, text)
        except ValueError as error:
            fault = error
    raise fault


def _convert(member: Any, text: str) -> Any:
    """One text into one plain type; ValueError if it does not fit."""
    if typing.get_origin(member) is typing.Literal:
        choices = {str(choice): choice for choice in typing.get_args(member)}
    elif isinstance(member, type) and issubclass(member, enum.Enum):
        choices = {str(one.value): one for one in member} | dict(member.__members__)
    elif member is bool:
        choices, text = dict(_BOOLEANS), text.lower()
    elif isinstance(member, type) and (member in (str, int, float) or issubclass(member, PurePath)):
        return member(text)
    else:
        raise _NoText("which can be given from Python only")
    if text not in choices:
        raise ValueError
    return choices[text]
