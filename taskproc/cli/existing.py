"""Open a cache that is there already, for the commands that only look at it.

Decides what counts as there; what is in it is for the commands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from taskproc.errors import CacheError

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


def cache_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which cache: `output` and `plugins`."""
    output = click.option(
        "-o",
        "--output",
        required=True,
        metavar="CACHE",
        help="Where the results are: a path, or NAME:REST for the cache backend NAME. Required.",
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
