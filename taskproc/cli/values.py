"""Read what the user typed: NAME=VALUE, LABEL=COMMAND, JSON objects.

Knows nothing of click or of tasks: texts in, plain values out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskproc.errors import ArgumentError, PrefixError, RateLimitError, UsageError


def split_assignments(option: str, form: str, texts: Iterable[str]) -> dict[str, str]:
    """The texts of a repeatable option, each split at its first '='.

    Raises:
        UsageError: a text has no '=' or no name, or a name is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"{option} {text!r} can't be read; it must be {form}")
        if name in found:
            raise UsageError(f"{option}: {name!r} is given twice, as {found[name]!r} and as {value!r}")
        found[name] = value
    return found


def json_object(option: str, text: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Raises:
        ArgumentError: it is not JSON, not an object, or has a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ArgumentError(f"{option}: {name!r} is given twice")
            found[name] = value
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(
            f"{option} {_short(text)} is not JSON ({error}); it must be a JSON object such as "
            """'{"name": 1}' (in a shell, put it in single quotes)"""
        ) from None
    if not isinstance(value, dict):
        raise ArgumentError(
            f"{option} {_short(text)} is not a JSON object; it must be one, such as '{{\"name\": 1}}'"
        )
    return value


def objects_and_assignments(
    option: str, form: str, texts: Iterable[str]
) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Split an option's texts into the JSON object among them (or None) and the NAME=VALUE rest.

    Raises:
        UsageError: a text can't be read, or a name is given twice, in whichever form.
    """
    texts = list(texts)
    objects = [text for text in texts if text.lstrip().startswith("{")]
    assigned = split_assignments(option, form, [text for text in texts if text not in objects])
    whole: dict[str, Any] | None = None
    for text in objects:
        for name, value in (found := json_object(option, text)).items():
            if whole is not None and name in whole:
                raise UsageError(f"{option}: {name!r} is given twice, as {whole[name]!r} and as {value!r}")
            if name in assigned:
                raise UsageError(f"{option}: {name!r} is given twice, as {value!r} and as {assigned[name]!r}")
        whole = {**(whole or {}), **found}
    return whole, assigned


def check_prefixes(option: str, prefixes: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The prefixes as they are, each a text or a list of texts.

    Raises:
        PrefixError: one is something else.
    """
    for label, prefix in prefixes.items():
        words = [prefix] if isinstance(prefix, str) else prefix
        if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
            raise PrefixError(
                f"{option}: the prefix of {label!r} is {prefix!r}; it must be a text or a list of texts"
            )
    return dict(prefixes)


def check_rate_limits(option: str, limits: Mapping[str, Any]) -> dict[str, int]:
    """The limits as integers of 1 or more; texts are read.

    Raises:
        RateLimitError: one is something else.
    """
    return {label: _rate_limit(option, label, limit) for label, limit in limits.items()}


def _rate_limit(option: str, label: str, limit: Any) -> int:
    if isinstance(limit, str) and limit.strip().isdecimal():
        limit = int(limit)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise RateLimitError(
            f"{option}: the rate limit of {label!r} is {limit!r}; it must be an integer of 1 or more"
        )
    return limit


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
