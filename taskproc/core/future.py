"""Decide what stands for a value that is yet to be computed, and how Futures are put together.

Knows nothing of how a task's result is computed or stored.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Protocol,
    Self,
    SupportsIndex,
    TypeVar,
    overload,
    runtime_checkable,
)

from taskproc.core.arguments import Encodable, Encoder, fresh
from taskproc.core.arguments.canonical import canonical
from taskproc.core.arguments.encodings import field_names, has_future_methods
from taskproc.core.records import JSON
from taskproc.errors import ArgumentError, MissingItemError

if TYPE_CHECKING:
    from taskproc.core.task import Task

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
K_contra = TypeVar("K_contra", contravariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, range, type})
"""Classes whose objects hold no Future."""


@runtime_checkable
class Future(Protocol[T_co]):
    """A value that is yet to be computed. Anyone's class with these three methods is one."""

    def get_result(self) -> T_co:
        """The value; the results of the tasks of `get_upstreams` must be there."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What tells this Future from others of its class, in JSON."""
        ...

    def get_upstreams(self) -> Iterable[Task]:
        """The tasks whose results `get_result` reads; a task gives itself."""
        ...


class Subscriptable(Protocol[K_contra, T_co]):
    """Whatever is no mapping or sequence and yet can be indexed: an array, a data frame."""

    def __getitem__(self, key: K_contra, /) -> T_co: ...


class Indexable:
    """Gives a Future `future[key]`: the Future of one item of its value."""

    __slots__ = ()

    # Without this, `for item in future` would ask for future[0], future[1], ... for ever.
    __iter__: None = None

    @overload
    def __getitem__(self: Future[tuple[A]], key: Literal[0]) -> Item[A]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B]], key: Literal[0]) -> Item[A]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B]], key: Literal[1]) -> Item[B]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C]], key: Literal[0]) -> Item[A]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C]], key: Literal[1]) -> Item[B]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C]], key: Literal[2]) -> Item[C]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D]], key: Literal[0]) -> Item[A]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D]], key: Literal[1]) -> Item[B]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D]], key: Literal[2]) -> Item[C]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D]], key: Literal[3]) -> Item[D]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E]], key: Literal[0]) -> Item[A]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E]], key: Literal[1]) -> Item[B]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E]], key: Literal[2]) -> Item[C]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E]], key: Literal[3]) -> Item[D]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E]], key: Literal[4]) -> Item[E]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E, F]], key: Literal[0]) -> Item[A]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E, F]], key: Literal[1]) -> Item[B]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E, F]], key: Literal[2]) -> Item[C]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E, F]], key: Literal[3]) -> Item[D]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E, F]], key: Literal[4]) -> Item[E]: ...
    @overload
    def __getitem__(self: Future[tuple[A, B, C, D, E, F]], key: Literal[5]) -> Item[F]: ...
    @overload
    def __getitem__(self: Future[Mapping[K, T]], key: K) -> Item[T]: ...
    @overload
    def __getitem__(self: Future[Sequence[T]], key: int) -> Item[T]: ...
    @overload
    def __getitem__(self: Future[Sequence[T]], key: slice) -> Item[Sequence[T]]: ...
    @overload
    def __getitem__(self: Future[Subscriptable[K, T]], key: K) -> Item[T]: ...
    def __getitem__(self: Any, key: Any) -> Any:
        return Item(self, key)


class Item(Indexable, Encodable, Generic[T_co]):
    """One item of the value of another Future; made by `future[key]`."""

    __slots__ = ("future", "key")

    def __init__(self, future: Future[Any], key: Any) -> None:
        self.future = future
        self.key = key

    def get_result(self) -> T_co:
        """The item.

        Raises:
            MissingItemError: the value has none under this key.
        """
        value = self.future.get_result()
        try:
            item: T_co = value[self.key]
        except (KeyError, IndexError, TypeError):
            raise MissingItemError(
                f"{described(self.future)} has no item {self.key!r}: its result {_contents(value)}"
            ) from None
        return item

    def to_json(self) -> dict[str, Any]:
        return _json_of(self)

    def get_upstreams(self) -> Iterable[Task]:
        return self.future.get_upstreams()

    def encode_with(self, encoder: Encoder) -> JSON:
        return _of_subclass(
            encoder, self, Item, {"__item__": encoder.encode(self.key), "of": encoder.encode(self.future)}
        )

    def fresh_copy(self) -> Self:
        copied = copy.copy(self)
        copied.future, copied.key = fresh(self.future), fresh(self.key)
        return copied

    def __repr__(self) -> str:
        return f"{self.future!r}[{self.key!r}]"


