"""A project of a few small files whose code is read, edited and read again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from taskproc.engine.reachable_code import CodeReader
from taskproc.engine.reachable_code.description import CodeDescription


class CodeProject:
    """A project in a folder, whose modules are imported anew at every look.

    Args:
        folder: where its files go; it is on the import path.
        files: the texts of the files, by their paths in the folder.
    """

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        self.files = dict(files)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text, which must be there, the first time that it stands in a file."""
        assert old in self.files[file], f"{old!r} is not in {file}"
        self.files[file] = self.files[file].replace(old, new, 1)

    def module(self, name: str = "tasks") -> Any:
        """A module as its file is now."""
        self.forget()
        for file, text in self.files.items():
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def forget(self) -> None:
        """Take the modules out of memory, as a new process has none of them."""
        tops = {Path(file).parts[0].removesuffix(".py") for file in self.files}
        for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
            del sys.modules[name]

    def fingerprint(self, name: str = "Main") -> str:
        return CodeReader().fingerprint(getattr(self.module(), name))

    def parts(self, name: str = "Main") -> dict[str, str]:
        return CodeReader().parts(getattr(self.module(), name))

    def describe(self, name: str = "Main") -> CodeDescription:
        return CodeReader().describe(getattr(self.module(), name))
