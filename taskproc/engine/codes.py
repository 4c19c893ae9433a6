"""The code of the tasks of one Cache: its fingerprints, and what is kept of it for people.

Decides which functions and classes join a task's own code (those among its arguments), and
when a description of the code is kept beside the results it made. What code reaches is for
`reachable_code`, what is stale for freshness.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from taskproc.core.arguments import canonical
from taskproc.core.arguments.names import find_named, named_code
from taskproc.core.fingerprint import read_fingerprint
from taskproc.core.records import JSON, Record
from taskproc.core.task import Task
from taskproc.engine.reachable_code import CodeReader
from taskproc.interfaces import CacheBackend

if TYPE_CHECKING:
    from taskproc.engine.reachable_code.description import CodeDescription

class Codes:
    """The fingerprints of tasks, each worked out once between two calls of `refresh`."""

    def __init__(self, backend: CacheBackend) -> None:
        self._backend = backend
        self._reader = CodeReader()
        self._with_arguments: dict[tuple[type, tuple[str, ...]], str] = {}
        self._kept: set[str] = set()

    @property
    def scheme(self) -> int:
        """Numbers how the fingerprints are made."""
        return self._reader.scheme

    def refresh(self) -> None:
        """See what has changed in memory and in files since."""
        self._reader, self._with_arguments = self._reader.refreshed(), {}

    def encode_function(self, function: FunctionType) -> JSON:
        """The JSON form of a function without a name as an argument."""
        return self._reader.encode_function(function)

    def of_task(self, task: Task) -> str:
        """The fingerprint of a task's class, and of the functions and classes among its arguments."""
        return self._of(type(task), task._task.named_code)

    def of_record(self, cls: type[Task], record: Record) -> str:
        """The same for the task that a record is of."""
        return self._of(cls, _named_in(record))

    def packages(self, cls: type[Task]) -> dict[str, str]:
        """The installed distributions that the code of a class names, with their versions."""
        return self._reader.packages(cls)

    def keep(self, task: Task, code: str) -> None:
        """Keep a description of a task's code beside the results, once for each fingerprint."""
        if code not in self._kept and hasattr(self._reader, "describe"):  # TEMPORARY
            self._kept.add(code)
            self._keep(type(task), task._task.named_code, code)

    def keep_for_record(self, cls: type[Task], record: Record, code: str) -> None:
        """The same for the task that a record is of."""
        self._keep(cls, _named_in(record), code)

    def changes(self, cls: type[Task], record: Record) -> Iterator[str]:
        """What differs between the code that made a stored result and that of today, in paragraphs."""
        from taskproc.engine.reachable_code.description import differences  # for people alone

        before = self.kept(record.code)
        if before is None:
            yield "what the code was is not kept in this cache, so the edit can't be shown"
            return
        after = self._reader.describe(cls, _found(_named_in(record)))
        files = after.files()
        changes = differences(before, after, lambda digest: files.get(digest) or self._backend.kept_code(digest))
        for change in changes:
            yield f"{change.name} ({change.file}) {change.kind}" if not change.diff else change.diff.rstrip("\n")
        if not changes:
            yield "the code reaches other things than it did"

    def kept(self, code: str) -> CodeDescription | None:
        """The description of the code with this fingerprint, if it was kept."""
        from taskproc.engine.reachable_code.description import CodeDescription

        parts = read_fingerprint(code)
        data = self._backend.kept_code(parts.deep) if parts is not None else None
        return CodeDescription.from_bytes(data) if data is not None else None

    def _of(self, cls: type[Task], named: tuple[str, ...]) -> str:
        if not named:
            return self._reader.fingerprint(cls)
        code = self._with_arguments.get((cls, named))
        if code is None:
            code = self._reader.fingerprint_with(cls, _found(named))
            self._with_arguments[cls, named] = code
        return code

    def _keep(self, cls: type[Task], named: tuple[str, ...], code: str) -> None:
        parts = read_fingerprint(code)
        if parts is None:
            return
        description = self._reader.describe(cls, _found(named))
        for digest, text in description.files().items():
            if digest not in self._kept:
                self._kept.add(digest)
                self._backend.keep_code(digest, text)
        # Last, so that what it refers to is there.
        self._backend.keep_code(parts.deep, description.to_bytes())


def _named_in(record: Record) -> tuple[str, ...]:
    return named_code(canonical(dict(record.args)))


def _found(named: tuple[str, ...]) -> list[Any]:
    return [thing for thing in map(find_named, named) if thing is not None]