class Const(Indexable, Encodable, Generic[T_co]):
    """A Future whose value is there already."""

    __slots__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value = value

    def get_result(self) -> T_co:
        return self.value

    def to_json(self) -> dict[str, Any]:
        return _json_of(self)

    def get_upstreams(self) -> Iterable[Task]:
        return ()

    def encode_with(self, encoder: Encoder) -> JSON:
        return _of_subclass(encoder, self, Const, {"__const__": encoder.encode(self.value)})

    def fresh_copy(self) -> Self:
        copied = copy.copy(self)
        copied.value = fresh(self.value)
        return copied

    def __repr__(self) -> str:
        return f"Const({self.value!r})"


class FutureList(list[Future[T]], Encodable):
    """A list of Futures that is a Future of the list of their values; so are its slices and sums.

    Raises:
        ArgumentError: a member is not a Future (also when it is used, if one was added later).
    """

    def __init__(self, items: Iterable[Future[T]] = ()) -> None:
        super().__init__(items)
        _checked(enumerate(self), self)

    def get_result(self) -> list[T]:
        return [member.get_result() for _, member in _checked(enumerate(self), self)]

    def to_json(self) -> dict[str, Any]:
        return _json_of(self)

    def get_upstreams(self) -> Iterable[Task]:
        return _upstreams_of(self)

    def encode_with(self, encoder: Encoder) -> JSON:
        _checked(enumerate(self), self)
        return _of_subclass(encoder, self, FutureList, {"__future_list__": encoder.encode(list(self))})

    @overload
    def __getitem__(self, key: SupportsIndex) -> Future[T]: ...
    @overload
    def __getitem__(self, key: slice) -> FutureList[T]: ...
    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return FutureList(found) if isinstance(key, slice) else found

    def __add__(self, other: list[Future[A]]) -> FutureList[T | A]:  # type: ignore[override]
        return FutureList([*self, *other]) if isinstance(other, list) else NotImplemented

    def __radd__(self, other: list[Future[A]]) -> FutureList[A | T]:  # type: ignore[misc]
        return FutureList([*other, *self]) if isinstance(other, list) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> FutureList[T]:
        return FutureList(super().__mul__(times))

    def __rmul__(self, times: SupportsIndex) -> FutureList[T]:
        return FutureList(super().__rmul__(times))

    def copy(self) -> FutureList[T]:
        return FutureList(self)

    def __repr__(self) -> str:
        return f"FutureList({super().__repr__()})"


class FutureDict(dict[K, Future[T]], Encodable):
    """A dict of Futures that is a Future of the dict of their values; so are its copies and unions.

    Raises:
        ArgumentError: a value is not a Future (also when it is used, if one was added later).
    """

    @overload
    def __init__(self, items: Mapping[K, Future[T]] | Iterable[tuple[K, Future[T]]] = (), /) -> None: ...
    @overload
    def __init__(
        self: FutureDict[str, T],  # pyright: ignore[reportInvalidTypeVarUse]
        items: Mapping[str, Future[T]] | Iterable[tuple[str, Future[T]]] = (),
        /,
        **named: Future[T],
    ) -> None: ...
    def __init__(self, items: Any = (), /, **named: Any) -> None:
        super().__init__(items, **named)
        _checked(self.items(), self)

    def get_result(self) -> dict[K, T]:
        return {key: member.get_result() for key, member in _checked(self.items(), self)}

    def to_json(self) -> dict[str, Any]:
        return _json_of(self)

    def get_upstreams(self) -> Iterable[Task]:
        return _upstreams_of(self)

    def encode_with(self, encoder: Encoder) -> JSON:
        _checked(self.items(), self)
        return _of_subclass(encoder, self, FutureDict, {"__future_dict__": encoder.encode(dict(self))})

    def __or__(self, other: dict[A, Future[B]]) -> FutureDict[K | A, T | B]:  # type: ignore[override]
        return FutureDict(dict(self) | other) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: dict[A, Future[B]]) -> FutureDict[A | K, B | T]:  # type: ignore[override, misc]
        return FutureDict(other | dict(self)) if isinstance(other, dict) else NotImplemented

    def copy(self) -> FutureDict[K, T]:
        return FutureDict(self)

    def __repr__(self) -> str:
        return f"FutureDict({super().__repr__()})"


def _of_subclass(encoder: Encoder, future: Any, ours: type, form: dict[str, JSON]) -> dict[str, JSON]:
    """The form of a Future of ours, with the class if that is somebody's own: it may give another value."""
    kind = type(future)
    return form if kind is ours else {"__future__": encoder.name_of_class(kind), "as": form}


