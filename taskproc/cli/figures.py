"""Say sizes and moments as people do, and set words in columns."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskproc.cli.times import for_people

_DAY = 86400.0


def size_for_people(size: int) -> str:
    """A number of bytes: "0 B", "1.2 kB", "340.0 MB"."""
    if size < 1000:
        return f"{size} B"
    number, units = size / 1000, ["TB", "GB", "MB", "kB"]
    while number >= 999.95 and len(units) > 1:
        number /= 1000
        units.pop()
    return f"{number:.1f} {units[-1]}"


def moment_for_people(when: float, now: float) -> str:
    """A Unix time: "just now", "1.2 s ago", "3 min ago", from a day on "2026-01-31 12:00" (local time)."""
    ago = now - when
    if ago < 1:  # or the clock of another host is ahead
        return "just now"
    if ago < _DAY:
        return f"{for_people(ago)} ago"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of equal columns, two blanks between; those of the numbers in `right` end flush."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(_set(row, widths, right)).rstrip() for row in rows]


def _set(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if number in right else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
