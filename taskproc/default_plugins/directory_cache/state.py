"""What an open directory cache holds beyond its options, and how its folders are made.

Never pickled: every process begins anew.
"""

# os.* on plain strings: what a cache costs is its system calls, and pathlib doubles them.

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from taskproc.default_plugins.directory_cache import root as roots
from taskproc.default_plugins.directory_cache.data_files import DataFiles
from taskproc.default_plugins.directory_cache.entry import refuse_link
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.index import Index
from taskproc.default_plugins.directory_cache.leases import Leases
from taskproc.default_plugins.directory_cache.look_up import Looker
from taskproc.default_plugins.directory_cache.names import Paths
from taskproc.errors import CacheError
from taskproc.interfaces import TaskKey

if TYPE_CHECKING:
    from taskproc.default_plugins.directory_cache.durability import Durability
    from taskproc.default_plugins.directory_cache.posts import Posts


class State:
    """The parts of one open cache."""

    def __init__(self, root: str, files: Files) -> None:
        self.root = root
        self.files = files
        self.is_made = False
        self.paths = Paths(root)
        self.data_files = DataFiles()
        self.looker = Looker(self.paths, Index(f"{root}/index.jsonl", files), self.data_files, files.rules)
        self.leases = Leases(f"{root}/leases", files)
        # Keys of jobs under way that had nothing on the disk when they began: no old logs.
        self.new: set[TaskKey] = set()
        self._real_folders: set[str] = set()  # the folders of task names that are known to be no links
        self._guard = threading.Lock()
        self._posts: Posts | None = None
        self._durability: Durability | None = None

    @property
    def posts(self) -> Posts:
        """The posts of runs; one object, as it holds the locks of those of this process."""
        with self._guard:
            if self._posts is None:
                from taskproc.default_plugins.directory_cache.posts import Posts  # a worker has none

                self._posts = Posts(f"{self.root}/runs", self.files)
            return self._posts

    @property
    def durability(self) -> Durability:
        """What is known to be on the disk."""
        with self._guard:
            if self._durability is None:
                from taskproc.default_plugins.directory_cache.durability import (
                    Durability,
                )  # cheap tasks have none

                self._durability = Durability(self.files, self.paths)
            return self._durability

    def make_root(self) -> None:
        """Make the root where it is missing. Raises CacheError if that can't be done."""
        if not self.is_made:
            roots.make(self.root, self.files)
            self.is_made = True

    def has_root(self) -> bool:
        """Make the root where it is missing; whether it is there then. For what is only an aid."""
        try:
            self.make_root()
        except CacheError:
            return False
        return True

    def make_entry(self, key: TaskKey) -> bool:
        """Make the entry's folder, and what is missing above it; False if it was there."""
        files, entry = self.files, self.paths.entry(key)
        self.check_folder(key)
        try:
            return files.make_directory(entry)
        except (FileNotFoundError, NotADirectoryError):
            self.is_made = False  # somebody may have removed the whole cache
            self.make_root()
            files.make_directory(self.paths.task(key.name))
            return files.make_directory(entry)

    def check_place(self, key: TaskKey) -> None:
        """Raise CacheError if the folder of an entry, or the one above it, is a link.

        What is behind a link may be anything of the user's; an entry on another disk is read,
        and nothing is written or removed there.
        """
        self.check_folder(key)
        refuse_link(self.paths.entry(key))

    def is_behind_link(self, key: TaskKey) -> bool:
        """Whether `check_place` would raise."""
        try:
            self.check_place(key)
        except CacheError:
            return True
        return False

    def check_folder(self, key: TaskKey) -> None:
        """The same for the folder above the entry alone, the folder of the task's name."""
        # Once a process and task name: nobody but the cache's owner can put a link there meanwhile.
        if key.name not in self._real_folders:
            folder = self.paths.task(key.name)
            refuse_link(folder)
            if os.path.isdir(folder):
                self._real_folders.add(key.name)
