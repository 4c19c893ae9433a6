"""A whole plugin: a launcher that runs each job with a lower priority.

pip install ./examples/my_plugin
taskproc run pipeline.py -o .cache --launcher heavy=nice:niceness=15
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from taskproc.hookspecs import hookimpl
from taskproc.interfaces import Job, Launcher


@dataclass(frozen=True, kw_only=True)
class NiceLauncher(Launcher):
    """Run each job behind `nice`.

    Attributes:
        niceness: how much lower the priority is, from 0 to 19.
    """

    name: ClassVar[str] = "nice"

    niceness: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.niceness <= 19:
            raise ValueError(f"niceness is {self.niceness}; it must be from 0 to 19")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("nice",)

    def command(self, argv: Sequence[str], job: Job) -> list[str]:
        return ["nice", "-n", str(self.niceness), *argv]


@hookimpl
def taskproc_register_launchers() -> list[type[Launcher]]:
    return [NiceLauncher]
