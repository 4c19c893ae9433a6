"""What these tests measure, collected and printed as one table at the end.

Decides how figures of several tests are put together; knows nothing of what they mean. With
TASKPROC_FIGURES=FILE the table is also written there as JSON, and with TASKPROC_FAULTS=all the
tests have the size for one night.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_TABLE = pytest.StashKey["Figures"]()

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
            yield f"{name:<{width}}  {_shown(value)} {unit}".rstrip()


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """`figures.add("bit flips tried", 4711)` puts a row into the table at the end."""
    return pytestconfig.stash[_TABLE]


@pytest.fixture(scope="session")
def thorough() -> bool:
    """Whether all is to be tried, whatever it takes: TASKPROC_FAULTS=all."""
    return os.environ.get("TASKPROC_FAULTS") == "all"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = Figures()


def pytest_sessionfinish(session: pytest.Session) -> None:
    rows = session.config.stash[_TABLE].rows
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # a process of pytest-xdist, whose words come through its controller
        output["figures"] = json.dumps(rows)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash[_TABLE].merge(json.loads(getattr(node, "workeroutput", {}).get("figures", "{}")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[_TABLE]
    if not table.rows:
        return
    terminalreporter.section(f"figures, Python {platform.python_version()} on {sys.platform}")
    for line in table.lines():
        terminalreporter.write_line(line)
    if file := os.environ.get("TASKPROC_FIGURES"):
        rows = [{"name": name, "value": value, "unit": unit} for name, (_, value, unit) in table.rows.items()]
        Path(file).write_text(json.dumps({"python": platform.python_version(), "figures": rows}, indent=1))
