"""Say aloud what is doubtful in a run: what can't run at all, and results that count for this run only.

Decides nothing: freshness, and the records that workers write, have.
"""

from __future__ import annotations

import warnings

from taskproc.core.graph import Node
from taskproc.core.records import CHANGED_MEANWHILE, Plan, Record
from taskproc.errors import InputChangedWarning, MissingInputError, OtherCodeWarning


def refuse_blocked(plan: Plan) -> None:
    """Raise MissingInputError if a task of the graph can't run: before anything else does."""
    missing = [(key, reason) for key, reason in plan.blocked.items() if reason.kind == "input_missing"]
    if missing:
        (key, reason), *others = missing
        more = f" (and {len(others)} more tasks lack theirs)" if others else ""
        raise MissingInputError(f"{key.name} can't run: {reason.text}; correct the path{more}")


class Doubts:
    """The doubts about one run's results; of each kind and task name one is told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def raised_by(self, node: Node, record: Record) -> None:
        """Warn of what a new result rests on, if nobody can tell what that was."""
        if "other_code" in record.provenance:
            self._warn_of_other_code(record)
        for upstream in record.upstreams if node.inputs else ():
            if upstream.version == CHANGED_MEANWHILE:
                warnings.warn(
                    f"the input file {upstream.key.digest!r} changed while {node.task!r} ran; its result is "
                    "kept, and the next run computes it again",
                    InputChangedWarning,
                    stacklevel=2,
                )

    def _warn_of_other_code(self, record: Record) -> None:
        kind = ("code", record.key.name)
        if kind not in self._told:
            self._told.add(kind)
            names = ", ".join(record.provenance["other_code"])
            warnings.warn(
                f"{record.key.name} was computed by a worker that had other code than this process: {names}. "
                "Its file was edited meanwhile, or this process changed it after importing it (below the "
                "main guard, say); pass such a value as an argument. The result counts for this run only",
                OtherCodeWarning,
                stacklevel=2,
            )
