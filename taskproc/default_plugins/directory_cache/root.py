"""The root of a directory cache: whether it is ours and safe to read, and how it is made.

Knows nothing of what stands in it, but for the marker `taskproc.json`.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from typing import Any

from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.errors import CacheError

MARKER = "taskproc.json"
VERSION = 1
"""The number of the cache's layout; a cache of a newer one is refused."""


def check(root: str, trust: bool) -> None:
    """Raise CacheError unless there is a cache of ours at `root`, or one could be made."""
    try:
        status = os.stat(root)
    except FileNotFoundError:
        _check_parent(root)
        return
    except OSError as error:
        raise CacheError(
            f"the cache {root!r} can't be used: {error.strerror}; choose another path"
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise CacheError(f"the cache path {root!r} is a file; choose a directory, or a new path")
    if not trust:
        _check_owner(root, status)
    try:
        names = os.listdir(root)
    except OSError as error:
        raise CacheError(
            f"the cache {root!r} can't be read: {error.strerror};"
            " change its permissions, or choose another path"
        ) from error
    if MARKER in names:
        _check_marker(root)
    elif _holds_something(names):
        raise CacheError(
            f"the directory {root!r} is not empty and not a cache of taskproc (it has no {MARKER});"
            " choose an empty directory, or a new path"
        )


def _holds_something(names: Iterable[str]) -> bool:
    # Hidden files, and a marker whose writer was killed, do not make a directory somebody else's.
    return not all(name.startswith((".", f"{MARKER}.")) for name in names)


def _check_parent(root: str) -> None:
    parent = os.path.dirname(root)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise CacheError(
            f"the cache {root!r} can't be made: {parent!r} is not a directory; choose another path"
        )
    if os.path.islink(root):
        raise CacheError(f"the cache path {root!r} is a link to nowhere; remove it, or choose another path")


def _check_owner(root: str, status: os.stat_result) -> None:
    way_out = "or say that you trust them: add '?trust=true' to its path, or DirectoryCache(..., trust=True)"
    danger = "reading a result can run whatever code its writer put in"
    if status.st_uid not in (0, os.geteuid()):
        raise CacheError(
            f"the cache {root!r} belongs to another user (uid {status.st_uid}), and {danger};"
            f" choose a path of your own, {way_out}"
        )
    if status.st_mode & stat.S_IWOTH:
        raise CacheError(
            f"every user can write to the cache {root!r}, and {danger};"
            f" take that right away (chmod o-w), {way_out}"
        )


def _check_marker(root: str) -> None:
    path = os.path.join(root, MARKER)
    try:
        data, _ = read_file(path)
        version: Any = json.loads(data)["version"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CacheError(
            f"{path!r}, which marks a cache, can't be read ({error});"
            ' if this is a cache of yours, put {"version": 1} into that file'
        ) from error
    if type(version) is not int or version > VERSION:
        raise CacheError(
            f"the cache {root!r} is of layout {version!r}, made by a newer taskproc, and this one knows up to"
            f" {VERSION}; update taskproc, or choose another path"
        )


def make(root: str, trust: bool, files: Files) -> None:
    """Make the root and its marker where they are missing.

    Raises:
        CacheError: what is there now is not ours (see `check`), or it can't be made.
    """
    check(root, trust)
    if is_marked(root):
        return
    try:
        files.make_parents(root)
        files.make_directory(root)
        content = json.dumps({"what": "a cache of taskproc", "version": VERSION}).encode() + b"\n"
        files.write(os.path.join(root, MARKER), (content,), durable=True)
    except OSError as error:
        raise CacheError(
            f"the cache {root!r} can't be made: {error.strerror}; choose another path"
        ) from error


def unwritable(root: str, error: OSError) -> CacheError:
    """The error for a cache that is there and can't be written to."""
    return CacheError(
        f"the cache {root!r} can't be written to: {error.strerror}: {error.filename!r};"
        " make it writable, or choose another path"
    )


def is_marked(root: str) -> bool:
    """Whether the root is a cache of ours."""
    return os.path.lexists(os.path.join(root, MARKER))


def must_be_made(root: str) -> None:
    """Raise CacheError unless there is a cache of ours at `root`."""
    if not is_marked(root):
        raise CacheError(
            f"there is no cache at {root!r} (it has no {MARKER}, which a run makes): check the path"
        )


def may_delete(root: str) -> bool:
    """Whether there is a cache to delete from; False if there is nothing at all.

    Raises:
        CacheError: the directory is not a cache of ours.
    """
    if is_marked(root):
        return True
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        names = [root]
    if _holds_something(names):
        raise CacheError(
            f"nothing is removed from {root!r}: it has no {MARKER}, so it is not known to be a cache;"
            " check the path, and remove what you don't need by hand"
        )
    return False
