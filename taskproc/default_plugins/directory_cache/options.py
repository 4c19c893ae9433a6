"""Read the options that stand behind the path of a directory cache: `./cache?shared=group`."""

from __future__ import annotations

import re
from typing import Any

from taskproc.errors import CacheError

_OPTIONS = re.compile(r"(?:trust|shared)=[^&?/]*(?:&(?:trust|shared)=[^&?/]*)*")


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """The path, and the options behind it; a `?` with anything else behind it is part of the path.

    Raises:
        CacheError: an option has a value that it can't have.
    """
    path, mark, query = text.rpartition("?")
    if not mark or not _OPTIONS.fullmatch(query):
        return text, {}
    options: dict[str, Any] = {}
    for word in query.split("&"):
        if word == "trust=true":
            options["trust"] = True
        elif word == "shared=group":
            options["shared"] = "group"
        else:
            raise CacheError(
                f"the cache {text!r} is given {word!r}: write '?trust=true', '?shared=group' or both with '&'"
            )
    return path, options
