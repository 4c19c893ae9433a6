"""Seven tasks with all that the store can keep of one: results, data files, logs, what went before.

What they compute follows from `edition()`: under another one they are stale, and the old answer is
a wrong answer.
"""

from __future__ import annotations

import os
from typing import Any

from failing_files import note

from taskproc import Task


def edition() -> str:
    return os.environ["EDITION"]


class Choose(Task):
    """The binomial coefficient by its recursion, times the edition; some print."""

    def __init__(self, n: int, k: int) -> None:
        self.n, self.k = n, k
        self.factor = int(edition())
        self.parts = [Choose(n - 1, k - 1), Choose(n - 1, k)] if 0 < k < n else []

    def run_task(self) -> int:
        note(os.environ["RAN"], name_of(self))
        if self.n > 1:
            print(f"choose({self.n}, {self.k}) in the edition {self.factor}")
        return sum(part.get_result() for part in self.parts) if self.parts else self.factor


class Table(Task):
    """Leaves data files."""

    def __init__(self) -> None:
        self.edition = edition()
        self.size = Choose(2, 1)

    def run_task(self) -> list[str]:
        note(os.environ["RAN"], name_of(self))
        (self.task_directory / "deep").mkdir()
        (self.task_directory / "deep" / "cells").write_text(f"cells {self.size.get_result()}" * 20)
        (self.task_directory / f"title {self.edition}").write_text(f"title {self.edition}")
        return sorted(path.name for path in self.task_directory.iterdir())


class Report(Task):
    """Reads results and data."""

    def __init__(self) -> None:
        self.choose, self.table = Choose(3, 1), Table()

    def run_task(self) -> list[Any]:
        note(os.environ["RAN"], name_of(self))
        print("report")
        files = {
            str(path.relative_to(self.table.task_directory)): path.read_text()
            for path in sorted(self.table.task_directory.rglob("*"))
            if path.is_file()
        }
        return [self.choose.get_result(), self.table.get_result(), files]


def tasks_below(task: Task) -> list[Task]:
    """A task and all that it rests on."""
    if isinstance(task, Report):
        ups: list[Task] = [task.choose, task.table]
    else:
        ups = [task.size] if isinstance(task, Table) else list(task.parts) if isinstance(task, Choose) else []
    return [task, *(below for up in ups for below in tasks_below(up))]


def names_without(report: Report, failed: set[str]) -> set[str]:
    """The names of those tasks that rest on none of the failed."""
    everything = tasks_below(report)
    return {name_of(task) for task in everything if failed.isdisjoint(map(name_of, tasks_below(task)))}


def name_of(task: Task) -> str:
    """How `RAN` names a task."""
    return f"{type(task).task_name} {task._task.key.digest}"


def right_answer(edition: str) -> list[Any]:
    """What `Report` has to give."""
    factor = int(edition)
    names = ["deep", f"title {edition}"]
    files = {"deep/cells": f"cells {2 * factor}" * 20, f"title {edition}": f"title {edition}"}
    return [3 * factor, names, files]
