"""What an open directory cache holds beyond its options, and how its folders are made.

Never pickled: every process begins anew.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from taskproc.default_plugins.directory_cache import root as roots
from taskproc.default_plugins.directory_cache.data_files import DataFiles
from taskproc.default_plugins.directory_cache.files import Files
from taskproc.default_plugins.directory_cache.index import Index
from taskproc.default_plugins.directory_cache.leases import Leases
from taskproc.default_plugins.directory_cache.look_up import Looker
from taskproc.default_plugins.directory_cache.names import Paths
from taskproc.errors import CacheError
from taskproc.interfaces import TaskKey

if TYPE_CHECKING:
    from taskproc.default_plugins.directory_cache.posts import Posts


class State:
    """The parts of one open cache."""

    def __init__(self, root: str, files: Files, trust: bool = False) -> None:
        self.root = root
        self.trust = trust
        self.files = files
        self.is_made = False
        self.paths = Paths(root)
        self.data_files = DataFiles()
        self.looker = Looker(self.paths, Index(f"{root}/index.jsonl", files), self.data_files)
        self.leases = Leases(f"{root}/leases", files)
        # Keys of jobs under way that had nothing on the disk when they began: no old logs.
        self.new: set[TaskKey] = set()
        self._guard = threading.Lock()
        self._posts: Posts | None = None

    @property
    def posts(self) -> Posts:
        """The posts of runs; one object, as it holds the locks of those of this process."""
        with self._guard:
            if self._posts is None:
                from taskproc.default_plugins.directory_cache.posts import Posts  # a worker has none

                self._posts = Posts(f"{self.root}/runs", self.files)
            return self._posts

    def make_root(self) -> None:
        """Make the root where it is missing. Raises CacheError if that can't be done."""
        if not self.is_made:
            roots.make(self.root, self.trust, self.files)
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
        try:
            return files.make_directory(entry)
        except (FileNotFoundError, NotADirectoryError):
            self.is_made = False  # somebody may have removed the whole cache
            self.make_root()
            files.make_directory(self.paths.task(key.name))
            return files.make_directory(entry)
