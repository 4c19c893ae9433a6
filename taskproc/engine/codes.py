"""The code of the tasks of one Cache: its fingerprints, and what is kept of it for people.

Decides which functions and classes join a task's own code (those among its arguments), and
when a description of the code is kept beside the results it made. What code reaches is for
`reachable_code`, what is stale for freshness.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import FunctionType
from typing import TYPE_CHECKING

from taskproc.core.arguments import canonical
from taskproc.core.arguments.names import named_code
from taskproc.core.fingerprint import read_fingerprint, same_code
from taskproc.core.records import JSON, CodeMode, Record
from taskproc.core.task import Task
from taskproc.engine.code_checks import Check, make_checks
from taskproc.engine.reachable_code import CodeReader
from taskproc.engine.task_classes import task_classes
from taskproc.interfaces import CacheBackend

if TYPE_CHECKING:
    from taskproc.engine.reachable_code.description import CodeDescription


class Look:
    """The fingerprints of tasks as of one look at the code, each worked out once."""

    def __init__(self, reader: CodeReader) -> None:
        self.reader = reader
        self._with_names: dict[tuple[type, tuple[str, ...]], str] = {}

    def of(self, cls: type[Task], names: tuple[str, ...]) -> str:
        """The fingerprint of a class, and of the functions and classes it depends on besides."""
        if not names:
            return self.reader.fingerprint(cls)
        code = self._with_names.get((cls, names))
        if code is None:
            code = self._with_names[cls, names] = self.reader.fingerprint_with(cls, names)
        return code


class Codes:
    """The fingerprints of tasks as of the last call of `refresh`, and what is kept of the code.

    Other threads may call that at any time: what is to last longer goes by the look it gave.
    """

    def __init__(self, backend: CacheBackend) -> None:
        self._backend = backend
        self._look = Look(CodeReader())
        self._kept: set[str] = set()

    @property
    def _reader(self) -> CodeReader:
        return self._look.reader

    @property
    def scheme(self) -> int:
        """Numbers how the fingerprints are made."""
        return self._reader.scheme

    def refresh(self) -> Look:
        """See what has changed in memory and in files since."""
        look = self._look = Look(self._reader.refreshed())
        return look

    def encode_function(self, function: FunctionType) -> JSON:
        """The JSON form of a function without a name as an argument."""
        return self._reader.encode_function(function)

    def of_made_class(self, cls: type) -> str:
        """A digest of the code of a class that a function made, to tell it from the next one."""
        return self._reader.class_code(cls)

    def of(self, cls: type[Task], names: tuple[str, ...]) -> str:
        """The fingerprint of a class, and of the functions and classes it depends on besides."""
        return self._look.of(cls, names)

    def of_record(self, record: Record) -> str | None:
        """The same for the task that a record is of: the record's own text where it is still its code.

        None if no class of that name is loaded.
        """
        cls = task_classes().get(record.key.name)
        if cls is None:
            return None
        code = self.of(cls, names_in(record))
        is_same = record.code_scheme == self.scheme and same_code(record.code, code, cls.task_code or "deep")
        return record.code if is_same else code

    def packages(self, cls: type[Task]) -> dict[str, str]:
        """The installed distributions that the code of a class names, with their versions."""
        return self._reader.packages(cls)

    def checks(self, cls: type[Task], names: Collection[str]) -> list[Check]:
        """What a worker has to find under the names that the code of a class, and these, reach."""
        return make_checks(cls, self._reader.reached(cls, names))

    def keep(self, cls: type[Task], names: tuple[str, ...], code: str) -> None:
        """Keep a description of the code beside the results, once for each fingerprint."""
        if code in self._kept:  # asked for every job
            return
        parts = read_fingerprint(code)
        look = self._look
        # Another thread may have looked since: then this is no description of that code.
        if parts is None or look.of(cls, names) != code:
            return
        self._kept.add(code)
        description = look.reader.describe(cls, names)
        for digest, text in description.files().items():
            if digest not in self._kept:
                self._kept.add(digest)
                self._backend.keep_code(digest, text)
        # Last, so that what it refers to is there.
        self._backend.keep_code(parts.deep, description.to_bytes())

    def changes(
        self,
        cls: type[Task],
        record: Record,
        mode: CodeMode = "deep",
        names: tuple[str, ...] | None = None,
    ) -> Iterator[str]:
        """What differs between the code that made a stored result and that of today, in paragraphs.

        `names` are the functions and classes on which the task depends today beside its class;
        None: those on which it did.
        """
        from taskproc.engine.reachable_code.differences import differences  # for people alone

        before = self.kept(record.code)
        if before is None:
            yield "what the code was is not kept in this cache, so the edit can't be shown"
            return
        after = self._reader.describe(cls, names_in(record) if names is None else names)
        files = after.files()
        changes = differences(
            before, after, lambda digest: files.get(digest) or self._backend.kept_code(digest), mode
        )
        for change in changes:
            yield change.diff.rstrip("\n") or f"{change.name} ({change.file}) {change.kind}"
        if not changes:
            yield "the code reaches other things than it did"

    def kept(self, code: str) -> CodeDescription | None:
        """The description of the code with this fingerprint, if it was kept."""
        from taskproc.engine.reachable_code.description import CodeDescription

        parts = read_fingerprint(code)
        data = self._backend.kept_code(parts.deep) if parts is not None else None
        return CodeDescription.from_bytes(data) if data is not None else None


def names_in(record: Record) -> tuple[str, ...]:
    """The functions and classes on which the task of a record depends beside its class."""
    told = record.provenance.get("names")
    return tuple(told) if told is not None else named_code(canonical(dict(record.args)))
