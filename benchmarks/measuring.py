"""Run a command in a fresh process and tell what it cost.

Knows nothing of what is measured.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Cost(NamedTuple):
    """What a process cost with all its children, in CPU seconds, and what it printed."""

    cpu: float
    output: str


def cost_of(argv: Sequence[str]) -> Cost:
    """Run a command of Python's (the words after `python`) and wait for it and its children.

    Raises:
        RuntimeError: it did not exit with 0; the message holds what it wrote.
    """
    with tempfile.TemporaryFile("w+") as output:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else what is measured is the compiler
        process = subprocess.Popen([sys.executable, *argv], stdout=output, stderr=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(argv)} exited with {process.returncode}:\n{text}")
    return Cost(usage.ru_utime + usage.ru_stime, text)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, in memory where the system offers it, deleted at the end."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="taskproc-benchmark-", dir=memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def median_ratio(values: Sequence[float], bases: Sequence[float]) -> float:
    """The median of the ratios of what was measured side by side."""
    return statistics.median(value / base for value, base in zip(values, bases, strict=True))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]))
