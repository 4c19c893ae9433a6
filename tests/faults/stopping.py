"""How long runs take to stop, and what is left of them: `measure()` gives the figures.

By itself (`python tests/faults/stopping.py`) it prints them.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "library"))

from stopped_runs import WAYS, Site, alive, stopping_site  # pyright: ignore[reportMissingImports]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(NamedTuple):
    """One run of the command that got a signal.

    Attributes:
        way: how its tasks ran: "process", "thread", "serial" or "prefix".
        seconds: from the signal to the end of the command.
        latest_start: from the signal to the last start of a task; below 0 if none came after it.
        orphans: processes that were there two seconds later.
        leftovers: files left of jobs in flight.
    """

    way: str
    signal: str
    returncode: int
    seconds: float
    latest_start: float
    orphans: int
    leftovers: int


def measure() -> Iterator[Stop]:
    """Stop a run of each kind by each signal, with two tasks under way and nine to come."""
    for way in WAYS:
        for number in SIGNALS:
            with tempfile.TemporaryDirectory() as folder, stopping_site(Path(folder) / "a place") as site:
                yield _stop(site, way, number)


def _stop(site: Site, way: str, number: signal.Signals) -> Stop:
    if way in ("process", "prefix"):  # where what a task starts has to end with it
        site.environment["CHILD"] = "1"
    runner = site.command(way)
    site.until_held(1 if way == "serial" else 2)
    done = site.stop(runner, number)
    orphans = len(alive(done.pids()))
    return Stop(
        way, number.name, done.returncode, done.seconds, done.latest_start, orphans, len(site.scratch())
    )


if __name__ == "__main__":
    print("executor  signal   code  seconds to the end  last start after  orphans  files left")
    for stop in measure():
        print(
            f"{stop.way:<8}  {stop.signal:<7}  {stop.returncode:>4}  {stop.seconds:>18.2f}  "
            f"{stop.latest_start:>16.2f}  {stop.orphans:>7}  {stop.leftovers:>10}"
        )
