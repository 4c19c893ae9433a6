"""Remember which records are just being moved, so that a move that was broken off can be completed.

Between two steps of a move an entry stands under neither of its keys. What is noted here says
which ones that may be. Knows nothing of why they move.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from taskproc.core.records import DataFile, Record, TaskKey, UpstreamRecord
from taskproc.engine.plain_files import create_private
from taskproc.interfaces import CacheBackend

_FILE = "rename.json"


class Intents:
    """The moves that one process has in hand; in a file of the cache's scratch folder."""

    def __init__(self, backend: CacheBackend) -> None:
        self._path = backend.scratch() / _FILE

    def note(self, moves: Sequence[tuple[TaskKey, Record]]) -> None:
        """Note moves before they are made, in place of those noted before."""
        content = [[list(key), dataclasses.asdict(record)] for key, record in moves]
        part = self._path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with open(create_private(part), "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path)

    def noted(self) -> list[tuple[TaskKey, Record]]:
        """The moves that somebody noted last and did not settle."""
        try:
            content = json.loads(self._path.read_bytes())
            return [(TaskKey(*key), _record(fields)) for key, fields in content]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return []

    def settle(self) -> None:
        """All the moves are made."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _record(fields: dict[str, Any]) -> Record:
    upstreams = tuple(
        UpstreamRecord(path, TaskKey(*key), version) for path, key, version in fields["upstreams"]
    )
    data = tuple(DataFile(*file) for file in fields["data"])
    return Record(**{**fields, "key": TaskKey(*fields["key"]), "upstreams": upstreams, "data": data})
