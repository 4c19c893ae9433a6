"""A project of a few small files that is edited and run again and again, each time as if by a new process."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from taskproc import Cache


class EditedProject:
    """Source files in a folder that is on the import path, and a cache beside them.

    Args:
        folder: where the files go.
        monkeypatch: takes the folder off the import path after the test.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.cache = folder / "cache"
        monkeypatch.syspath_prepend(self.folder)
        # Python takes an edit within one second that keeps the size for none.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(self, **files: str) -> None:
        """Write `NAME.py` for each name given."""
        for name, text in files.items():
            path = self.folder / f"{name}.py"
            path.write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text, which must be there, in a file."""
        path = self.folder / f"{name}.py"
        text = path.read_text()
        assert text.count(old) == 1, (text, old)
        path.write_text(text.replace(old, new))

    def forget(self) -> None:
        """Take the project's modules out of memory, as a new process has none of them."""
        for path in self.folder.rglob("*.py"):
            name = path.relative_to(self.folder).with_suffix("").as_posix().replace("/", ".")
            name = name.removesuffix(".__init__")
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    def run(self, task: str = "task()", **options: Any) -> tuple[Any, int]:
        """Make a task by an expression in `tasks.py` as it is now, and run it.

        Returns:
            The answer, and how many tasks ran.
        """
        self.forget()
        module = importlib.import_module("tasks")
        with Cache(self.cache):
            made = eval(task, vars(module))
            answer, stats = made.run_graph(**{"executor": "serial", **options})
        return answer, sum(stats["stats"].values())
