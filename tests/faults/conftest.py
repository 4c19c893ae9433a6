"""What these tests measure, collected over all processes of a session and printed at the end.

With TASKPROC_FIGURES=FILE the table is also written there as JSON, and with TASKPROC_FAULTS=all
the tests have the size for one night. Knows nothing of what the figures mean.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from figures import Figures

_TABLE = pytest.StashKey[Figures]()


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
