"""What `taskproc cache prune` removes, and how it is told. Decides nothing of what goes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskproc.cli.figures import columns, size_for_people

if TYPE_CHECKING:
    from taskproc.core.pruning import Choice
    from taskproc.core.records import StoredEntry, TaskKey


@dataclass
class Pruning:
    """What is to go: results by entry, remains and traces of failures by key and bytes."""

    choice: Choice | None = None
    damaged: dict[TaskKey, int] = field(default_factory=dict["TaskKey", int])
    failures: dict[TaskKey, int] = field(default_factory=dict["TaskKey", int])

    @property
    def removed(self) -> Sequence[StoredEntry]:
        return self.choice.removed if self.choice is not None else ()

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.removed) + sum(
            (*self.damaged.values(), *self.failures.values())
        )

    def by_name(self) -> dict[str, dict[str, int]]:
        """How many results, remains and failures, and how many bytes, of each task name."""
        rows: dict[str, dict[str, int]] = {}
        parts: list[tuple[str, Iterable[tuple[TaskKey, int]]]] = [
            ("results", [(entry.key, entry.size) for entry in self.removed]),
            ("damaged", self.damaged.items()),
            ("failures", self.failures.items()),
        ]
        for kind, items in parts:
            for key, size in items:
                row = rows.setdefault(key.name, {"results": 0, "damaged": 0, "failures": 0, "bytes": 0})
                row[kind] += 1
                row["bytes"] += size
        return dict(sorted(rows.items()))


def told(plan: Pruning) -> str:
    """What goes, in a few words."""
    parts = [
        (len(plan.removed), "result", "results"),
        (len(plan.damaged), "damaged result", "damaged results"),
        (len(plan.failures), "failure", "failures"),
    ]
    words = [f"{count:,} {one if count == 1 else many}" for count, one, many in parts if count]
    return f"{', '.join(words) or 'nothing'} ({size_for_people(plan.bytes)})"


def as_lines(plan: Pruning, busy: Collection[TaskKey], dry_run: bool, verbose: bool) -> list[str]:
    """What goes, what is left, and what that means, for people; `busy` is what a run holds."""
    lines = [f"{entry.key}: {size_for_people(entry.size)}" for entry in plan.removed] if verbose else []
    rows = [
        (
            name,
            *[f"{row[kind]:,}" for kind in ("results", "damaged", "failures")],
            size_for_people(row["bytes"]),
        )
        for name, row in plan.by_name().items()
    ]
    if rows:
        lines += columns([("TASK", "RESULTS", "DAMAGED", "FAILURES", "SIZE"), *rows], right=range(1, 5))
    choice = plan.choice
    stays = f"; {_results(choice.stays)} ({size_for_people(choice.stays_bytes)}) left" if choice else ""
    lines.append(f"{told(plan)} {'would be' if dry_run else 'were'} removed{stays}")
    if choice is not None and choice.resting:
        verb = "rests" if choice.resting == 1 else "rest"
        lines.append(
            f"  {_results(choice.resting)} of those left {verb} on what goes: a run that asks for"
            " such a one computes it anew"
        )
    if choice is not None and choice.over:
        lines.append(
            f"  {size_for_people(choice.over)} too many are left: they meet no other criterion, or results"
            " that stay rest on them"
        )
    if busy:
        verb = "was" if len(busy) == 1 else "were"
        lines.append(f"  {_results(len(busy))} {verb} left alone: a run is, or was just now, at work there")
    return lines


def _results(count: int) -> str:
    return f"{count:,} {'result' if count == 1 else 'results'}"


def as_object(plan: Pruning, busy: Collection[TaskKey], dry_run: bool) -> dict[str, Any]:
    """The same as one JSON object."""
    choice = plan.choice
    return {
        "dry_run": dry_run,
        "tasks": plan.by_name(),
        "removed": [str(entry.key) for entry in plan.removed],
        "bytes": plan.bytes,
        "stays": choice.stays if choice is not None else None,
        "stays_bytes": choice.stays_bytes if choice is not None else None,
        "resting": choice.resting if choice is not None else 0,
        "over": choice.over if choice is not None else 0,
        "busy": [str(key) for key in sorted(busy)],
    }
