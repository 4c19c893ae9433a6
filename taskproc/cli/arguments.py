"""Decide the arguments of the entry task: `-a NAME=VALUE` by the constructor's annotations, over JSON.

Does not construct the task: whether the arguments fit is for the task to say.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from taskproc.cli.conversion import Misfit, describe, from_text
from taskproc.errors import ArgumentError
from taskproc.registry.components import did_you_mean


def entry_arguments(cls: type, kwargs: Mapping[str, Any], assigned: Mapping[str, str]) -> dict[str, Any]:
    """The arguments for `cls`: `kwargs` as they are, the assigned texts converted.

    Raises:
        ArgumentError: no such parameter, or a text that its annotation does not take.
    """
    parameters = constructor_parameters(cls) if assigned else {}
    converted = {name: _convert(cls, name, text, parameters) for name, text in assigned.items()}
    return {**kwargs, **converted}


def constructor_parameters(cls: type) -> dict[str, Parameter]:
    """The parameters of a class's `__init__`, self aside, with annotations that are resolved."""
    function = inspect.unwrap(cls.__init__)  # type: ignore[misc]  # of the class, not of an instance
    if function is object.__init__:
        return {}
    try:
        found = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return {}
    return {item.name: item.replace(annotation=_annotation(function, item)) for item in found}


def signature_text(cls: type) -> str:
    """The parameters as a person would write them: 'n: int, k: int = 1'."""
    return ", ".join(_parameter_text(item) for item in constructor_parameters(cls).values())


def _convert(cls: type, name: str, text: str, parameters: Mapping[str, Parameter]) -> Any:
    keywords = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    parameter = next((item for item in keywords if item.name == name), None)
    if parameter is None:
        parameter = next((p for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
    if parameter is None:
        hint = did_you_mean(name, [item.name for item in keywords])
        has = f"it takes ({signature_text(cls)})" if parameters else "it takes no arguments"
        raise ArgumentError(f"-a {name}={text}: {cls.__qualname__} has no parameter {name!r}; {has}{hint}")
    try:
        return from_text(text, parameter.annotation)
    except Misfit as misfit:
        detail = f" ({misfit})" if str(misfit) else ""
        raise ArgumentError(
            f"-a {name}={text}: the parameter {name!r} of {cls.__qualname__} wants "
            f"{describe(parameter.annotation)}, not {text!r}{detail}"
        ) from None


def _annotation(function: Any, parameter: Parameter) -> Any:
    """The parameter's annotation with its names resolved; Any if there is none or it can't be."""
    if parameter.annotation is parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    names = dict(getattr(function, "__globals__", {}))
    try:
        return typing.get_type_hints(holder, globalns=names, localns=names, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - whatever a user's annotation raises (names under TYPE_CHECKING)
        return Any


def _parameter_text(parameter: Parameter) -> str:
    text: str = parameter.name
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        text = ("*" if parameter.kind is Parameter.VAR_POSITIONAL else "**") + text
    if parameter.annotation is not Any:
        text += f": {describe(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {parameter.default!r}"
    return text
