"""The root of a directory cache: whether it is ours and safe to read, and how it is made.

Knows nothing of what stands in it, but for the marker `taskproc.json`.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from typing import Any

from taskproc.default_plugins.directory_cache.files import Files, read_file
from taskproc.default_plugins.directory_cache.rules import Rules
from taskproc.errors import CacheError
from taskproc.interfaces import JSON

MARKER = "taskproc.json"
VERSION = 1
"""The number of the cache's layout; a cache of a newer one is refused."""

GROUP = "group"
"""What `shared` is of a cache that the members of a group share, in its options and in its marker."""

_MARKER_LIMIT = 1 << 16


def check(root: str, rules: Rules) -> None:
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
    try:
        names = os.listdir(root)
    except OSError as error:
        if not rules.trust:
            _check_owner(root, status, rules)  # which tells more
        raise CacheError(
            f"the cache {root!r} can't be read: {error.strerror};"
            " change its permissions, or choose another path"
        ) from error
    if MARKER in names:
        # Before anything inside is read: the marker is the first.
        _check_owner(root, status, rules)
        _check_marker(root, status, rules)
    elif _holds_something(names):
        raise CacheError(
            f"the directory {root!r} is not empty and not a cache of taskproc (it has no {MARKER});"
            " choose an empty directory, or a new path"
        )
    elif status.st_uid != os.geteuid():  # what is ours and empty gets the right modes from `make`
        _check_owner(root, status, rules)


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


def _check_owner(root: str, status: os.stat_result, rules: Rules) -> None:
    fault = rules.fault_of_owner(status, root)
    if not fault:
        return
    is_foreign = fault.startswith("it belongs")
    way_out = "choose a path of your own" if is_foreign else "take that right away (chmod -R go-w)"
    if status.st_mode & stat.S_IWGRP and not rules.shared:
        say_so = "Cache(..., shared='group'), or '?shared=group' behind its path"
        way_out += f", or, if a group shares it, say so ({say_so})"
    raise CacheError(
        f"the cache {root!r} is not safe to read: {fault}, and reading a result can run whatever code its"
        f" writer put in; {way_out}, or say that you trust whoever can write there (Cache(..., trust=True),"
        " or '?trust=true' behind its path)"
    )


def _check_marker(root: str, status: os.stat_result, rules: Rules) -> None:
    marker = _read_marker(root, rules)
    version: Any = marker.get("version")
    if type(version) is not int or version > VERSION:
        raise CacheError(
            f"the cache {root!r} is of layout {version!r}, made by a newer taskproc, and this one knows up to"
            f" {VERSION}; update taskproc, or choose another path"
        )
    if not rules.shared:
        return
    if marker.get("shared") != GROUP:
        raise CacheError(
            f"the cache {root!r} was not made to be shared by a group; leave shared='group' out, choose a new"
            " path, or make it one: chgrp -R GROUP, chmod -R g+rwX, chmod g+s on every folder, and"
            f' "shared": "group" beside the version in {MARKER}'
        )
    if os.geteuid() not in (0, status.st_uid) and status.st_gid not in (os.getegid(), *os.getgroups()):
        raise CacheError(
            f"the cache {root!r} is shared by the group {status.st_gid}, of which you are no member;"
            " choose another path, or ask to be made one"
        )


def _read_marker(root: str, rules: Rules) -> dict[str, Any]:
    path = os.path.join(root, MARKER)
    try:
        data, status = read_file(path, _MARKER_LIMIT)
        if fault := rules.fault(status, path):
            raise PermissionError(errno.EPERM, fault, path)
        marker: Any = json.loads(data)
        if type(marker) is not dict or "version" not in marker:
            raise ValueError("it tells no version")
    except (OSError, ValueError, RecursionError) as error:
        fault = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise CacheError(
            f"{path!r}, which marks a cache, can't be read ({fault});"
            ' if this is a cache of yours, put {"version": 1} into a new file of that name'
        ) from error
    return marker


def is_shared(root: str, rules: Rules) -> bool:
    """Whether a group shares the cache that is there."""
    return is_marked(root) and _read_marker(root, rules).get("shared") == GROUP


def make(root: str, files: Files) -> None:
    """Make the root and its marker where they are missing.

    Raises:
        CacheError: what is there now is not ours (see `check`), or it can't be made.
    """
    rules = files.rules
    check(root, rules)
    if is_marked(root):
        return
    marker: dict[str, JSON] = {"what": "a cache of taskproc", "version": VERSION}
    if rules.shared:
        marker["shared"] = GROUP
    try:
        files.make_parents(root)
        if not os.path.isdir(root):
            files.make_directory(root)
        else:
            files.give_mode(root)
            check(root, rules)  # somebody may have put something in as long as they could
        status = os.stat(root)
        if status.st_uid == os.geteuid() and rules.fault_of_owner(status, root):
            raise CacheError(
                f"the cache {root!r} can't be made safe: its file system keeps no permissions, so others can"
                " write there; choose a path on another one, or say that you trust whoever can write there"
                " (Cache(..., trust=True), or '?trust=true' behind its path)"
            )
        files.write(os.path.join(root, MARKER), (json.dumps(marker).encode() + b"\n",), durable=True)
        # Before anything else is in it: what has no marker after a power cut is nobody's cache.
        files.sync_directory(root)
    except OSError as error:
        raise CacheError(
            f"the cache {root!r} can't be made: {error.strerror}; choose another path"
        ) from error
    files.sync_above(root)


def unwritable(root: str, error: OSError) -> CacheError:
    """The error for a cache that is there and can't be written to."""
    return CacheError(
        f"the cache {root!r} can't be written to: {error.strerror}: {error.filename!r};"
        " make it writable, or choose another path"
    )


def is_marked(root: str) -> bool:
    """Whether the root is a cache of ours."""
    try:
        return stat.S_ISREG(os.lstat(os.path.join(root, MARKER)).st_mode)
    except OSError:
        return False


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
