"""InputFile: a Future that stands for a file that is there before the run.

Its path is part of the key of whatever has it as an argument, its content is a version, as
that of an upstream's result is. Reads nothing itself: the engine tells the content's digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments import Encodable, Encoder
from taskproc.core.records import JSON
from taskproc.core.task import open_scope
from taskproc.errors import ArgumentError

if TYPE_CHECKING:
    from taskproc.core.task import Task


class InputFile(Encodable):
    """A file that a task reads; `get_result()` is its path.

    A task that has it among its attributes is computed again when the content of the file is
    another one, and can't run while the file is missing. Times do not count.

    Args:
        path: the file. A relative path counts from the working directory of the run, and is
            what is in the key: so a project may be moved.

    Raises:
        ArgumentError: `path` is no path.
    """

    __slots__ = ("path",)

    def __init__(self, path: str | PurePath) -> None:
        given: Any = path
        if not isinstance(given, str | PurePath) or not str(given) or "\0" in str(given):
            raise ArgumentError(f"InputFile({path!r}): give the path of a file, as a str or a Path")
        self.path = str(path)

    def get_result(self) -> Path:
        """The absolute path of the file."""
        scope = open_scope()
        return Path(self.path) if scope is None else Path(scope.binding.folder, self.path)

    def to_json(self) -> dict[str, Any]:
        """The path as it was given."""
        return {"__input_file__": self.path}

    def get_upstreams(self) -> Iterable[Task]:
        """None: no task makes the file."""
        return ()

    def encode_with(self, encoder: Encoder) -> JSON:
        return {"__input_file__": encoder.encode(self.path)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InputFile) and other.path == self.path

    def __hash__(self) -> int:
        return hash((InputFile, self.path))

    def __repr__(self) -> str:
        return f"InputFile({self.path!r})"
