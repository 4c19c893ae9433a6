"""Decide how figures that several tests state are put together. Knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_PUT_TOGETHER: dict[str, Callable[[Any, Any], Any]] = {
    "set": lambda old, new: new,
    "count": lambda old, new: old + new,
    "worst": max,
}


class Figures:
    """Named figures. Each of its methods may be called again for a name, by any test."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, Any, str]] = {}

    def add(self, name: str, value: Any, unit: str = "") -> None:
        """State a figure; the last word counts."""
        self._put("set", name, value, unit)

    def count(self, name: str, number: float, unit: str = "") -> None:
        """Add this number to what was counted before under this name."""
        self._put("count", name, number, unit)

    def worst(self, name: str, value: float, unit: str = "") -> None:
        """Keep the largest value."""
        self._put("worst", name, value, unit)

    def _put(self, how: str, name: str, value: Any, unit: str) -> None:
        if name in self.rows:
            value = _PUT_TOGETHER[how](self.rows[name][1], value)
        self.rows[name] = (how, value, unit)

    def merge(self, rows: dict[str, Any]) -> None:
        """Add the rows of another table, of another process of this session."""
        for name, (how, value, unit) in rows.items():
            self._put(how, name, value, unit)

    def lines(self) -> Iterator[str]:
        width = max(map(len, self.rows))
        for name, (_, value, unit) in sorted(self.rows.items()):
            yield f"{name:<{width}}  {shown(value)} {unit}".rstrip()


def shown(value: Any) -> str:
    """A figure as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
