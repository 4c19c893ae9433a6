"""Decide which parameter of a constructor gets which argument.

`A(1)`, `A(1, 1)` and `A(n=1, k=1)` so become one and the same. Knows nothing of what the
arguments are.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from taskproc.errors import ArgumentError


def default_factories(cls: type) -> dict[str, Callable[[], Any]]:
    """What makes the defaults of those parameters that a dataclass or attrs class has a factory for.

    Their signatures hold a placeholder there, which is no value.
    """
    if dataclasses.is_dataclass(cls):
        fields = dataclasses.fields(cls)
        return {field.name: field.default_factory for field in fields if callable(field.default_factory)}
    attributes = [a for a in getattr(cls, "__attrs_attrs__", ()) if hasattr(a.default, "takes_self")]
    return {a.alias: a.default.factory for a in attributes if not a.default.takes_self}


class Binder:
    """Binds arguments to the parameters of one constructor.

    Args:
        function: an `__init__`, taking the object first.
        owner_name: what error messages call it.
        factories: for a dataclass or an attrs class, what makes the defaults (see `default_factories`).
    """

    __slots__ = ("_defaults", "_factories", "_is_plain", "_names", "_owner", "_positional", "signature")

    def __init__(
        self,
        function: Callable[..., Any],
        owner_name: str,
        factories: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        self.signature = _signature_after_self(function)
        parameters = self.signature.parameters.values()
        self._owner = owner_name
        self._names = tuple(self.signature.parameters)
        self._factories = {name: make for name, make in (factories or {}).items() if name in self._names}
        self._positional = sum(p.kind is Parameter.POSITIONAL_OR_KEYWORD for p in parameters)
        self._is_plain = all(
            p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) for p in parameters
        )
        self._defaults = {p.name: p.default for p in parameters if p.default is not Parameter.empty}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every parameter, in the order of the signature, defaults filled in.

        `*args` stands as a tuple under its name, `**kwargs` as a dict under its name.

        Raises:
            ArgumentError: the arguments do not fit the signature.
        """
        names = self._names
        given = len(args)
        if not self._is_plain or given > self._positional:
            return self._bind_slowly(args, kwargs)
        bound = dict(zip(names, args, strict=False))
        if given == len(names) and not kwargs:
            return bound
        used = 0
        for name in names[given:]:
            if name in kwargs:
                bound[name] = kwargs[name]
                used += 1
            elif name in self._factories:
                bound[name] = self._factories[name]()
            elif name in self._defaults:
                bound[name] = self._defaults[name]
            else:
                return self._bind_slowly(args, kwargs)
        return bound if used == len(kwargs) else self._bind_slowly(args, kwargs)

    def call(self, function: Callable[..., Any], owner: Any, bound: Mapping[str, Any]) -> Any:
        """Call `function` on `owner` with values that `bind` has bound."""
        if self._is_plain:
            return function(owner, **bound)
        arguments = inspect.BoundArguments(self.signature, dict(bound))
        return function(owner, *arguments.args, **arguments.kwargs)

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(
                f"{self._owner}: {error}; its signature is {self._owner}{_shown(self.signature)}"
            ) from None
        made = {name: make() for name, make in self._factories.items() if name not in bound.arguments}
        bound.apply_defaults()
        return {name: made.get(name, value) for name, value in bound.arguments.items()}


def _signature_after_self(function: Callable[..., Any]) -> inspect.Signature:
    if function is object.__init__:
        # Its text says (*args, **kwargs), but it takes nothing.
        return inspect.Signature()
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind is not Parameter.VAR_POSITIONAL:
        del parameters[0]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


class _AsWritten(str):
    """An annotation that is kept as text, shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _shown(signature: inspect.Signature) -> str:
    parameters = [
        p.replace(annotation=_AsWritten(p.annotation)) if isinstance(p.annotation, str) else p
        for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))
