"""Open a cache that is there already, for the commands that only look at it.

Decides what counts as there; what is in it is for the commands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from taskproc.errors import CacheError, UsageError

if TYPE_CHECKING:
    from taskproc.interfaces import CacheBackend


def existing_backend(output: str, plugins: Sequence[str]) -> CacheBackend:
    """The cache backend of the text after `-o`, checked; nothing is made.

    Raises:
        CacheError: there is no cache, or it can't be used.
        PluginError: a plugin that was asked for can't be loaded, or there is no such backend.
    """
    from taskproc.registry import Registry

    backend = Registry(plugins).cache_backend(output)
    location = backend.location
    # Of a URL only its backend could tell; what is a path is not there before the first run.
    if os.path.isabs(location) and not os.path.lexists(location):
        raise CacheError(f"there is no cache at {location!r}: check the path (a run makes it)")
    backend.open()
    return backend


def made_backend(
    output: str | None, words: Sequence[str], plugins: Sequence[str]
) -> tuple[CacheBackend, list[str]]:
    """The backend of a cache that was made before, and the words behind it.

    The cache stands behind `-o`, or else it is the first of the words.

    Raises:
        UsageError: no cache is named, there is none, or it can't be used.
        PluginError: a plugin that was asked for can't be loaded, or there is no such backend.
    """
    if output is None and not words:
        raise UsageError("which cache? Give it as the first word, or behind -o")
    rest = list(words)
    backend = existing_backend(rest.pop(0) if output is None else output, plugins)
    backend.must_exist()
    return backend, rest


def cache_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which cache: `output` and `plugins`."""
    return _cache_options(function, is_required=True)


def cache_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same where the cache may also be the first word (see `made_backend`)."""
    return _cache_options(function, is_required=False)


def _cache_options(function: Callable[..., Any], is_required: bool) -> Callable[..., Any]:
    output = click.option(
        "-o",
        "--output",
        required=is_required,
        metavar="CACHE",
        help="Where the results are: a path, or NAME:REST for the cache backend NAME."
        + (" Required." if is_required else " Else the first word says it."),
    )
    plugins = click.option(
        "-p",
        "--plugin",
        "plugins",
        multiple=True,
        metavar="PLUGIN",
        help="Load a plugin (NAME or ./FILE.py), or leave one out (no:NAME). Repeatable.",
    )
    return output(plugins(function))
