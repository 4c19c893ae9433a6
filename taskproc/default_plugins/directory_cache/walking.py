"""Go through all that stands in a directory cache, and tell of each folder which task it is of.

Follows no link. Only looks; what is found there is for others to judge.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from taskproc.default_plugins.directory_cache import names
from taskproc.default_plugins.directory_cache.entry import ASIDE, DAMAGED, RECORD, is_own
from taskproc.default_plugins.directory_cache.files import read_file, written_for
from taskproc.default_plugins.directory_cache.formats import decode_record
from taskproc.default_plugins.directory_cache.journal import read_failure
from taskproc.interfaces import TaskKey


class Folder(NamedTuple):
    """A folder that may be an entry's: where it stands, and what is in it (name -> kind of file)."""

    path: str
    key: TaskKey | None
    names: dict[str, str]

    @property
    def is_entry(self) -> bool:
        """Whether anything in it is of an entry, or it is empty."""
        return not self.names or any(is_own(name) for name in self.names)


class Stray(NamedTuple):
    """Something that is not of this cache; `in_place` if it stands where a folder of ours has to be.

    `fault` is what keeps runs from what is there, if that is not what it is.
    """

    path: str
    what: str
    in_place: bool = False
    fault: str = ""


def walk(root: str) -> Iterator[Folder | Stray]:
    """The folders of all entries, and what stands beside them; one folder is read at a time.

    Raises:
        OSError: the root can't be read.
    """
    with os.scandir(root) as inside:
        found = sorted((item.name, _kind(item)) for item in inside)
    for name, kind in found:
        path = f"{root}/{name}"
        if name in names.RESERVED_FOLDERS:
            if kind == "folder":
                yield from _unreadable(path)
            else:
                yield Stray(path, kind, in_place=True)
            continue
        # Not by how a name begins: `jobs.Train` is a task of a module that is called `jobs`.
        if name in names.RESERVED or written_for(name) in names.RESERVED_FILES or name.startswith("."):
            continue
        if kind == "folder":
            yield from _entries(path, name)
        elif kind == "link" and _holds_entries(path):
            fault = "a link is in the place of a task's folder: nothing is written or removed behind it, and "
            yield Stray(
                path, kind, fault=f"{fault}what is there is not checked; put the folder itself in its place"
            )
        else:
            yield Stray(path, kind)


def _holds_entries(path: str) -> bool:
    """Whether a run could find entries there: only names are read."""
    try:
        with os.scandir(path) as inside:
            return any(names.is_key(item.name) for item in inside)
    except OSError:
        return False


def _entries(path: str, task_folder: str) -> Iterator[Folder | Stray]:
    try:
        with os.scandir(path) as inside:
            found = sorted((item.name, _kind(item)) for item in inside)
    except OSError:
        yield from _unreadable(path)
        return
    for name, kind in found:
        if name.startswith("."):
            continue
        if kind != "folder":
            yield Stray(f"{path}/{name}", kind, in_place=names.is_key(name))
        elif (folder := look(path, task_folder, name)) is not None:
            yield folder if folder.is_entry else Stray(folder.path, "folder")
        else:
            yield from _unreadable(f"{path}/{name}")


def _unreadable(path: str) -> Iterator[Stray]:
    """Tell of a folder that it can't be read, if so, and if it is still there."""
    try:
        os.scandir(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        text = f"the folder can't be read: {error.strerror}; give yourself access to it (chmod -R u+rwX)"
        yield Stray(path, "folder", fault=text)


def look(path: str, task_folder: str, leaf: str) -> Folder | None:
    """What is now in the folder of an entry; None if it is gone or can't be read."""
    entry = f"{path}/{leaf}"
    try:
        with os.scandir(entry) as inside:
            found = {item.name: _kind(item) for item in inside}
    except OSError:
        return None
    return Folder(entry, key_at(entry, task_folder, leaf), found)


def key_at(entry: str, task_folder: str, leaf: str) -> TaskKey | None:
    """Which task the folder of an entry is of: by its place, else by what is in it."""
    name = _unescaped(task_folder)
    if name is not None and names.is_key(leaf):
        return TaskKey(name, leaf)
    for record in (RECORD, RECORD + ASIDE, RECORD + DAMAGED):
        try:
            decoded = decode_record(read_file(f"{entry}/{record}")[0])
        except OSError:
            continue
        if decoded is not None and _is_place(decoded[0].key, task_folder, leaf):
            return decoded[0].key
    failure = read_failure(entry, None)
    if failure is not None and _is_place(failure.key, task_folder, leaf):
        return failure.key
    return None


def _is_place(key: TaskKey, task_folder: str, leaf: str) -> bool:
    return names.folder_name(key.name) == task_folder and names.leaf(key) == leaf


def _unescaped(folder: str) -> str | None:
    """The name of which this is the folder; None if the folder does not tell."""
    if folder == "%":
        return ""
    try:
        name = unquote_to_bytes(folder).decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    return name if name and names.folder_name(name) == folder else None


def _kind(item: os.DirEntry[str]) -> str:
    try:
        if item.is_symlink():
            return "link"
        if item.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if item.is_file(follow_symlinks=False) else "special file"
    except OSError:
        return "special file"
