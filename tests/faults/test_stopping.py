"""Every kind of run stops in time at the first signal, and leaves no process and no file behind."""

from __future__ import annotations

from figures import Figures
from stopping import measure

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def test_every_kind_of_run_stops_in_time_and_leaves_nothing(figures: Figures) -> None:
    for stop in measure():
        figures.count("runs stopped by a signal", 1)
        figures.worst(f"seconds from a signal to the end ({stop.way})", stop.seconds, "s")
        figures.worst("seconds from a signal to the last start of a task", max(0.0, stop.latest_start), "s")
        figures.count("orphans 2 s after a signal", stop.orphans)
        figures.count("files of jobs left after a signal", stop.leftovers)
        assert stop.returncode == CODES[stop.signal], stop
        assert stop.seconds < 5, stop
        assert stop.orphans == stop.leftovers == 0, stop
