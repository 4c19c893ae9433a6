"""An open Cache that knows the plugin, and the key of a value in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import taskproc_dataframes

from taskproc import Cache, Task

# The fixtures make nothing that an example could change for the next one.
hypothesis.settings.register_profile(
    "dataframes",
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("dataframes")


class Holds(Task):
    """A task that holds a value, and has it for its result."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def run_task(self) -> Any:
        return self.value


@pytest.fixture
def holds(tmp_path: Path) -> Iterator[Callable[[Any], Holds]]:
    """`holds(value)` is a task with this argument."""
    with Cache(tmp_path / "cache", plugins=[taskproc_dataframes]):
        yield Holds


@pytest.fixture
def key(holds: Callable[[Any], Holds]) -> Callable[[Any], int]:
    """`key(value)` is what tells the task from others."""
    return lambda value: holds(value).task_id