def is_future(value: Any) -> bool:
    """Whether a value is a Future: of ours, or of any class with the three methods."""
    kind = type(value)
    return kind not in PLAIN and (issubclass(kind, Encodable) or has_future_methods(kind))


def described(future: Any) -> str:
    """A Future for error messages: a task by its name and arguments."""
    if isinstance(future, Item):
        return f"{described(future.future)}[{future.key!r}]"
    name, args = getattr(future, "task_name", None), getattr(future, "task_args", None)
    if not isinstance(name, str) or not isinstance(args, Mapping):
        return _cut(repr(future))
    return _cut(f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})")


def futures_in(value: Any, path: str) -> Iterator[tuple[str, Future[Any]]]:
    """Every Future in a value, with the path that leads to it.

    Looks into lists, dicts (keys too), tuples, sets, and fields of dataclasses; a FutureList
    or FutureDict is opened up, any other Future is not looked into.

    Args:
        value: anything.
        path: what the value is called; paths of its parts are like `path[3]` and `path['a']`.
    """
    if type(value) in PLAIN:
        return
    stack = [(path, value)]
    seen: set[int] = set()
    while stack:
        path, value = stack.pop()
        parts = _parts(path, value)
        if parts is None:
            if is_future(value):
                yield path, value
        elif id(value) not in seen:  # a container may contain itself
            seen.add(id(value))
            stack.extend(reversed(parts))


def _parts(path: str, value: Any) -> list[tuple[str, Any]] | None:
    """What a container holds, without what is plain; None if it is not looked into."""
    if isinstance(value, FutureList):
        _checked(enumerate(value), value)
    elif isinstance(value, FutureDict):
        _checked(value.items(), value)
    elif isinstance(value, Encodable):
        return None
    if isinstance(value, list | tuple):
        return [(f"{path}[{n}]", item) for n, item in enumerate(value) if type(item) not in PLAIN]
    if isinstance(value, dict):
        keys = [(f"{path}.keys()", key) for key in value if type(key) not in PLAIN]
        items = value.items()
        return keys + [(f"{path}[{_text(key)}]", item) for key, item in items if type(item) not in PLAIN]
    if isinstance(value, set | frozenset):
        # A set has no order that another process would agree to.
        members = [item for item in value if type(item) not in PLAIN]
        return [(f"{path}{{...}}", item) for item in sorted(members, key=_text)]
    if isinstance(value, type) or has_future_methods(type(value)):
        return None
    names = field_names(type(value))
    if names is None:
        return None
    return [(f"{path}.{name}", getattr(value, name)) for name in names if hasattr(value, name)]


def _text(key: Any) -> str:
    """A key as text that is the same in every process."""
    if type(key) in PLAIN:
        return repr(key)
    try:
        return canonical(Encoder().encode(key)).decode()
    except ArgumentError:
        return f"<{type(key).__qualname__}>"


def _checked(members: Iterable[tuple[Any, Any]], owner: Any) -> Iterable[tuple[Any, Any]]:
    """The members, if every one is a Future."""
    members = list(members)
    for key, member in members:
        if not is_future(member):
            raise ArgumentError(
                f"{type(owner).__name__}[{key!r}] is an object of class {type(member).__qualname__}, which "
                "is not a Future; put a task there, or the value as Const(value)"
            )
    return members


def _upstreams_of(value: Any) -> list[Task]:
    """The upstreams of all members, each once, however deep the lists and dicts stand."""
    found: dict[int, Task] = {}  # by identity: a task need not be hashable
    for _, future in futures_in(value, ""):
        for task in future.get_upstreams():
            found.setdefault(id(task), task)
    return list(found.values())


def _json_of(future: Encodable) -> dict[str, Any]:
    # Imported late, as tasks are Futures. The encoder of the open Cache knows lambdas, and what
    # plugins have registered.
    from taskproc.core.task import open_scope

    scope = open_scope()
    encoder = Encoder() if scope is None else scope.binding.encoder
    encoded: dict[str, Any] = encoder.encode(future, _cut(repr(future)))
    return encoded


def _contents(value: Any) -> str:
    """What there is to be had instead of a missing item."""
    kind = type(value).__qualname__
    if isinstance(value, Mapping):
        some = ", ".join(_cut(repr(key), 40) for key, _ in zip(value, range(10), strict=False))
        return (
            f"is a {kind} with the keys {some}{', ...' if len(value) > 10 else ''}"
            if some
            else f"is an empty {kind}"
        )
    if isinstance(value, Sequence):
        return f"is a {kind} of {len(value)} items"
    return f"is an object of class {kind}"


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
