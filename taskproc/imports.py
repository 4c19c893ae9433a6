"""Decide whether Python's own bytecode of a project's module may be trusted, and import accordingly.

Python takes a `.pyc` for the source's if the size and the time, in whole seconds, are those it
noted: after an edit within the second that keeps the size it runs the old code. Only for the
modules of the user's project, and only while it is asked to. Knows nothing of tasks or caches.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source
from types import ModuleType
from typing import Any

from taskproc.errors import TaskFileError
from taskproc.modules import FreshLoader, installed_folders, is_installed

TICK_NANOSECONDS = 2_000_000_000  # the coarsest clock of a file system in use
_HEADER = 16  # bytes before the code: magic number, flags, then time and size, or a hash


class ProjectLoader(SourceFileLoader):
    """Loads a source file as Python does, but for bytecode that may be older than the source.

    That is neither read nor, as long as the source may change within the tick, written.
    """

    def get_data(self, path: str) -> bytes:
        """The bytes of a file; bytecode not to be trusted is as good as not there.

        Raises:
            OSError: it can't be read, or is not to be trusted.
        """
        if not path.endswith(".pyc") or path != cache_from_source(self.path):
            return super().get_data(path)
        # Asked in this order, a file that is replaced in between looks too old, never too new.
        written = os.stat(path).st_mtime_ns
        data = super().get_data(path)
        if not (_is_by_content(data) or _is_later(written, self.path)):
            raise FileNotFoundError(f"{path} may be older than the last change of {self.path}")
        return data

    def set_data(self, path: str, data: Any, **options: Any) -> None:
        """Write bytecode, unless the next start could not trust it anyway."""
        with contextlib.suppress(OSError):
            if _is_by_content(data) or _is_later(time.time_ns(), self.path):
                super().set_data(path, data, **options)


class ProjectFinder:
    """Finds what `PathFinder` finds, and gives the sources of the user's project a `ProjectLoader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module; None if `PathFinder` finds none, or for it alone to find."""
        if fullname.partition(".")[0] == "taskproc":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            loader = spec.loader
            # A subclass is somebody's own, who knows better what to do.
            if type(loader) is SourceFileLoader and not is_installed(loader.path):
                spec.loader = ProjectLoader(loader.name, loader.path)
        return spec


def forbid_stale_bytecode() -> ProjectFinder | None:
    """Import the project's modules as their sources are now, from here on in this process.

    Returns:
        What was put on `sys.meta_path`; None if it was there already.
    """
    if any(type(finder) is ProjectFinder for finder in sys.meta_path):
        return None
    # Not before the others: what they find (built in, rewritten by pytest) stays theirs.
    try:
        place = sys.meta_path.index(PathFinder)
    except ValueError:  # somebody else says how files are found here
        return None
    installed_folders()  # to find them out takes imports of its own: before we are asked about those
    finder = ProjectFinder()
    sys.meta_path.insert(place, finder)
    return finder


@contextlib.contextmanager
def no_stale_bytecode() -> Iterator[None]:
    """The same for as long as the block lasts."""
    finder = forbid_stale_bytecode()
    try:
        yield
    finally:
        if finder is not None:
            with contextlib.suppress(ValueError):
                sys.meta_path.remove(finder)


def refuse_stale_modules() -> None:
    """See to it that no module of the project was loaded from old bytecode before we were asked.

    Raises:
        TaskFileError: one was; its bytecode is then removed, so that the next start is right.
    """
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        loader, bytecode = getattr(spec, "loader", None), getattr(spec, "cached", None)
        if type(loader) is not SourceFileLoader or bytecode is None or is_installed(loader.path):
            continue
        if _is_stale(bytecode, loader):
            with contextlib.suppress(OSError):
                os.unlink(bytecode)
            way_out = "delete that file" if os.path.exists(bytecode) else "that is removed now"
            raise TaskFileError(
                f"{loader.path} was changed so that Python did not notice (within the second, or with its "
                f"time kept, and to the same size), and ran the old bytecode {bytecode}; {way_out}: run again"
            )


def compiles_plainly(loader: object) -> bool:
    """Whether what a module's loader runs is what Python makes of the source, and nothing else."""
    return type(loader) in (SourceFileLoader, ProjectLoader, FreshLoader)


def _is_later(moment: int, source: str) -> bool:
    """Whether a moment is so late that the source did not change since, whatever its times say."""
    status = os.stat(source)
    # The second is the one that can't be set back: by `cp -p`, by unpacking, by `touch -d`.
    return moment - max(status.st_mtime_ns, status.st_ctime_ns) > TICK_NANOSECONDS


def _is_by_content(data: bytes) -> bool:
    """Whether bytecode goes by a hash of the source, or is stated to need no check at all."""
    return len(data) >= _HEADER and bool(data[4] & 1)


def _is_stale(bytecode: str, loader: SourceFileLoader) -> bool:
    """Whether Python takes this bytecode for valid, although the source makes another."""
    name = loader.name
    try:
        if _is_later(os.stat(bytecode).st_mtime_ns, loader.path):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the source: they were told when it was imported
            return loader.get_code(name) != ProjectLoader(name, loader.path).get_code(name)
    except (OSError, ImportError, EOFError, ValueError, SyntaxError):
        return False  # no longer what was imported, or not even Python
